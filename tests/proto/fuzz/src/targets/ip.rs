// SPDX-License-Identifier: GPL-2.0-only

//! What an opened packet is, and where from and where to: the input is the packet.

use crate::inner::Inner as Packet;
use crate::proto::ip::{addresses, version, Addresses, IpVersion, PEEK_LEN};
use crate::proto::message::{classify, Inner};

/// OpenVPN's `ping_string`.
const PING: &[u8] = b"\x2a\x18\x7b\xf3\x64\x1e\xb4\xcb\x07\xed\x2d\x0a\x98\x1f\xc7\x48";

/// OpenVPN's `occ_magic` and `OCC_EXIT`.
const EXIT: &[u8] = b"\x28\x7f\x34\x6b\xd4\xef\x7a\x81\x2d\x56\xb8\xd3\xaf\xc5\x45\x9c\x06";

pub(crate) fn check(packet: &[u8]) {
    let (expected_version, expected_addresses) = match packet {
        [0x40..=0x4f, ..] if packet.len() >= 20 => (
            Some(IpVersion::V4),
            Some(Addresses::V4 {
                source: packet[12..16].try_into().unwrap(),
                destination: packet[16..20].try_into().unwrap(),
            }),
        ),
        [0x60..=0x6f, ..] if packet.len() >= 40 => (
            Some(IpVersion::V6),
            Some(Addresses::V6 {
                source: packet[8..24].try_into().unwrap(),
                destination: packet[24..40].try_into().unwrap(),
            }),
        ),
        _ => (None, None),
    };
    let expected = match expected_version {
        Some(version) => Inner::Ip(version),
        None if packet == PING => Inner::Keepalive,
        None if packet == EXIT => Inner::Exit,
        None => Inner::Unknown,
    };

    // What a peek sees is what the whole packet says.
    for seen in [packet, &packet[..packet.len().min(PEEK_LEN)]] {
        assert_eq!(version(seen), expected_version, "version");
        assert_eq!(addresses(seen), expected_addresses, "addresses");
        assert_eq!(classify(seen), expected, "kind");
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let v4 = Packet::tcp_v4().packet(b"payload");
    let v6 = Packet::tcp_v6().packet(b"payload");

    vec![
        v4[..19].to_vec(),
        v4[..20].to_vec(),
        v4,
        v6[..39].to_vec(),
        v6[..40].to_vec(),
        v6,
        PING.to_vec(),
        [PING, &[0]].concat(),
        EXIT.to_vec(),
        EXIT[..16].to_vec(),
    ]
}
