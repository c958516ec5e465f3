// SPDX-License-Identifier: GPL-2.0-only

use crate::inner;
use crate::proto::headers::{fold, sum};
use proptest::prelude::*;

#[test]
fn the_example_of_rfc_1071_is_right() {
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];

    assert_eq!(fold(sum(&bytes)).to_ne_bytes(), [0xdd, 0xf2]);
}

#[test]
fn nothing_but_zero_folds_to_zero() {
    assert_eq!(fold(0), 0);
    for sum in [
        0xffff,
        0xffff_ffff,
        0xffff_ffff_0000,
        u64::MAX,
        u64::MAX - 0xffff,
    ] {
        assert_eq!(fold(sum), 0xffff, "{sum:#x}");
    }
}

proptest! {
    #![proptest_config(crate::cases(500))]

    #[test]
    fn sum_is_that_of_the_slow_way(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let checksum = u16::from_be_bytes((!fold(sum(&bytes))).to_ne_bytes());

        prop_assert_eq!(checksum, inner::checksum(&[&bytes]));
    }

    #[test]
    fn folding_keeps_the_rest_of_the_division(sum: u64) {
        prop_assert_eq!(u64::from(fold(sum)) % 0xffff, sum % 0xffff);
    }
}
