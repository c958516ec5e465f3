// SPDX-License-Identifier: GPL-2.0-only

//! Joins TCP packets that follow one another into one large packet.
//!
//! The stack then takes one packet instead of some forty. What is joined, and how, is what Linux'
//! own receive offload does with packets from a network card: `inet_gro_receive`,
//! `ipv6_gro_receive`, `tcp_gro_receive` and `tcp_gro_complete`, but for a FIN, which ends a merge
//! here. A merge that is cut again gives the packets that it was made of.
//!
//! The TCP checksum of the packets is not looked at, and the merge is handed on as one that has been
//! verified. So is every single packet out of the tunnel: the AEAD tag has shown that it is what the
//! peer has sealed, which is more than the checksum could show. The checksum of an IPv4 header is
//! looked at all the same. The merge gets a new one, which must not hide a wrong one that the stack
//! would have dropped the packet for.

use super::headers::{flag, fold, sum, PROTOCOL_TCP, TCP_HEADER_LEN, TCP_HEADER_MAX};
use super::ip::{V4_HEADER_LEN, V6_HEADER_LEN};

/// The most that the headers take together: IPv6, which is the longer one without options, and TCP
/// with all options that it can have.
pub(crate) const MAX_HEADERS: usize = V6_HEADER_LEN + TCP_HEADER_MAX;

/// The first byte of an IPv4 header without options.
const V4_FIRST: u8 = 0x45;

/// In bytes 6 and 7 of the IPv4 header: the packet must not be fragmented, and it has not been.
const V4_DONT_FRAGMENT: u16 = 0x4000;

/// The flags that a packet in a merge may have.
const FLAGS: u8 = flag::ACK | flag::PSH | flag::ECE | flag::CWR;

/// The bits of the IPv4 header that are the same in each packet: all but the total length, the id
/// and the checksum.
#[rustfmt::skip]
const V4_SAME: [u8; V4_HEADER_LEN] = [
    0xff, 0xff, 0, 0,
    0, 0, 0xff, 0xff,
    0xff, 0xff, 0, 0,
    0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff,
];

/// The bits of the IPv6 header that are the same in each packet: all but the payload length.
const V6_SAME: [u8; V6_HEADER_LEN] = {
    let mut same = [0xff; V6_HEADER_LEN];
    same[4] = 0;
    same[5] = 0;
    same
};

/// The bits of the TCP header that are the same in each packet: all but the sequence number, two
/// flags and the checksum.
#[rustfmt::skip]
const TCP_SAME: [u8; TCP_HEADER_LEN] = [
    0xff, 0xff, 0xff, 0xff,
    0, 0, 0, 0,
    0xff, 0xff, 0xff, 0xff,
    0xff, !(flag::PSH | flag::CWR), 0xff, 0xff,
    0, 0, 0xff, 0xff,
];

/// A large packet in the making.
pub(crate) struct Merge {
    /// The headers of the first packet.
    headers: [u8; MAX_HEADERS],
    network_len: u16,
    tcp_len: u16,
    v6: bool,
    /// The payload of the first packet, and of each but the last.
    mss: u16,
    /// How many packets there are.
    segments: u16,
    /// The bytes of the whole, headers included.
    len: u16,
    /// The sequence number of the packet to come.
    seq: u32,
    /// The id of the last packet, 0 in IPv6.
    id: u16,
    /// By how much the id grows from packet to packet, once there are two. None in IPv6.
    id_step: Option<u16>,
    /// The last packet had PSH.
    push: bool,
    /// The last packet was as long as the first.
    full: bool,
}

/// What the stack has to know of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Merged {
    /// How many packets it is made of.
    pub(crate) segments: u16,
    /// The payload of each packet but the last, which may be shorter.
    pub(crate) mss: u16,
    /// IPv6, else IPv4.
    pub(crate) v6: bool,
    /// All packets had the same IPv4 id, else it counted up.
    pub(crate) fixed_id: bool,
    /// From the IP header to the TCP header.
    pub(crate) transport_offset: u16,
    /// The first packet had CWR, and none after it: `SKB_GSO_TCP_ECN`.
    pub(crate) ecn: bool,
}

