// SPDX-License-Identifier: GPL-2.0-only

//! The outer payload: the input is what came in a datagram.

use crate::proto::packet::{parse, DataHeader, KeyId, Malformed, Packet, PeerId};

pub(crate) fn check(payload: &[u8]) {
    let parsed = parse(payload);
    let peeked = parse(&payload[..payload.len().min(8)]);
    assert_eq!(peeked, parsed, "the header alone says something else");

    // The opcode is in the upper five bits.
    if !matches!(payload, [0x48..=0x4f, ..]) {
        assert_eq!(parsed, Ok(Packet::Control), "not a data packet");
        return;
    }
    let &[first, peer_0, peer_1, peer_2, id_0, id_1, id_2, id_3, ..] = payload else {
        assert_eq!(parsed, Err(Malformed), "cut off");
        return;
    };
    let peer_id = u32::from(peer_0) << 16 | u32::from(peer_1) << 8 | u32::from(peer_2);
    let expected = DataHeader {
        key_id: KeyId::new(first - 0x48).unwrap(),
        peer_id: PeerId::new(peer_id).unwrap(),
        packet_id: u32::from_be_bytes([id_0, id_1, id_2, id_3]),
    };
    assert_eq!(parsed, Ok(Packet::Data(expected)));
    assert_eq!(expected.encode(), payload[..8], "written again");
    assert_eq!(expected.peer_id.get(), peer_id);
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let data = [0x4d, 0x0a, 0x0b, 0x0c, 1, 2, 3, 4, 0xee, 0xee];
    // A control packet: the client's hard reset.
    let control = [0x38, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0];

    vec![
        vec![],
        data[..7].to_vec(),
        data[..8].to_vec(),
        data.to_vec(),
        control.to_vec(),
    ]
}
