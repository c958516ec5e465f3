// SPDX-License-Identifier: GPL-2.0-only

//! TCP packets that may follow one another: joined as far as they go, and cut again. The input says
//! which packets, and then what is changed in them.

use super::reader::Reader;
use crate::inner::{checksum, flag, payload, payload_sum, Inner};
use crate::proto::merge::{Merge, Merged};
use crate::proto::segment::{Segment, Segmenter, Transport};

/// More would only be slow.
const MOST_PACKETS: usize = 8;

/// A packet as far as it is of interest, if it may be part of a merge.
struct Part<'a> {
    bytes: &'a [u8],
    v6: bool,
    network_len: usize,
    header_len: usize,
    /// The headers, 0 where those of a merge may differ.
    same: Vec<u8>,
    id: u16,
    dont_fragment: bool,
    seq: u32,
    flags: u16,
}

impl<'a> Part<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let v6 = match bytes.first()? {
            0x45 => false,
            0x60..=0x6f => true,
            _ => return None,
        };
        let network_len = if v6 { 40 } else { 20 };
        let (network, tcp) = bytes.split_at_checked(network_len)?;
        let word = |at: usize| u16::from_be_bytes([network[at], network[at + 1]]);
        let (said, protocol) = if v6 {
            (40 + usize::from(word(4)), network[6])
        } else {
            (usize::from(word(2)), network[9])
        };
        let right = v6 || word(6) & !0x4000 == 0 && checksum(&[network]) == 0;
        if said != bytes.len() || protocol != 6 || !right || tcp.len() < 20 {
            return None;
        }
        let tcp_len = usize::from(tcp[12] >> 4) * 4;
        let flags = u16::from_be_bytes([tcp[12] & 0x0f, tcp[13]]);
        let allowed = flag::ACK | flag::PSH | flag::ECE | flag::CWR;
        if tcp_len < 20 || tcp.len() <= tcp_len || flags & !allowed != 0 {
            return None;
        }

        let header_len = network_len + tcp_len;
        let mut same = bytes[..header_len].to_vec();
        for at in if v6 {
            vec![4, 5]
        } else {
            vec![2, 3, 4, 5, 10, 11]
        } {
            same[at] = 0;
        }
        for at in [4, 5, 6, 7, 16, 17] {
            same[network_len + at] = 0;
        }
        same[network_len + 13] &= !(flag::PSH | flag::CWR) as u8;
        Some(Self {
            bytes,
            v6,
            network_len,
            header_len,
            same,
            id: if v6 { 0 } else { word(4) },
            dont_fragment: v6 || word(6) == 0x4000,
            seq: u32::from_be_bytes(tcp[4..8].try_into().unwrap()),
            flags,
        })
    }

    fn payload(&self) -> &'a [u8] {
        &self.bytes[self.header_len..]
    }

    /// The packet as its peer's stack would have sent it, with the right TCP checksum.
    fn repaired(&self) -> Vec<u8> {
        let mut packet = self.bytes.to_vec();
        if !self.v6 {
            // A wrong one would not have come here, but 0 may be written as 0xffff.
            packet[10..12].fill(0);
            let sum = checksum(&[&packet[..20]]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        let at = self.network_len + 16;
        packet[at..at + 2].fill(0);
        let sum = pseudo_header_sum(&packet, self.network_len, &packet[self.network_len..]);
        packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        packet
    }
}

/// The checksum over the pseudo-header of a packet with `transport` in it, and over `transport`.
fn pseudo_header_sum(packet: &[u8], network_len: usize, transport: &[u8]) -> u16 {
    let addresses = &packet[if network_len == 40 { 8 } else { 12 }..network_len];
    let len = (transport.len() as u16).to_be_bytes();
    checksum(&[addresses, &[0, 6], &len, transport])
}

/// What has been joined, by the rules of the stack's receive offload.
struct Model<'a> {
    parts: Vec<Part<'a>>,
    len: usize,
}