impl Merge {
    /// Begins with a packet.
    ///
    /// `packet` begins with the IP header and holds at least all headers. `len` are the bytes of
    /// the whole packet.
    ///
    /// Returns [`None`] if no merge may begin with it: if it is not TCP with a payload, if the IP
    /// header has options or extension headers, is that of a fragment, has another length than
    /// `len` or a wrong checksum, or if there is a TCP flag but ACK, PSH, ECE and CWR.
    #[inline]
    pub(crate) fn begin(packet: &[u8], len: usize) -> Option<Self> {
        let len = u16::try_from(len).ok()?;
        let v6 = match *packet.first()? {
            V4_FIRST => false,
            first if first >> 4 == 6 => true,
            _ => return None,
        };
        let (network_len, id) = if v6 {
            let header = packet.first_chunk()?;
            v6_begins(header, len)?;
            (V6_HEADER_LEN, 0)
        } else {
            let header = packet.first_chunk()?;
            v4_begins(header, len)?;
            (V4_HEADER_LEN, v4_id(header))
        };

        let tcp: &[u8; TCP_HEADER_LEN] = packet.get(network_len..)?.first_chunk()?;
        let [_, _, _, _, _, _, _, _, _, _, _, _, data_offset, flags, ..] = *tcp;
        let tcp_len = usize::from(data_offset >> 4) * 4;
        // The other half of the byte is reserved but for AE.
        if tcp_len < TCP_HEADER_LEN || data_offset & 0x0f != 0 || flags & !FLAGS != 0 {
            return None;
        }
        let header_len = network_len + tcp_len;
        let mss = len.checked_sub(u16::try_from(header_len).ok()?)?;
        if mss == 0 {
            return None;
        }

        let mut headers = [0; MAX_HEADERS];
        headers
            .get_mut(..header_len)?
            .copy_from_slice(packet.get(..header_len)?);
        Some(Self {
            headers,
            network_len: network_len as u16,
            tcp_len: tcp_len as u16,
            v6,
            mss,
            segments: 1,
            len,
            seq: seq(tcp).wrapping_add(u32::from(mss)),
            id,
            id_step: None,
            push: flags & flag::PSH != 0,
            full: true,
        })
    }

    /// The bytes of the IP header and the TCP header.
    #[inline]
    pub(crate) fn header_len(&self) -> usize {
        usize::from(self.network_len) + usize::from(self.tcp_len)
    }

