// SPDX-License-Identifier: GPL-2.0-only

//! The Internet checksum of any bytes, whole and in two parts. The first byte says where to part them.

use super::reader::Reader;
use crate::inner;
use crate::proto::headers::{fold, sum};

pub(crate) fn check(input: &[u8]) {
    let mut input = Reader::new(input);
    let place = usize::from(input.u8());
    let bytes = input.rest();
    let expected = inner::checksum(&[bytes]);
    let checksum = |sum| u16::from_be_bytes((!fold(sum)).to_ne_bytes());

    assert_eq!(checksum(sum(bytes)), expected, "of the whole");
    // Only where a word ends can the sums be added.
    let (one, other) = bytes.split_at(place.min(bytes.len()) / 2 * 2);
    let parts = sum(one) + sum(other);
    assert_eq!(
        checksum(parts),
        expected,
        "of parts of {} and {}",
        one.len(),
        other.len()
    );
    // However it is folded, a sum is what it is modulo 65535.
    let many = parts.wrapping_mul(0x1_0001_0001);
    assert_eq!(
        u64::from(fold(many)) % 0xffff,
        many % 0xffff,
        "{many:#x} folded"
    );
    assert_eq!(fold(many) == 0, many == 0, "{many:#x} folded to zero");
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    vec![
        vec![],
        vec![0; 9],
        vec![3; 42],
        [&[20][..], &[0xff; 43]].concat(),
        [&[8], &inner::payload(63)[..]].concat(),
    ]
}
