// SPDX-License-Identifier: GPL-2.0-only

use crate::any::{any_ip, any_tcp};
use crate::inner::{self, flag, payload, payload_sum, Inner};
use crate::proto::segment::{Segment, Segmenter, Transport, MAX_HEADERS};
use proptest::prelude::*;

/// All flags that differ from segment to segment, and some that do not.
const FLAGS: u16 = flag::ACK | flag::PSH | flag::FIN | flag::ECE | flag::CWR;

fn segmenter(inner: &Inner, fixed_id: bool) -> Segmenter {
    let transport = match inner.transport {
        inner::Transport::Tcp { .. } => Transport::Tcp,
        inner::Transport::Udp => Transport::Udp,
    };
    // The lengths and the checksum of the whole packet do not count.
    let mut whole = inner.packet(&[0xee; 77]);
    whole.truncate(inner.header_len());
    let segmenter = Segmenter::new(&whole, transport, fixed_id).unwrap();

    assert_eq!(segmenter.header_len(), inner.header_len());
    segmenter
}

/// A segment of `payload`, written by `segmenter` where more than enough room is.
fn segment(segmenter: &Segmenter, segment: Segment, payload: &[u8]) -> Vec<u8> {
    let header_len = segmenter.header_len();
    let mut room = vec![0xee; header_len + 9];

    assert!(segmenter.write(&segment, &mut room));
    assert_eq!(&room[header_len..], &[0xee; 9]);
    [&room[..header_len], payload].concat()
}

/// Cuts a packet with the code under test.
fn cut(segmenter: &Segmenter, payload: &[u8], mss: usize) -> Vec<Vec<u8>> {
    let count = payload.len().div_ceil(mss);

    payload
        .chunks(mss)
        .enumerate()
        .map(|(index, payload)| {
            let of_payload = Segment {
                index: index as u32,
                offset: (index * mss) as u32,
                payload_len: payload.len() as u16,
                payload_sum: payload_sum(payload),
                last: index + 1 == count,
            };
            segment(segmenter, of_payload, payload)
        })
        .collect()
}

/// The only segment of a packet.
fn whole(payload: &[u8]) -> Segment {
    Segment {
        index: 0,
        offset: 0,
        payload_len: payload.len() as u16,
        payload_sum: payload_sum(payload),
        last: true,
    }
}

/// The headers of a packet and what it is.
fn headers(inner: &Inner) -> Vec<u8> {
    let mut packet = inner.packet(&[]);
    packet.truncate(inner.header_len());
    packet
}

#[test]
fn a_stream_is_cut_like_the_stack_does() {
    let payload = payload(crate::scale(10_001, 2_001));

    for inner in [Inner::tcp_v4(), Inner::tcp_v6()] {
        let inner = inner.with_flags(FLAGS);
        for fixed_id in [false, true] {
            assert_eq!(
                cut(&segmenter(&inner, fixed_id), &payload, 1300),
                inner.cut(&payload, 1300, fixed_id)
            );
        }
    }
}

#[test]
fn datagrams_are_cut_like_the_stack_does() {
    let payload = payload(crate::scale(10_001, 2_001));

    for inner in [Inner::tcp_v4().udp(), Inner::tcp_v6().udp()] {
        assert_eq!(
            cut(&segmenter(&inner, false), &payload, 1300),
            inner.cut(&payload, 1300, false)
        );
    }
}

#[test]
fn cwr_stays_where_it_counts() {
    let payload = payload(1000);
    let inner = Inner::tcp_v4().with_flags(flag::ACK | flag::CWR);
    let segmenter = segmenter(&inner, false).with_cwr_on_all();
    let packets = cut(&segmenter, &payload, 100);

    // Each is what the first of a packet that begins there would be.
    for (index, packet) in packets.iter().enumerate() {
        let inner = inner
            .clone()
            .with_seq(0x0102_0304 + index as u32 * 100)
            .with_id(0x1234 + index as u16);
        assert_eq!(*packet, inner.packet(&payload[index * 100..][..100]));
    }
}

#[test]
fn id_and_sequence_number_wrap_around() {
    let payload = payload(3000);
    let inner = Inner::tcp_v4().with_id(0xfffe).with_seq(u32::MAX - 1500);
    let packets = cut(&segmenter(&inner, false), &payload, 1000);

    assert_eq!(packets, inner.cut(&payload, 1000, false));
    assert_eq!(packets[2][4..6], [0, 0]);
    assert_eq!(packets[2][24..28], 499u32.to_be_bytes());

    // And so does an index, of which only 16 bits can count.
    let far = Segment {
        index: 0x1_0001,
        offset: u32::MAX,
        ..whole(&payload)
    };
    assert_eq!(
        segment(&segmenter(&inner, false), far, &payload),
        inner
            .with_id(0xffff)
            .with_seq(u32::MAX - 1501)
            .packet(&payload)
    );
}

