// SPDX-License-Identifier: GPL-2.0-only

//! The headers of the packets that one large packet of the network stack is cut into.
//!
//! The stack hands over up to 64 KiB with one header. What each packet cut from it gets is what
//! Linux' own segmentation would give it: `inet_gso_segment`, `ipv6_gso_segment`,
//! `tcp_gso_segment` and `__udp_gso_segment`.

use super::headers::{
    flag, fold, sum, PROTOCOL_TCP, PROTOCOL_UDP, TCP_HEADER_LEN, TCP_HEADER_MAX, UDP_HEADER_LEN,
};
use super::ip::{version, IpVersion, V4_HEADER_LEN, V6_HEADER_LEN};

/// The most that the headers take together: IPv4 and TCP with all options that they can have.
pub(crate) const MAX_HEADERS: usize = V4_HEADER_MAX + TCP_HEADER_MAX;

/// The IPv4 header with as many options as it can have.
const V4_HEADER_MAX: usize = 60;

/// Bytes 6 and 7 of the IPv4 header: more fragments follow, or this is not the first.
const V4_FRAGMENT: u16 = 0x3fff;

/// The types of the IPv4 options that hold a source route.
const SOURCE_ROUTES: [u8; 2] = [131, 137];

/// The transport protocol of a packet that is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// A stream, cut anywhere.
    Tcp,
    /// Datagrams of one flow.
    Udp,
}

/// One of the packets that a large one is cut into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    /// Counts from 0.
    pub(crate) index: u32,
    /// Where in the whole payload its own begins.
    pub(crate) offset: u32,
    /// The bytes of its payload.
    pub(crate) payload_len: u16,
    /// The sum over its payload, as the kernel's `csum_partial` returns it: not folded, over 16-bit
    /// words as they lie in memory.
    pub(crate) payload_sum: u32,
    /// Nothing of the whole packet follows.
    pub(crate) last: bool,
}

/// What segments need of the IP header.
#[derive(Clone, Copy)]
enum Network {
    V4 {
        /// Over all that does not change.
        sum: u16,
        /// The id of the first segment.
        id: u16,
        /// By how much it grows from segment to segment: 0 or 1.
        id_step: u16,
    },
    V6,
}

/// What segments need of the transport header.
#[derive(Clone, Copy)]
enum Stream {
    Tcp {
        /// The sequence number of the first segment.
        seq: u32,
        /// The flags of the whole packet.
        flags: u8,
        /// Those that only the first segment has.
        first_only: u8,
    },
    Udp,
}

/// The headers of a large packet, ready to be written for each of its segments.
pub(crate) struct Segmenter {
    /// The headers, 0 where segments differ.
    template: [u8; MAX_HEADERS],
    /// The bytes of the IP header.
    network_len: u16,
    /// The bytes of the transport header.
    transport_len: u16,
    network: Network,
    transport: Stream,
    /// Over the pseudo-header but for the length, and over all of the transport header that does
    /// not change.
    transport_sum: u16,
}

impl Segmenter {
    /// Takes the network and the transport header of the whole packet, and nothing more.
    ///
    /// With `fixed_id` every segment keeps the id of the IPv4 header, else it counts up.
    ///
    /// Returns [`None`] if they are not what `transport` says, or if the packet is a fragment, has
    /// an IPv6 extension header or may have a source route: then the destination in the header is
    /// not the one that the checksum covers. That is for the network stack to cut.
    pub(crate) fn new(headers: &[u8], transport: Transport, fixed_id: bool) -> Option<Self> {
        let mut template = [0; MAX_HEADERS];
        let kept = template.get_mut(..headers.len())?;
        kept.copy_from_slice(headers);

        let protocol = match transport {
            Transport::Tcp => PROTOCOL_TCP,
            Transport::Udp => PROTOCOL_UDP,
        };
        let network_len = match version(kept)? {
            IpVersion::V4 => usize::from(kept.first()? & 0x0f) * 4,
            IpVersion::V6 => V6_HEADER_LEN,
        };
        let (network_header, transport_header) = kept.split_at_mut_checked(network_len)?;
        let (network, addresses) = match version(network_header)? {
            IpVersion::V4 => take_v4(network_header, protocol, fixed_id)?,
            IpVersion::V6 => (Network::V6, take_v6(network_header, protocol)?),
        };
        let transport = match transport {
            Transport::Tcp => take_tcp(transport_header)?,
            Transport::Udp => take_udp(transport_header)?,
        };
        let transport_sum = fold(
            addresses
                .wrapping_add(u64::from(u16::from(protocol).to_be()))
                .wrapping_add(sum(transport_header)),
        );

        Some(Self {
            network_len: u16::try_from(network_len).ok()?,
            transport_len: u16::try_from(transport_header.len()).ok()?,
            template,
            network,
            transport,
            transport_sum,
        })
    }