    /// Whether a packet could still be appended. Nothing follows a PSH or a packet that was shorter
    /// than the first.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.full && !self.push
    }

    /// Whether the first packet has CWR.
    #[inline]
    pub(crate) fn has_cwr(&self) -> bool {
        self.headers
            .get(usize::from(self.network_len)..)
            .and_then(|tcp| tcp.first_chunk())
            .is_some_and(|tcp| flags(tcp) & flag::CWR != 0)
    }

    /// Appends a packet, given as to [`begin`](Self::begin).
    ///
    /// Returns false, and leaves the merge as it was, if the packet does not continue it.
    #[inline]
    #[must_use]
    pub(crate) fn append(&mut self, packet: &[u8], len: usize) -> bool {
        self.try_append(packet, len).is_some()
    }

    #[inline]
    fn try_append(&mut self, packet: &[u8], len: usize) -> Option<()> {
        let header_len = self.header_len();
        let len = u16::try_from(len).ok()?;
        let payload_len = len.checked_sub(header_len as u16)?;
        if payload_len == 0 || payload_len > self.mss || !self.is_open() {
            return None;
        }
        let whole_len = self.len.checked_add(payload_len)?;

        let first = self.headers.get(..header_len)?;
        let (first_network, first_tcp) = first.split_at_checked(self.network_len.into())?;
        let (network, tcp) = packet
            .get(..header_len)?
            .split_at_checked(self.network_len.into())?;

        let (mut id, mut id_step) = (self.id, self.id_step);
        if self.v6 {
            let header = network.first_chunk()?;
            if v6_total_len(header) != u32::from(len)
                || differ(header, first_network.first_chunk()?, &V6_SAME)
            {
                return None;
            }
        } else {
            let header = network.first_chunk()?;
            if v4_total_len(header) != len
                || differ(header, first_network.first_chunk()?, &V4_SAME)
                || !v4_checksum_is_right(header)
            {
                return None;
            }
            id = v4_id(header);
            let step = id.wrapping_sub(self.id);
            let continues = match self.id_step {
                Some(known) => step == known,
                // Only where it can not be needed may the id stay.
                None => step == 1 || step == 0 && v4_fragment(header) == V4_DONT_FRAGMENT,
            };
            if !continues {
                return None;
            }
            id_step = Some(step);
        }

        let (header, options) = tcp.split_first_chunk()?;
        let (first_header, first_options) = first_tcp.split_first_chunk()?;
        let flags = flags(header);
        if seq(header) != self.seq
            || flags & flag::CWR != 0
            || differ(header, first_header, &TCP_SAME)
            || options != first_options
        {
            return None;
        }

        self.segments = self.segments.checked_add(1)?;
        self.len = whole_len;
        self.seq = self.seq.wrapping_add(u32::from(payload_len));
        self.id = id;
        self.id_step = id_step;
        self.push = flags & flag::PSH != 0;
        self.full = payload_len == self.mss;
        Some(())
    }

    /// Writes the headers of the whole to where `to` begins.
    ///
    /// In the place of the TCP checksum is the sum over the pseudo-header, for the stack to go on
    /// from, as in a packet with `CHECKSUM_PARTIAL`. Of a merge of one packet that is also all that
    /// changes.
    ///
    /// Returns [`None`] if `to` is shorter than [`header_len`](Self::header_len).
    #[inline]
    pub(crate) fn finish(&self, to: &mut [u8]) -> Option<Merged> {
        let header_len = self.header_len();
        let headers = to.get_mut(..header_len)?;

        headers.copy_from_slice(self.headers.get(..header_len)?);
        let (network, tcp) = headers.split_at_mut_checked(self.network_len.into())?;
        // Can not wrap: the whole is longer than its IP header.
        let transport_len = self.len.wrapping_sub(self.network_len);

        let addresses = if self.v6 {
            let [_, _, _, _, len_0, len_1, _, _, addresses @ ..] =
                network.first_chunk_mut::<V6_HEADER_LEN>()?;
            [*len_0, *len_1] = transport_len.to_be_bytes();
            sum(addresses)
        } else {
            let header = network.first_chunk_mut::<V4_HEADER_LEN>()?;
            let [_, _, len_0, len_1, _, _, _, _, _, _, sum_0, sum_1, ..] = header;
            [*len_0, *len_1] = self.len.to_be_bytes();
            [*sum_0, *sum_1] = [0, 0];
            let checksum = !fold(sum(header));

            let [_, _, _, _, _, _, _, _, _, _, sum_0, sum_1, addresses @ ..] = header;
            [*sum_0, *sum_1] = checksum.to_ne_bytes();
            sum(addresses)
        };
        let pseudo_header = addresses
            .wrapping_add(u64::from(u16::from(PROTOCOL_TCP).to_be()))
            .wrapping_add(u64::from(transport_len.to_be()));

        let tcp = tcp.first_chunk_mut::<TCP_HEADER_LEN>()?;
        let [_, _, _, _, _, _, _, _, _, _, _, _, _, flags, _, _, sum_0, sum_1, ..] = tcp;
        if self.push {
            *flags |= flag::PSH;
        }
        [*sum_0, *sum_1] = fold(pseudo_header).to_ne_bytes();

        Some(Merged {
            segments: self.segments,
            mss: self.mss,
            v6: self.v6,
            fixed_id: self.id_step == Some(0),
            transport_offset: self.network_len,
            ecn: *flags & flag::CWR != 0,
        })
    }
}