#[test]
fn a_checksum_of_zero_is_sent_as_ones_by_udp_alone() {
    for (inner, at, expected) in [
        (Inner::tcp_v4().udp(), 20 + 6, [0xff, 0xff]),
        (Inner::tcp_v6().udp(), 40 + 6, [0xff, 0xff]),
        (Inner::tcp_v4(), 20 + 16, [0, 0]),
        (Inner::tcp_v6(), 40 + 16, [0, 0]),
    ] {
        // A payload that is what was missing leaves nothing missing.
        let missing = inner.packet(&[0, 0])[at..at + 2].to_vec();
        let segmenter = segmenter(&inner, false);
        let packet = segment(&segmenter, whole(&missing), &missing);

        assert_eq!(packet[at..at + 2], expected, "{inner:?}");
        assert_eq!(packet, inner.packet(&missing));
    }
}

#[test]
#[cfg_attr(miri, ignore = "64 KiB take minutes")]
fn the_longest_packets_are_those_that_the_length_fields_can_say() {
    for (inner, longest) in [
        (Inner::tcp_v4(), 65535 - 52),
        (Inner::tcp_v4().udp(), 65535 - 28),
        (Inner::tcp_v6(), 65535 - 32),
        (Inner::tcp_v6().udp(), 65535 - 8),
    ] {
        let segmenter = segmenter(&inner, false);
        for payload in [payload(longest), vec![0xff; longest]] {
            assert_eq!(
                segment(&segmenter, whole(&payload), &payload),
                inner.packet(&payload)
            );
        }

        let mut to = [0; MAX_HEADERS];
        for payload_len in longest + 1..=65535 {
            let too_long = Segment {
                payload_len: payload_len as u16,
                ..whole(&[])
            };
            assert!(!segmenter.write(&too_long, &mut to), "{payload_len}");
        }
    }
}

#[test]
fn too_little_room_is_refused() {
    for inner in [
        Inner::tcp_v4(),
        Inner::tcp_v4().udp(),
        Inner::tcp_v6(),
        Inner::tcp_v6().udp(),
    ] {
        let segmenter = segmenter(&inner, false);
        let mut room = vec![0; inner.header_len()];

        assert!(segmenter.write(&whole(&[]), &mut room));
        for len in 0..inner.header_len() {
            assert!(!segmenter.write(&whole(&[]), &mut room[..len]), "{len}");
        }
    }
}

#[test]
fn the_longest_headers_fit() {
    let mut inner = Inner::tcp_v4().with_tcp_options(&[1; 40]);
    if let inner::Ip::V4 { options, .. } = &mut inner.ip {
        *options = vec![1; 40];
    }
    let payload = payload(100);

    assert_eq!(inner.header_len(), MAX_HEADERS);
    assert_eq!(
        cut(&segmenter(&inner, false), &payload, 30),
        inner.cut(&payload, 30, false)
    );
}

#[test]
fn headers_of_another_length_are_refused() {
    for (inner, transport) in [
        (Inner::tcp_v4(), Transport::Tcp),
        (Inner::tcp_v4().udp(), Transport::Udp),
        (Inner::tcp_v6(), Transport::Tcp),
        (Inner::tcp_v6().udp(), Transport::Udp),
    ] {
        let packet = inner.packet(&[0; MAX_HEADERS + 1]);
        for len in 0..packet.len() {
            assert_eq!(
                Segmenter::new(&packet[..len], transport, false).is_some(),
                len == inner.header_len(),
                "{len} bytes of {inner:?}"
            );
        }
    }
}

#[test]
fn headers_that_say_another_length_are_refused() {
    for first in 0x40..=0x4f {
        let mut packet = headers(&Inner::tcp_v4());
        packet[0] = first;
        let taken = Segmenter::new(&packet, Transport::Tcp, false).is_some();
        assert_eq!(taken, first == 0x45, "{first:#x}");
    }
    for (inner, at) in [(Inner::tcp_v4(), 32), (Inner::tcp_v6(), 52)] {
        for data_offset in 0..=15 {
            let mut packet = headers(&inner);
            packet[at] = data_offset << 4;
            let taken = Segmenter::new(&packet, Transport::Tcp, false).is_some();
            assert_eq!(taken, data_offset == 8, "{data_offset}");
        }
    }
}

