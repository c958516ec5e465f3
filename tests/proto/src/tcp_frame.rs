// SPDX-License-Identifier: GPL-2.0-only

use crate::proto::tcp_frame::{frame, prefix, EmptyFrame, Frame, PREFIX_LEN};
use proptest::prelude::*;

#[test]
fn prefix_bytes_are_known() {
    assert_eq!(PREFIX_LEN, 2);
    assert_eq!(prefix(1), Some([0x00, 0x01]));
    assert_eq!(prefix(0x0102), Some([0x01, 0x02]));
    assert_eq!(prefix(0xffff), Some([0xff, 0xff]));
}

#[test]
fn a_length_that_no_frame_can_have_gets_no_prefix() {
    assert_eq!(prefix(0), None);
    assert_eq!(prefix(0x1_0000), None);
    assert_eq!(prefix(0x1_0001), None);
    assert_eq!(prefix(usize::MAX), None);
}

#[test]
fn a_frame_is_its_prefix_and_its_packet() {
    assert_eq!(frame(&[0x00, 0x01]), Ok(Frame::Total(3)));
    assert_eq!(frame(&[0x01, 0x02, 0xee]), Ok(Frame::Total(0x0104)));
    assert_eq!(frame(&[0xff, 0xff]), Ok(Frame::Total(65537)));
}

#[test]
fn half_a_prefix_tells_nothing() {
    assert_eq!(frame(&[]), Ok(Frame::NeedMore));
    for first in 0..=u8::MAX {
        assert_eq!(frame(&[first]), Ok(Frame::NeedMore));
    }
}

#[test]
fn an_empty_frame_is_an_error() {
    assert_eq!(frame(&[0, 0]), Err(EmptyFrame));
    assert_eq!(frame(&[0, 0, 1, 2]), Err(EmptyFrame));
}

proptest! {
    #![proptest_config(crate::cases(200))]

    #[test]
    fn prefix_and_frame_agree(packet_len in 0usize..70_000) {
        match prefix(packet_len) {
            Some(bytes) => {
                prop_assert_eq!(frame(&bytes), Ok(Frame::Total(PREFIX_LEN + packet_len)));
            }
            None => prop_assert!(packet_len == 0 || packet_len > 65535),
        }
    }

    /// Packets that come in pieces of any size leave the stream as they went in.
    #[test]
    fn a_stream_falls_apart_into_its_packets(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..10),
        pieces in prop::collection::vec(1usize..400, 1..20),
    ) {
        let mut stream = Vec::new();
        for packet in &packets {
            stream.extend(prefix(packet.len()).unwrap());
            stream.extend(packet);
        }

        let mut unsent = &stream[..];
        let mut buffer = Vec::new();
        let mut received = Vec::new();
        for piece in pieces.iter().cycle() {
            if unsent.is_empty() {
                break;
            }
            let (sent, rest) = unsent.split_at(unsent.len().min(*piece));
            unsent = rest;
            buffer.extend(sent);

            while let Ok(Frame::Total(total)) = frame(&buffer) {
                if buffer.len() < total {
                    break;
                }
                received.push(buffer[PREFIX_LEN..total].to_vec());
                buffer.drain(..total);
            }
        }

        prop_assert_eq!(received, packets);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn any_bytes_are_one_of_the_three(bytes in prop::collection::vec(any::<u8>(), 0..6)) {
        for len in 0..=bytes.len() {
            match frame(&bytes[..len]) {
                Ok(Frame::NeedMore) => prop_assert!(len < 2),
                Err(EmptyFrame) => prop_assert!(len >= 2 && bytes[..2] == [0, 0]),
                Ok(Frame::Total(total)) => prop_assert!((3..=65537).contains(&total)),
            }
        }
    }
}
