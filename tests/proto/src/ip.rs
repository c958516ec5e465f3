// SPDX-License-Identifier: GPL-2.0-only

use crate::proto::ip::{addresses, version, Addresses, IpVersion, PEEK_LEN};
use proptest::prelude::*;

/// An ICMP echo request from 192.0.2.1 to 198.51.100.2, header only.
const V4: [u8; 20] = [
    0x45, 0x00, 0x00, 0x54, 0x12, 0x34, 0x40, 0x00, 0x40, 0x01, 0x3b, 0xc7, 192, 0, 2, 1, 198, 51,
    100, 2,
];

/// An ICMPv6 packet from 2001:db8::1 to 2001:db8:1::2, header only.
const V6: [u8; 40] = [
    0x60, 0x00, 0x00, 0x00, 0x00, 0x40, 0x3a, 0x40, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 1, 0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
];

#[test]
fn v4_addresses_are_found() {
    let expected = Some(Addresses::V4 {
        source: [192, 0, 2, 1],
        destination: [198, 51, 100, 2],
    });

    assert_eq!(version(&V4), Some(IpVersion::V4));
    assert_eq!(addresses(&V4), expected);
    assert_eq!(addresses(&[&V4[..], &[0xee; 64]].concat()), expected);
}

#[test]
fn v6_addresses_are_found() {
    let expected = Some(Addresses::V6 {
        source: [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        destination: [0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
    });

    assert_eq!(PEEK_LEN, 40);
    assert_eq!(version(&V6), Some(IpVersion::V6));
    assert_eq!(addresses(&V6), expected);
    assert_eq!(addresses(&[&V6[..], &[0xee; 64]].concat()), expected);
}

#[test]
fn a_broken_off_header_is_no_packet() {
    for len in 0..V4.len() {
        assert_eq!(version(&V4[..len]), None);
        assert_eq!(addresses(&V4[..len]), None);
    }
    for len in 0..V6.len() {
        assert_eq!(version(&V6[..len]), None);
        assert_eq!(addresses(&V6[..len]), None);
    }
}

#[test]
fn other_versions_are_no_packet() {
    for first in 0..=u8::MAX {
        let packet = [first; 64];

        let expected = match first >> 4 {
            4 => Some(IpVersion::V4),
            6 => Some(IpVersion::V6),
            _ => None,
        };
        assert_eq!(version(&packet), expected);
        assert_eq!(addresses(&packet).is_some(), expected.is_some());
    }
}

proptest! {
    #![proptest_config(crate::cases(500))]

    #[test]
    fn any_bytes_have_addresses_if_a_version(
        first in prop_oneof![any::<u8>(), 0x40..=0x4fu8, 0x60..=0x6fu8],
        rest in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let packet = [&[first], &rest[..]].concat();

        for len in 0..=packet.len() {
            let packet = &packet[..len];
            // What a peek sees of a packet is what the whole packet would say.
            prop_assert_eq!(version(&packet[..len.min(PEEK_LEN)]), version(packet));

            match (version(packet), addresses(packet)) {
                (None, None) => {}
                (Some(IpVersion::V4), Some(Addresses::V4 { source, destination })) => {
                    prop_assert_eq!(&packet[12..16], &source);
                    prop_assert_eq!(&packet[16..20], &destination);
                }
                (Some(IpVersion::V6), Some(Addresses::V6 { source, destination })) => {
                    prop_assert_eq!(&packet[8..24], &source);
                    prop_assert_eq!(&packet[24..40], &destination);
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
