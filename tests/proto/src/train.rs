// SPDX-License-Identifier: GPL-2.0-only

//! Whole trains of packets, joined and cut again.

use crate::any::{any_ip, any_tcp};
use crate::inner::{flag, payload, payload_sum, Inner, Ip, Transport};
use crate::merge::{append, begin, finish};
use crate::proto::merge::Merge;
use crate::proto::segment::{self, Segment, Segmenter};
use proptest::prelude::*;

/// The length of the whole packet as its IP header has it.
fn said_len(packet: &[u8]) -> Option<usize> {
    let field = |at| {
        packet
            .get(at..at + 2)
            .map(|field| usize::from(field[0]) << 8 | usize::from(field[1]))
    };

    match packet.first()? >> 4 {
        4 => field(2),
        _ => field(4).map(|len| len + 40),
    }
}

proptest! {
    #![proptest_config(crate::cases(500))]

    /// What was cut is joined to what it was, and cut again to the same packets.
    #[test]
    fn any_stream_survives_the_round_trip(
        ip in any_ip(0),
        tcp in any_tcp(),
        ports: [u16; 2],
        keep_id: bool,
        mss in 1..crate::scale(1300, 30),
        full in 1..crate::scale(48, 4),
        last in 0.0..1.0f64,
    ) {
        let mut inner = Inner { ip, ports, transport: tcp };
        if let Transport::Tcp { flags, .. } = &mut inner.transport {
            *flags &= flag::ACK | flag::PSH | flag::ECE | flag::CWR;
        }
        let dont_fragment = matches!(inner.ip, Ip::V4 { dont_fragment: true, .. });
        let fixed_id = keep_id && dont_fragment;
        let payload = payload(mss * full + 1 + (mss as f64 * last) as usize);
        let packets = inner.cut(&payload, mss, fixed_id);

        let mut merge = begin(&packets[0]).unwrap();
        for packet in &packets[1..] {
            prop_assert!(append(&mut merge, packet));
        }
        let (headers, merged) = finish(&merge);
        prop_assert_eq!(&headers, &inner.merged_headers(&payload));
        prop_assert_eq!(usize::from(merged.segments), packets.len());
        prop_assert_eq!(usize::from(merged.mss), mss);
        prop_assert_eq!(merged.fixed_id, fixed_id);
        prop_assert_eq!(usize::from(merged.transport_offset), inner.network_len());
        prop_assert_eq!(merged.v6, matches!(inner.ip, Ip::V6 { .. }));

        let segmenter =
            Segmenter::new(&headers, segment::Transport::Tcp, merged.fixed_id).unwrap();
        for (index, (packet, payload)) in packets.iter().zip(payload.chunks(mss)).enumerate() {
            let of_payload = Segment {
                index: index as u32,
                offset: (index * mss) as u32,
                payload_len: payload.len() as u16,
                payload_sum: payload_sum(payload),
                last: index + 1 == packets.len(),
            };
            let mut again = packet.clone();
            again[..headers.len()].fill(0xee);
            prop_assert!(segmenter.write(&of_payload, &mut again));
            prop_assert_eq!(&again, packet);
        }
    }

    /// Whatever comes, what has been merged is what the merge says, up to its length.
    #[test]
    fn any_bytes_are_merged_or_not(
        ip in any_ip(1),
        tcp in any_tcp(),
        clean: bool,
        changes in prop::collection::vec(
            any::<(prop::sample::Index, prop::sample::Index, u8)>(),
            0..6,
        ),
        random in prop::collection::vec(any::<u8>(), 0..130),
        lens in prop::collection::vec(prop_oneof![0..200usize, any::<usize>()], 4),
        room in 0..130usize,
    ) {
        let mut inner = Inner { ip, ports: [1, 2], transport: tcp };
        if let (true, Transport::Tcp { flags, .. }) = (clean, &mut inner.transport) {
            *flags = flag::ACK;
        }
        let mut packets = inner.cut(&payload(400), 100, false);
        for (packet, at, value) in &changes {
            let packet = packet.index(packets.len());
            let packet = &mut packets[packet];
            let at = at.index(packet.len());
            packet[at] = *value;
        }
        packets.push(random);

        for (first, packet) in packets.iter().enumerate() {
            for len in lens.iter().copied().chain([packet.len()]) {
                let merge = Merge::begin(packet, len);
                prop_assert!(merge.is_none() || Some(len) == said_len(packet));
            }
            let Some(mut merge) = begin(packet) else { continue };
            let header_len = merge.header_len();
            prop_assert!((40..=100).contains(&header_len));

            let mut payload_len = packet.len() - header_len;
            let mut segments = 1;
            for packet in &packets[first..] {
                for len in lens.iter().copied().chain([packet.len()]) {
                    let open = merge.is_open();
                    if merge.append(packet, len) {
                        prop_assert!(open && Some(len) == said_len(packet));
                        payload_len += len - header_len;
                        segments += 1;
                    }
                }
            }

            let (headers, merged) = finish(&merge);
            prop_assert_eq!(merged.segments, segments);
            let field = if merged.v6 { &headers[4..6] } else { &headers[2..4] };
            let whole = payload_len + header_len - if merged.v6 { 40 } else { 0 };
            prop_assert_eq!(field, &(whole as u16).to_be_bytes());

            let mut to = vec![0; room];
            prop_assert_eq!(merge.finish(&mut to).is_some(), room >= header_len);
        }
    }
}