#[test]
fn other_versions_and_protocols_are_refused() {
    for (inner, transport, protocol, at) in [
        (Inner::tcp_v4(), Transport::Tcp, 6, 9),
        (Inner::tcp_v4().udp(), Transport::Udp, 17, 9),
        (Inner::tcp_v6(), Transport::Tcp, 6, 6),
        (Inner::tcp_v6().udp(), Transport::Udp, 17, 6),
    ] {
        let packet = headers(&inner);
        for value in 0..=u8::MAX {
            let mut packet = packet.clone();
            packet[at] = value;
            let taken = Segmenter::new(&packet, transport, false).is_some();
            assert_eq!(taken, value == protocol, "protocol {value}");
        }
        for version in (0..=15).filter(|version| *version != packet[0] >> 4) {
            let mut packet = packet.clone();
            packet[0] = version << 4 | packet[0] & 0x0f;
            assert!(Segmenter::new(&packet, transport, false).is_none());
        }
    }
}

#[test]
fn fragments_are_refused() {
    for bit in 0..16 {
        let mut packet = headers(&Inner::tcp_v4());
        packet[6..8].copy_from_slice(&(1u16 << bit).to_be_bytes());
        let taken = Segmenter::new(&packet, Transport::Tcp, false).is_some();
        // The upper two are "reserved" and "don't fragment".
        assert_eq!(taken, bit >= 14, "bit {bit}");
    }
}

#[test]
fn source_routes_are_refused() {
    for kind in 0..=u8::MAX {
        let mut inner = Inner::tcp_v4();
        if let inner::Ip::V4 { options, .. } = &mut inner.ip {
            *options = vec![1, kind, 7, 4, 192, 0, 2, 1];
        }
        let taken = Segmenter::new(&headers(&inner), Transport::Tcp, false).is_some();
        assert_eq!(taken, ![131, 137].contains(&kind), "option {kind}");
    }
}

proptest! {
    #![proptest_config(crate::cases(500))]

    #[test]
    fn any_packet_is_cut_like_the_stack_does(
        ip in any_ip(10),
        transport in prop_oneof![any_tcp(), Just(inner::Transport::Udp)],
        ports: [u16; 2],
        fixed_id: bool,
        mss in 1..crate::scale(1400, 30),
        count in 0..crate::scale(48, 4),
        last in 0.0..1.0f64,
    ) {
        let inner = Inner { ip, ports, transport };
        let payload = payload(mss * count + 1 + (mss as f64 * last) as usize);

        prop_assert_eq!(
            cut(&segmenter(&inner, fixed_id), &payload, mss),
            inner.cut(&payload, mss, fixed_id)
        );
    }

    /// The kernel's sums are not folded, and which of the many it is does not matter.
    #[test]
    fn any_form_of_the_sum_gives_the_same_checksum(
        ip in any_ip(0),
        transport in prop_oneof![any_tcp(), Just(inner::Transport::Udp)],
        payload in prop::collection::vec(any::<u8>(), 1..100),
        more in 0..=u32::MAX / 0xffff - 100,
    ) {
        let inner = Inner { ip, ports: [1, 2], transport };
        let mut of_payload = whole(&payload);
        if of_payload.payload_sum != 0 {
            of_payload.payload_sum += more * 0xffff;
        }

        prop_assert_eq!(
            segment(&segmenter(&inner, false), of_payload, &payload),
            inner.packet(&payload)
        );
    }

    #[test]
    fn any_bytes_are_taken_or_not(
        start in any_ip(10),
        transport in prop_oneof![any_tcp(), Just(inner::Transport::Udp)],
        kind in prop_oneof![Just(Transport::Tcp), Just(Transport::Udp)],
        changes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..3),
        random in prop::option::of(prop::collection::vec(any::<u8>(), 0..130)),
        fixed_id: bool,
        (index, offset, payload_len, payload_sum, last) in any::<(u32, u32, u16, u32, bool)>(),
        room in 0..130usize,
    ) {
        let inner = Inner { ip: start, ports: [1, 2], transport };
        let bytes = random.unwrap_or_else(|| {
            let mut bytes = headers(&inner);
            for (at, value) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            bytes
        });

        if let Some(segmenter) = Segmenter::new(&bytes, kind, fixed_id) {
            prop_assert_eq!(segmenter.header_len(), bytes.len());

            let segment = Segment { index, offset, payload_len, payload_sum, last };
            let mut to = vec![0xee; room];
            let written = segmenter.write(&segment, &mut to);
            prop_assert!(!written || room >= bytes.len());
        }
    }
}