    /// Leaves CWR on every segment, else only the first has it.
    ///
    /// For a packet of type `SKB_GSO_TCP_ACCECN`: with accurate ECN the flag is one bit of a counter.
    pub(crate) fn with_cwr_on_all(mut self) -> Self {
        if let Stream::Tcp { first_only, .. } = &mut self.transport {
            *first_only = 0;
        }
        self
    }

    /// The bytes of the headers of each segment.
    #[inline]
    pub(crate) fn header_len(&self) -> usize {
        usize::from(self.network_len) + usize::from(self.transport_len)
    }

    /// Writes the complete headers of a segment, with all checksums, to where `to` begins.
    ///
    /// Returns false if `to` is shorter than [`header_len`](Self::header_len), or if the segment is
    /// longer than its headers can say. What `to` holds then is of no use.
    #[inline]
    #[must_use]
    pub(crate) fn write(&self, segment: &Segment, to: &mut [u8]) -> bool {
        self.try_write(segment, to).is_some()
    }

    #[inline]
    fn try_write(&self, segment: &Segment, to: &mut [u8]) -> Option<()> {
        let header_len = self.header_len();
        let transport_len = self.transport_len.checked_add(segment.payload_len)?;
        let headers = to.get_mut(..header_len)?;

        headers.copy_from_slice(self.template.get(..header_len)?);
        let (network, transport) = headers.split_at_mut_checked(self.network_len.into())?;

        match self.network {
            Network::V4 { sum, id, id_step } => {
                let total_len = transport_len.checked_add(self.network_len)?;
                // The id has 16 bits, so that no more of the index counts.
                let id = id.wrapping_add(id_step.wrapping_mul(segment.index as u16));
                let sum = u64::from(sum)
                    .wrapping_add(u64::from(total_len.to_be()))
                    .wrapping_add(u64::from(id.to_be()));

                let [_, _, len_0, len_1, id_0, id_1, _, _, _, _, sum_0, sum_1, ..] =
                    network.first_chunk_mut::<V4_HEADER_LEN>()?;
                [*len_0, *len_1] = total_len.to_be_bytes();
                [*id_0, *id_1] = id.to_be_bytes();
                [*sum_0, *sum_1] = (!fold(sum)).to_ne_bytes();
            }
            Network::V6 => {
                let [_, _, _, _, len_0, len_1, ..] = network.first_chunk_mut::<V6_HEADER_LEN>()?;
                [*len_0, *len_1] = transport_len.to_be_bytes();
            }
        }

        let sum = u64::from(self.transport_sum)
            .wrapping_add(u64::from(segment.payload_sum))
            .wrapping_add(u64::from(transport_len.to_be()));

        match self.transport {
            Stream::Tcp {
                seq,
                mut flags,
                first_only,
            } => {
                let seq = seq.wrapping_add(segment.offset);
                if segment.index != 0 {
                    flags &= !first_only;
                }
                if !segment.last {
                    flags &= !(flag::FIN | flag::PSH);
                }
                let sum = sum
                    .wrapping_add(u64::from(seq.to_be()))
                    .wrapping_add(u64::from(u16::from(flags).to_be()));

                let header = transport.first_chunk_mut::<TCP_HEADER_LEN>()?;
                let [_, _, _, _, seq_0, seq_1, seq_2, seq_3, rest @ ..] = header;
                let [_, _, _, _, _, to_flags, _, _, sum_0, sum_1, ..] = rest;
                [*seq_0, *seq_1, *seq_2, *seq_3] = seq.to_be_bytes();
                *to_flags = flags;
                [*sum_0, *sum_1] = (!fold(sum)).to_ne_bytes();
            }
            Stream::Udp => {
                // The length stands in the header and in the pseudo-header.
                let sum = sum.wrapping_add(u64::from(transport_len.to_be()));
                let checksum = match !fold(sum) {
                    // 0 would say that there is none.
                    0 => 0xffff,
                    checksum => checksum,
                };

                let [_, _, _, _, len_0, len_1, sum_0, sum_1] =
                    transport.first_chunk_mut::<UDP_HEADER_LEN>()?;
                [*len_0, *len_1] = transport_len.to_be_bytes();
                [*sum_0, *sum_1] = checksum.to_ne_bytes();
            }
        }
        Some(())
    }
}

