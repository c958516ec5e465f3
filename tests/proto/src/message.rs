// SPDX-License-Identifier: GPL-2.0-only

use crate::proto::ip::{self, IpVersion, PEEK_LEN};
use crate::proto::message::{classify, Inner, EXIT, KEEPALIVE};
use proptest::prelude::*;

#[test]
fn message_bytes_are_known() {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();

    assert_eq!(hex(&KEEPALIVE), "2a187bf3641eb4cb07ed2d0a981fc748");
    assert_eq!(hex(&EXIT), "287f346bd4ef7a812d56b8d3afc5459c06");
}

#[test]
fn messages_are_told() {
    assert_eq!(classify(&KEEPALIVE), Inner::Keepalive);
    assert_eq!(classify(&EXIT), Inner::Exit);
}

#[test]
fn messages_are_told_by_every_byte_and_by_their_length() {
    for message in [&KEEPALIVE[..], &EXIT[..]] {
        for at in 0..message.len() {
            assert_eq!(classify(&message[..at]), Inner::Unknown);

            let mut changed = message.to_vec();
            changed[at] ^= 1;
            assert_eq!(classify(&changed), Inner::Unknown);
        }
        let longer = [message, &[0]].concat();
        assert_eq!(classify(&longer), Inner::Unknown);
        let padded = [message, &[0; PEEK_LEN]].concat();
        assert_eq!(classify(&padded[..PEEK_LEN]), Inner::Unknown);
    }
}

#[test]
fn peek_is_longer_than_any_message() {
    assert!(PEEK_LEN > KEEPALIVE.len() && PEEK_LEN > EXIT.len());
}

#[test]
fn ip_packets_are_told() {
    assert_eq!(classify(&[0x45; 20]), Inner::Ip(IpVersion::V4));
    assert_eq!(classify(&[0x60; 40]), Inner::Ip(IpVersion::V6));
    assert_eq!(classify(&[0x45; 1500]), Inner::Ip(IpVersion::V4));
    assert_eq!(classify(&[0x45; 19]), Inner::Unknown);
    assert_eq!(classify(&[0x60; 39]), Inner::Unknown);
    assert_eq!(classify(&[]), Inner::Unknown);
}

proptest! {
    #![proptest_config(crate::cases(500))]

    #[test]
    fn any_bytes_are_ip_or_unknown(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        for len in 0..=bytes.len() {
            let inner = &bytes[..len];
            let expected = ip::version(inner).map_or(Inner::Unknown, Inner::Ip);

            prop_assert_eq!(classify(inner), expected);
        }
    }
}