/// Whether two headers differ in a bit of `mask`.
// Inlined it is a few instructions, with the mask in them.
#[inline(always)]
fn differ<const LEN: usize>(one: &[u8; LEN], other: &[u8; LEN], mask: &[u8; LEN]) -> bool {
    const { assert!(LEN % 4 == 0, "the header is made of whole words") };

    let (mut one, mut other, mut mask) = (&one[..], &other[..], &mask[..]);
    let mut bits = 0;

    while let (Some((a, one_after)), Some((b, other_after)), Some((bits_of, mask_after))) = (
        one.split_first_chunk(),
        other.split_first_chunk(),
        mask.split_first_chunk(),
    ) {
        let differing = u32::from_ne_bytes(*a) ^ u32::from_ne_bytes(*b);
        bits |= differing & u32::from_ne_bytes(*bits_of);
        (one, other, mask) = (one_after, other_after, mask_after);
    }
    bits != 0
}

/// That a merge may begin with an IPv4 header, as far as its first byte does not tell.
#[inline]
fn v4_begins(header: &[u8; V4_HEADER_LEN], len: u16) -> Option<()> {
    let [_, _, _, _, _, _, _, _, _, protocol, ..] = *header;

    (protocol == PROTOCOL_TCP
        && v4_total_len(header) == len
        && v4_fragment(header) & !V4_DONT_FRAGMENT == 0
        && v4_checksum_is_right(header))
    .then_some(())
}

/// That a merge may begin with an IPv6 header.
#[inline]
fn v6_begins(header: &[u8; V6_HEADER_LEN], len: u16) -> Option<()> {
    let [_, _, _, _, _, _, next_header, ..] = *header;

    (next_header == PROTOCOL_TCP && v6_total_len(header) == u32::from(len)).then_some(())
}

#[inline]
fn v4_total_len(header: &[u8; V4_HEADER_LEN]) -> u16 {
    let [_, _, high, low, ..] = *header;
    u16::from_be_bytes([high, low])
}

#[inline]
fn v4_id(header: &[u8; V4_HEADER_LEN]) -> u16 {
    let [_, _, _, _, high, low, ..] = *header;
    u16::from_be_bytes([high, low])
}

/// The word with the flags and the offset of a fragment.
#[inline]
fn v4_fragment(header: &[u8; V4_HEADER_LEN]) -> u16 {
    let [_, _, _, _, _, _, high, low, ..] = *header;
    u16::from_be_bytes([high, low])
}

#[inline]
fn v4_checksum_is_right(header: &[u8; V4_HEADER_LEN]) -> bool {
    fold(sum(header)) == 0xffff
}

/// The bytes of the whole packet, which may be more than a `u16` counts.
#[inline]
fn v6_total_len(header: &[u8; V6_HEADER_LEN]) -> u32 {
    let [_, _, _, _, high, low, ..] = *header;
    u32::from(u16::from_be_bytes([high, low])).wrapping_add(V6_HEADER_LEN as u32)
}

#[inline]
fn seq(header: &[u8; TCP_HEADER_LEN]) -> u32 {
    let [_, _, _, _, seq_0, seq_1, seq_2, seq_3, ..] = *header;
    u32::from_be_bytes([seq_0, seq_1, seq_2, seq_3])
}

#[inline]
fn flags(header: &[u8; TCP_HEADER_LEN]) -> u8 {
    let [_, _, _, _, _, _, _, _, _, _, _, _, _, flags, ..] = *header;
    flags
}
