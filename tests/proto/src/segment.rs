// SPDX-License-Identifier: GPL-2.0-only

use crate::inner;
use crate::inner::{flag, payload, Inner};
use crate::proto::segment::{Segment, Segmenter, Transport, MAX_HEADERS};

/// The sum over a payload as the kernel has it.
fn payload_sum(payload: &[u8]) -> u32 {
    let mut sum = 0u64;
    for word in payload.chunks(2) {
        sum += u64::from(u16::from_ne_bytes([
            word[0],
            word.get(1).copied().unwrap_or(0),
        ]));
    }
    while sum > u64::from(u32::MAX) {
        sum = (sum & 0xffff_ffff) + (sum >> 32);
    }
    sum as u32
}

fn transport(inner: &Inner) -> Transport {
    match inner.transport {
        inner::Transport::Tcp { .. } => Transport::Tcp,
        inner::Transport::Udp => Transport::Udp,
    }
}

/// Cuts a packet with the code under test.
fn cut(inner: &Inner, payload: &[u8], mss: usize, fixed_id: bool) -> Vec<Vec<u8>> {
    let whole = inner.packet(payload);
    let header_len = inner.header_len();
    let segmenter = Segmenter::new(&whole[..header_len], transport(inner), fixed_id).unwrap();
    assert_eq!(segmenter.header_len(), header_len);

    let count = payload.len().div_ceil(mss);
    payload
        .chunks(mss)
        .enumerate()
        .map(|(index, payload)| {
            let mut packet = vec![0xee; header_len + payload.len()];
            packet[header_len..].copy_from_slice(payload);
            let segment = Segment {
                index: index as u32,
                offset: (index * mss) as u32,
                payload_len: payload.len() as u16,
                payload_sum: payload_sum(payload),
                last: index + 1 == count,
            };
            assert!(segmenter.write(&segment, &mut packet));
            packet
        })
        .collect()
}

#[test]
fn a_stream_is_cut_like_the_stack_does() {
    let flags = flag::ACK | flag::PSH | flag::FIN | flag::ECE | flag::CWR;

    assert_eq!(MAX_HEADERS, 120);
    for inner in [Inner::tcp_v4(), Inner::tcp_v6()] {
        let inner = inner.with_flags(flags);
        let payload = payload(10_001);
        for fixed_id in [false, true] {
            assert_eq!(
                cut(&inner, &payload, 1300, fixed_id),
                inner.cut(&payload, 1300, fixed_id)
            );
        }
    }
}

#[test]
fn datagrams_are_cut_like_the_stack_does() {
    for inner in [Inner::tcp_v4(), Inner::tcp_v6()] {
        let inner = inner.udp();
        let payload = payload(10_001);
        assert_eq!(
            cut(&inner, &payload, 1300, false),
            inner.cut(&payload, 1300, false)
        );
    }
}
