// SPDX-License-Identifier: GPL-2.0-only

use crate::proto::nonce::{nonce, NonceTail, NONCE_LEN, NONCE_TAIL_LEN};
use proptest::prelude::*;

#[test]
fn nonce_bytes_are_known() {
    let tail = NonceTail::new([0xa1, 0xb2, 0xc3, 0xd4, 0xe5, 0xf6, 0x07, 0x18]);

    assert_eq!(NONCE_TAIL_LEN, 8);
    assert_eq!(NONCE_LEN, 12);
    assert_eq!(
        nonce(0x0102_0304, &tail),
        [0x01, 0x02, 0x03, 0x04, 0xa1, 0xb2, 0xc3, 0xd4, 0xe5, 0xf6, 0x07, 0x18]
    );
}

proptest! {
    #![proptest_config(crate::cases(200))]

    #[test]
    fn nonce_is_packet_id_then_tail(packet_id: u32, tail: [u8; NONCE_TAIL_LEN]) {
        let nonce = nonce(packet_id, &NonceTail::new(tail));

        prop_assert_eq!(&nonce[..4], &packet_id.to_be_bytes());
        prop_assert_eq!(&nonce[4..], &tail);
    }

    #[test]
    fn each_bit_of_the_packet_id_changes_the_nonce(
        packet_id: u32,
        bit in 0..u32::BITS,
        tail: [u8; NONCE_TAIL_LEN],
    ) {
        let tail = NonceTail::new(tail);

        prop_assert_ne!(nonce(packet_id, &tail), nonce(packet_id ^ 1 << bit, &tail));
    }
}
