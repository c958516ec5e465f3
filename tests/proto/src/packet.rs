// SPDX-License-Identifier: GPL-2.0-only

use crate::proto::packet::{
    parse, DataHeader, KeyId, Malformed, Packet, PeerId, HEADER_LEN, KEY_ID_MAX, OVERHEAD,
    PEER_ID_MAX, PEER_ID_UNDEFINED, TAG_LEN,
};
use proptest::prelude::*;

fn header(key_id: u8, peer_id: u32, packet_id: u32) -> DataHeader {
    DataHeader {
        key_id: KeyId::new(key_id).unwrap(),
        peer_id: PeerId::new(peer_id).unwrap(),
        packet_id,
    }
}

#[test]
fn sizes_are_those_of_the_wire() {
    assert_eq!(HEADER_LEN, 8);
    assert_eq!(TAG_LEN, 16);
    assert_eq!(OVERHEAD, 24);
}

#[test]
fn ids_are_limited_to_their_bits() {
    assert_eq!(KEY_ID_MAX, 7);
    assert!(KeyId::new(0).is_some());
    assert!(KeyId::new(KEY_ID_MAX).is_some());
    assert_eq!(KeyId::new(8), None);
    assert_eq!(KeyId::new(u8::MAX), None);

    assert_eq!(PEER_ID_MAX, 0xff_ffff);
    assert_eq!(PEER_ID_UNDEFINED.get(), 0xff_ffff);
    assert_eq!(PeerId::new(0).map(PeerId::get), Some(0));
    assert_eq!(PeerId::new(0xff_ffff), Some(PEER_ID_UNDEFINED));
    assert_eq!(PeerId::new(0x100_0000), None);
    assert_eq!(PeerId::new(u32::MAX), None);
}

#[test]
fn header_bytes_are_known() {
    let known = [
        (header(0, 0, 1), [0x48, 0, 0, 0, 0, 0, 0, 1]),
        (
            header(5, 0x0a0b0c, 0x0102_0304),
            [0x4d, 0x0a, 0x0b, 0x0c, 1, 2, 3, 4],
        ),
        (header(7, 0xff_ffff, u32::MAX), {
            [0x4f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]
        }),
    ];

    for (header, bytes) in known {
        assert_eq!(header.encode(), bytes);
        assert_eq!(DataHeader::from_bytes(&bytes), Some(header));
        assert_eq!(parse(&bytes), Ok(Packet::Data(header)));
    }
}

#[test]
fn what_follows_the_header_is_of_no_concern() {
    let mut payload = header(3, 77, 9).encode().to_vec();
    payload.extend([0xee; 1500]);

    assert_eq!(parse(&payload), Ok(Packet::Data(header(3, 77, 9))));
}

#[test]
fn a_broken_off_header_is_malformed() {
    let bytes = header(7, 0xff_ffff, u32::MAX).encode();

    for len in 1..HEADER_LEN {
        assert_eq!(parse(&bytes[..len]), Err(Malformed), "{len} bytes");
    }
}

#[test]
fn every_other_opcode_is_control_at_any_length() {
    assert_eq!(parse(&[]), Ok(Packet::Control));

    for first in 0..=u8::MAX {
        if first >> 3 == 9 {
            continue;
        }
        let payload = [first; HEADER_LEN + 1];

        for len in 1..=payload.len() {
            assert_eq!(parse(&payload[..len]), Ok(Packet::Control), "{first:#x}");
        }
        assert_eq!(DataHeader::from_bytes(&[first; HEADER_LEN]), None);
    }
}

proptest! {
    #![proptest_config(crate::cases(1000))]

    #[test]
    fn header_survives_the_round_trip(
        key_id in 0..=KEY_ID_MAX,
        peer_id in 0..=PEER_ID_MAX,
        packet_id: u32,
    ) {
        let header = header(key_id, peer_id, packet_id);

        prop_assert_eq!(DataHeader::from_bytes(&header.encode()), Some(header));
    }

    #[test]
    fn bytes_survive_the_round_trip(mut bytes: [u8; HEADER_LEN]) {
        bytes[0] = 9 << 3 | bytes[0] & 7;

        prop_assert_eq!(DataHeader::from_bytes(&bytes).unwrap().encode(), bytes);
    }

    #[test]
    fn any_bytes_are_one_of_the_three(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        for len in 0..=bytes.len() {
            let payload = &bytes[..len];
            let is_data = len > 0 && payload[0] >> 3 == 9;

            match parse(payload) {
                Ok(Packet::Data(_)) => prop_assert!(is_data && len >= HEADER_LEN),
                Err(Malformed) => prop_assert!(is_data && len < HEADER_LEN),
                Ok(Packet::Control) => prop_assert!(!is_data),
            }
        }
    }

    #[test]
    fn data_opcode_is_found_with_any_rest(
        key_id in 0..=KEY_ID_MAX,
        rest in prop::collection::vec(any::<u8>(), HEADER_LEN - 1..40),
    ) {
        let mut payload = vec![9 << 3 | key_id];
        payload.extend(&rest);

        match parse(&payload) {
            Ok(Packet::Data(header)) => {
                prop_assert_eq!(Some(header.key_id), KeyId::new(key_id));
                prop_assert_eq!(&header.encode()[..], &payload[..HEADER_LEN]);
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }
}