/// Takes what differs out of an IPv4 header. Also returns the sum over its addresses.
fn take_v4(header: &mut [u8], protocol: u8, fixed_id: bool) -> Option<(Network, u64)> {
    let (fixed, options) = header.split_first_chunk_mut::<V4_HEADER_LEN>()?;
    // Byte by byte: that one which is no type has the value of one is rare, and does no harm.
    if options.iter().any(|byte| SOURCE_ROUTES.contains(byte)) {
        return None;
    }

    let [_, _, len_0, len_1, id_0, id_1, fragment_0, fragment_1, _, found, sum_0, sum_1, addresses @ ..] =
        fixed;
    let fragment = u16::from_be_bytes([*fragment_0, *fragment_1]);
    if *found != protocol || fragment & V4_FRAGMENT != 0 {
        return None;
    }
    let addresses = sum(addresses);
    let id = u16::from_be_bytes([*id_0, *id_1]);
    for byte in [len_0, len_1, id_0, id_1, sum_0, sum_1] {
        *byte = 0;
    }

    let network = Network::V4 {
        sum: fold(sum(header)),
        id,
        id_step: u16::from(!fixed_id),
    };
    Some((network, addresses))
}

/// Takes what differs out of an IPv6 header. Returns the sum over its addresses.
fn take_v6(header: &mut [u8], protocol: u8) -> Option<u64> {
    let [_, _, _, _, len_0, len_1, next, _, addresses @ ..] =
        header.first_chunk_mut::<V6_HEADER_LEN>()?;
    if *next != protocol {
        return None;
    }
    for byte in [len_0, len_1] {
        *byte = 0;
    }
    Some(sum(addresses))
}

/// Takes what differs out of a TCP header.
fn take_tcp(header: &mut [u8]) -> Option<Stream> {
    let header_len = header.len();
    let fixed = header.first_chunk_mut::<TCP_HEADER_LEN>()?;
    let [_, _, _, _, seq_0, seq_1, seq_2, seq_3, rest @ ..] = fixed;
    let [_, _, _, _, data_offset, flags, _, _, sum_0, sum_1, _, _] = rest;
    if usize::from(*data_offset >> 4) * 4 != header_len {
        return None;
    }

    let stream = Stream::Tcp {
        seq: u32::from_be_bytes([*seq_0, *seq_1, *seq_2, *seq_3]),
        flags: *flags,
        first_only: flag::CWR,
    };
    for byte in [seq_0, seq_1, seq_2, seq_3, flags, sum_0, sum_1] {
        *byte = 0;
    }
    Some(stream)
}

/// Takes what differs out of a UDP header.
fn take_udp(header: &mut [u8]) -> Option<Stream> {
    let [_, _, _, _, rest @ ..] = <&mut [u8; UDP_HEADER_LEN]>::try_from(header).ok()?;
    *rest = [0; 4];
    Some(Stream::Udp)
}
