// SPDX-License-Identifier: GPL-2.0-only

//! The headers of a segment: the input is a byte of choices, the segment, the room for its headers, and
//! the headers of the large packet.

use super::reader::Reader;
use crate::inner::{checksum, flag, Inner};
use crate::proto::segment::{Segment, Segmenter, Transport, MAX_HEADERS};

/// Where the parts of the headers are, if they can be taken.
struct Layout {
    v6: bool,
    tcp: bool,
    network_len: usize,
}

impl Layout {
    fn of(headers: &[u8], tcp: bool) -> Option<Self> {
        let v6 = match headers.first()? >> 4 {
            4 => false,
            6 => true,
            _ => return None,
        };
        let network_len = if v6 {
            40
        } else {
            usize::from(headers[0] & 15) * 4
        };
        let transport = headers.get(network_len..)?;
        let protocol = if tcp { 6 } else { 17 };
        let right = if v6 {
            headers[6] == protocol
        } else {
            network_len >= 20
                && headers[9] == protocol
                // Only "reserved" and "don't fragment" may be set.
                && u16::from_be_bytes([headers[6], headers[7]]) & 0x3fff == 0
                // Loose and strict source route.
                && !headers[20..network_len].iter().any(|byte| [131, 137].contains(byte))
        };
        let said = if tcp {
            usize::from(transport.get(12)? >> 4) * 4
        } else {
            8
        };
        (right && said >= if tcp { 20 } else { 8 } && said == transport.len()).then_some(Self {
            v6,
            tcp,
            network_len,
        })
    }

    /// The headers of a segment, made the slow way.
    fn write(&self, whole: &[u8], segment: &Segment, fixed_id: bool, cwr: bool) -> Option<Vec<u8>> {
        let (mut network, mut transport) = {
            let (network, transport) = whole.split_at(self.network_len);
            (network.to_vec(), transport.to_vec())
        };
        let transport_len = transport.len() + usize::from(segment.payload_len);
        let total_len = network.len() + transport_len;
        if self.v6 {
            let field = u16::try_from(transport_len).ok()?;
            network[4..6].copy_from_slice(&field.to_be_bytes());
        } else {
            let field = u16::try_from(total_len).ok()?;
            network[2..4].copy_from_slice(&field.to_be_bytes());
            if !fixed_id {
                let id = u16::from_be_bytes([network[4], network[5]]);
                let id = id.wrapping_add((segment.index % 0x1_0000) as u16);
                network[4..6].copy_from_slice(&id.to_be_bytes());
            }
            network[10..12].fill(0);
            let sum = checksum(&[&network]);
            network[10..12].copy_from_slice(&sum.to_be_bytes());
        }

        let at = if self.tcp { 16 } else { 6 };
        if self.tcp {
            let seq = u32::from_be_bytes(transport[4..8].try_into().unwrap());
            let seq = seq.wrapping_add(segment.offset);
            transport[4..8].copy_from_slice(&seq.to_be_bytes());
            if segment.index > 0 && !cwr {
                transport[13] &= !(flag::CWR as u8);
            }
            if !segment.last {
                transport[13] &= !((flag::FIN | flag::PSH) as u8);
            }
        } else {
            transport[4..6].copy_from_slice(&(transport_len as u16).to_be_bytes());
        }
        transport[at..at + 2].fill(0);
        let addresses = if self.v6 {
            &network[8..40]
        } else {
            &network[12..20]
        };
        // The sum of the payload is as good as any payload that has it.
        let mut payload = u64::from(segment.payload_sum);
        while payload > 0xffff {
            payload = (payload & 0xffff) + (payload >> 16);
        }
        let sum = checksum(&[
            addresses,
            &[0, if self.tcp { 6 } else { 17 }],
            &(transport_len as u16).to_be_bytes(),
            &transport,
            &(payload as u16).to_ne_bytes(),
        ]);
        let sum = if sum == 0 && !self.tcp { 0xffff } else { sum };
        transport[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        Some([network, transport].concat())
    }
}

pub(crate) fn check(input: &[u8]) {
    let mut input = Reader::new(input);
    let choices = input.u8();
    let [tcp, fixed_id, cwr, last] = [1, 2, 4, 8].map(|bit| choices & bit != 0);
    let segment = Segment {
        index: input.u32(),
        offset: input.u32(),
        payload_len: input.u16(),
        payload_sum: input.u32(),
        last,
    };
    let room = usize::from(input.u8());
    let headers = input.rest();
    let transport = if tcp { Transport::Tcp } else { Transport::Udp };

    let layout = Layout::of(headers, tcp);
    let segmenter = Segmenter::new(headers, transport, fixed_id);
    assert_eq!(
        segmenter.is_some(),
        layout.is_some(),
        "whether {headers:02x?} are taken"
    );
    let Some((layout, mut segmenter)) = layout.zip(segmenter) else {
        return;
    };
    if cwr {
        segmenter = segmenter.with_cwr_on_all();
    }
    assert_eq!(segmenter.header_len(), headers.len());

    let expected = layout.write(headers, &segment, fixed_id, cwr);
    let mut to = vec![0xee; room];
    let written = segmenter.write(&segment, &mut to);
    assert_eq!(
        written,
        expected.is_some() && room >= headers.len(),
        "whether {} bytes of headers with {} of payload fit into {room}",
        headers.len(),
        segment.payload_len
    );
    if let (true, Some(expected)) = (written, expected) {
        assert_eq!(
            to[..expected.len()],
            expected,
            "{headers:02x?} of {segment:?}"
        );
        assert!(
            to[expected.len()..].iter().all(|byte| *byte == 0xee),
            "what follows"
        );
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let segments: [&[u8; 16]; 3] = [
        b"\0\0\0\0\0\0\0\0\0\x05\x78\0\x01\x02\x03\x78",
        b"\x0a\0\0\0\x02\0\0\x0a\xf0\x05\x78\xff\xff\xff\xff\x78",
        b"\x0f\0\x01\0\x01\xff\xff\xff\xff\xff\xff\0\0\0\0\xff",
    ];
    let mut with_options = Inner::tcp_v4().with_tcp_options(&[1; 40]);
    if let crate::inner::Ip::V4 { options, .. } = &mut with_options.ip {
        *options = vec![1; 40];
    }
    assert_eq!(with_options.header_len(), MAX_HEADERS);
    let packets = [
        Inner::tcp_v4(),
        Inner::tcp_v6().with_flags(flag::ACK | flag::CWR | flag::PSH),
        Inner::tcp_v4().udp(),
        Inner::tcp_v6().udp(),
        with_options,
    ];

    let mut seeds: Vec<_> = packets
        .iter()
        .flat_map(|inner| {
            let headers = inner.packet(&[])[..inner.header_len()].to_vec();
            let tcp = u8::from(!matches!(inner.transport, crate::inner::Transport::Udp));
            segments.map(|segment| {
                let mut seed = [&segment[..], &headers].concat();
                seed[0] = seed[0] & !1 | tcp;
                seed
            })
        })
        .collect();

    // A payload that is what was missing leaves a checksum of zero.
    for inner in [Inner::tcp_v4().udp(), Inner::tcp_v6().udp()] {
        let headers = &inner.packet(&[0, 0])[..inner.header_len()];
        let at = headers.len() - 2;
        let missing = u16::from_ne_bytes([headers[at], headers[at + 1]]);
        let payload_sum = u32::from(missing).to_be_bytes();
        let start = [8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
        seeds.push([&start, &payload_sum[..], &[0x78], headers].concat());
    }
    seeds
}