impl<'a> Model<'a> {
    fn begin(bytes: &'a [u8]) -> Option<Self> {
        let first = Part::of(bytes).filter(|_| bytes.len() <= 0xffff)?;
        Some(Self {
            parts: vec![first],
            len: bytes.len(),
        })
    }

    fn is_open(&self) -> bool {
        let (first, last) = (&self.parts[0], &self.parts[self.parts.len() - 1]);
        last.flags & flag::PSH == 0 && last.payload().len() == first.payload().len()
    }

    fn id_step(&self) -> Option<u16> {
        let [first, second, ..] = &self.parts[..] else {
            return None;
        };
        Some(second.id.wrapping_sub(first.id))
    }

    fn append(&mut self, bytes: &'a [u8]) -> bool {
        let (first, last) = (&self.parts[0], &self.parts[self.parts.len() - 1]);
        let Some(part) = Part::of(bytes) else {
            return false;
        };
        let step = part.id.wrapping_sub(last.id);
        let id_continues = part.v6
            || match self.id_step() {
                Some(known) => step == known,
                None => step == 1 || step == 0 && part.dont_fragment,
            };
        let continues = self.is_open()
            && part.same == first.same
            && part.flags & flag::CWR == 0
            && part.seq == last.seq.wrapping_add(last.payload().len() as u32)
            && part.payload().len() <= first.payload().len()
            && self.len + part.payload().len() <= 0xffff
            && id_continues;
        if continues {
            self.len += part.payload().len();
            self.parts.push(part);
        }
        continues
    }

