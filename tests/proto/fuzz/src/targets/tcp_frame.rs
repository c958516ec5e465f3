// SPDX-License-Identifier: GPL-2.0-only

//! A TCP stream that comes in pieces. The first byte says how many sizes of pieces follow, then comes
//! the stream.

use super::reader::Reader;
use crate::proto::tcp_frame::{frame, prefix, Frame, PREFIX_LEN};

/// What a stream is made of: its packets, and what follows the last whole one.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    packets: Vec<Vec<u8>>,
    left: Vec<u8>,
    out_of_step: bool,
}

/// Of the whole stream at once.
fn expected(stream: &[u8]) -> Read {
    let (mut packets, mut at) = (Vec::new(), 0);
    let mut out_of_step = false;

    while at + 2 <= stream.len() {
        let len = usize::from(stream[at]) * 256 + usize::from(stream[at + 1]);
        out_of_step = len == 0;
        if out_of_step || at + 2 + len > stream.len() {
            break;
        }
        packets.push(stream[at + 2..at + 2 + len].to_vec());
        at += 2 + len;
    }
    Read {
        packets,
        left: stream[at..].to_vec(),
        out_of_step,
    }
}

pub(crate) fn check(input: &[u8]) {
    let mut input = Reader::new(input);
    let count = usize::from(input.u8() % 16);
    let sizes: Vec<_> = input
        .bytes(count)
        .iter()
        .map(|size| usize::from(*size) + 1)
        .collect();
    let mut sizes = sizes.iter().chain(&[usize::MAX]).cycle();
    let stream = input.rest();

    let mut coming = Reader::new(stream);
    let mut read = Read {
        packets: Vec::new(),
        left: Vec::new(),
        out_of_step: false,
    };
    while !coming.is_empty() {
        read.left.extend(coming.bytes(*sizes.next().unwrap()));
        loop {
            match frame(&read.left) {
                Ok(Frame::Total(total)) if total <= read.left.len() => {
                    let packet: Vec<_> = read.left.drain(..total).skip(PREFIX_LEN).collect();
                    let announced = stream_prefix(stream, &read.packets);
                    assert_eq!(prefix(packet.len()).as_ref(), Some(announced));
                    read.packets.push(packet);
                }
                Ok(Frame::Total(_)) => break,
                Ok(Frame::NeedMore) => {
                    assert!(
                        read.left.len() < PREFIX_LEN,
                        "{} bytes are enough",
                        read.left.len()
                    );
                    break;
                }
                Err(_) => {
                    read.out_of_step = true;
                    break;
                }
            }
        }
    }
    assert_eq!(read, expected(stream));
}

/// The prefix of the packet after `packets`.
fn stream_prefix<'a>(stream: &'a [u8], packets: &[Vec<u8>]) -> &'a [u8; PREFIX_LEN] {
    let before: usize = packets.iter().map(|packet| 2 + packet.len()).sum();
    stream[before..].first_chunk().unwrap()
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let stream = b"\0\x03abc\0\x01d\0\x10efghijklmnopqrst\0";

    vec![
        vec![0, 0, 0, 1],
        [b"\0", &stream[..]].concat(),
        [b"\x03\0\x01\x04", &stream[..]].concat(),
        [b"\x01\0", &stream[..], b"\0rest"].concat(),
        [b"\x01\xff\x01\x02", &[7; 300][..], &stream[..]].concat(),
    ]
}