    /// The headers of the whole.
    fn headers(&self) -> Vec<u8> {
        let (first, last) = (&self.parts[0], &self.parts[self.parts.len() - 1]);
        let at = first.network_len;
        let mut whole = first.bytes[..first.header_len].to_vec();
        if first.v6 {
            whole[4..6].copy_from_slice(&((self.len - 40) as u16).to_be_bytes());
        } else {
            whole[2..4].copy_from_slice(&(self.len as u16).to_be_bytes());
            whole[10..12].fill(0);
            let sum = checksum(&[&whole[..20]]);
            whole[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        whole[at + 13] |= (last.flags & flag::PSH) as u8;
        // With nothing in it, so that only the length counts.
        let sum = !pseudo_header_sum(&whole, at, &vec![0; self.len - at]);
        whole[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
        whole
    }

    fn merged(&self) -> Merged {
        let first = &self.parts[0];
        Merged {
            segments: self.parts.len() as u16,
            mss: first.payload().len() as u16,
            v6: first.v6,
            fixed_id: !first.v6 && self.id_step() == Some(0),
            transport_offset: first.network_len as u16,
            ecn: first.flags & flag::CWR != 0,
        }
    }
}

/// The packets of an input.
fn packets(input: &mut Reader<'_>) -> Vec<Vec<u8>> {
    let choices = input.u8();
    let [v6, fixed_id, dont_fragment] = [1, 2, 4].map(|bit| choices & bit != 0);
    let mss = match usize::from(input.u8()) {
        // Only now and then, as they take their time.
        large if choices & 0xf8 == 0xf8 => large * 250 + 1,
        small => small % 64 + 1,
    };
    let len = usize::from(input.u16()) % (mss * MOST_PACKETS) + 1;
    let inner = if v6 { Inner::tcp_v6() } else { Inner::tcp_v4() }
        .with_dont_fragment(dont_fragment)
        .with_flags(input.u16() & 0xfff)
        .with_seq(input.u32())
        .with_id(input.u16());
    let mut packets = inner.cut(&payload(len), mss, fixed_id);

    while !input.is_empty() {
        let kind = input.u8();
        let number = usize::from(input.u8()) % packets.len();
        let packet = &mut packets[number];
        match kind % 5 {
            0 | 1 if !packet.is_empty() => {
                let at = usize::from(input.u8()) % packet.len();
                packet[at] = input.u8();
            }
            2 => packet.truncate(input.u8().into()),
            3 => packet.extend([0x45; 3]),
            _ => *packet = input.bytes(kind.into()).to_vec(),
        }
        // Wrong by nothing but what has been changed.
        if kind % 5 != 0 && packet.len() >= 20 && packet[0] == 0x45 {
            packet[10..12].fill(0);
            let sum = checksum(&[&packet[..20]]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
    }
    packets
}

/// What has been joined and is cut again is what came.
fn cut_again(model: &Model<'_>, headers: &[u8], merged: &Merged) {
    let segmenter = Segmenter::new(headers, Transport::Tcp, merged.fixed_id).unwrap();
    let mut offset = 0;
    for (index, part) in model.parts.iter().enumerate() {
        let segment = Segment {
            index: index as u32,
            offset,
            payload_len: part.payload().len() as u16,
            payload_sum: payload_sum(part.payload()),
            last: index + 1 == model.parts.len(),
        };
        let mut packet = part.bytes.to_vec();
        packet[..headers.len()].fill(0xee);
        assert!(segmenter.write(&segment, &mut packet));
        assert_eq!(packet, part.repaired(), "packet {index}, cut again");
        offset += u32::from(segment.payload_len);
    }
}

pub(crate) fn check(input: &[u8]) {
    let packets = packets(&mut Reader::new(input));
    let mut at = 0;

    while let Some(first) = packets.get(at) {
        at += 1;
        let expected = Model::begin(first);
        let merge = Merge::begin(first, first.len());
        assert_eq!(
            merge.is_some(),
            expected.is_some(),
            "whether {first:02x?} begins a merge"
        );
        let Some((mut merge, mut model)) = merge.zip(expected) else {
            continue;
        };
        let header_len = model.parts[0].header_len;
        assert_eq!(merge.header_len(), header_len);
        assert!(Merge::begin(&first[..header_len - 1], first.len()).is_none());
        assert!(Merge::begin(first, first.len() + 1).is_none());

        while let Some(next) = packets.get(at) {
            assert_eq!(merge.is_open(), model.is_open(), "before packet {at}");
            // The headers are all that is read.
            let seen = &next[..next.len().min(header_len)];
            let expected = model.append(next);
            assert_eq!(
                merge.append(seen, next.len()),
                expected,
                "whether packet {at} goes on"
            );
            if !expected {
                break;
            }
            at += 1;
        }

        let mut headers = vec![0xee; header_len + 1];
        assert!(merge.finish(&mut headers[..header_len - 1]).is_none());
        let merged = merge.finish(&mut headers).unwrap();
        assert_eq!(headers.pop(), Some(0xee), "what follows the headers");
        assert_eq!(
            headers,
            model.headers(),
            "headers of {} packets",
            model.parts.len()
        );
        assert_eq!(merged, model.merged());
        assert_eq!(merge.has_cwr(), merged.ecn);
        cut_again(&model, &headers, &merged);
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let trains: [&[u8; 12]; 7] = [
        b"\x04\x1f\0\x70\0\x10\x01\x02\x03\x04\x12\x34",
        b"\x05\x1f\0\x70\0\x18\xff\xff\xff\xf0\x12\x34",
        b"\x06\x3f\x01\xff\0\xd8\0\0\0\0\0\0",
        b"\x00\x07\0\x40\0\x50\0\0\0\0\xff\xfe",
        b"\x02\x07\0\x40\0\x10\0\0\0\0\xff\xfe",
        b"\xfc\xff\xff\xff\0\x10\0\0\0\0\0\0",
        b"\xfd\x04\x0f\xff\x01\x10\0\0\0\0\0\0",
    ];
    // A PSH, a CWR, another id, a wrong checksum, a byte too few, some too many.
    let changes: [&[u8]; 7] = [
        b"",
        b"\x01\x01\x21\x18",
        b"\x01\x01\x21\x90",
        b"\x06\x01\x05\x77",
        b"\0\x01\x0a\x77",
        b"\x02\x01\x34",
        b"\x03\x02",
    ];

    trains
        .iter()
        .flat_map(|train| changes.map(|changes| [&train[..], changes].concat()))
        .collect()
}
