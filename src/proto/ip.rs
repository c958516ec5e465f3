// SPDX-License-Identifier: GPL-2.0-only

//! A peek at the inner IP packet: its version and its addresses.
//!
//! Nothing else of the header is checked; that is left to the network stack, which the packet comes
//! from or goes to.
//!
//! Source: RFC 791 section 3.1 and RFC 8200 section 3.

/// The bytes that are enough to peek at any packet: the longer of the two fixed headers.
pub(crate) const PEEK_LEN: usize = V6_HEADER_LEN;

/// The IPv4 header without options.
pub(crate) const V4_HEADER_LEN: usize = 20;

/// The IPv6 header without extension headers.
pub(crate) const V6_HEADER_LEN: usize = 40;

/// The version of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The addresses of an IP packet, in network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Addresses {
    /// IPv4.
    V4 {
        /// Where the packet says that it comes from.
        source: [u8; 4],
        /// Where it is to go.
        destination: [u8; 4],
    },
    /// IPv6.
    V6 {
        /// Where the packet says that it comes from.
        source: [u8; 16],
        /// Where it is to go.
        destination: [u8; 16],
    },
}

/// The version of the IP packet that `packet` begins with.
///
/// Returns [`None`] if it is neither 4 nor 6, or if the fixed header of that version is not all
/// there. The first [`PEEK_LEN`] bytes of a packet are enough, fewer only if there are no more.
#[inline]
pub(crate) fn version(packet: &[u8]) -> Option<IpVersion> {
    match packet.first()? >> 4 {
        4 if packet.len() >= V4_HEADER_LEN => Some(IpVersion::V4),
        6 if packet.len() >= V6_HEADER_LEN => Some(IpVersion::V6),
        _ => None,
    }
}

/// The addresses of the IP packet that `packet` begins with.
///
/// Returns [`None`] exactly when [`version`] does, and takes as many bytes.
#[inline]
pub(crate) fn addresses(packet: &[u8]) -> Option<Addresses> {
    // In both versions the two addresses end the fixed header, the source first.
    match version(packet)? {
        IpVersion::V4 => {
            let header = packet.first_chunk::<V4_HEADER_LEN>()?;
            let (rest, destination) = header.split_last_chunk()?;
            let (_, source) = rest.split_last_chunk()?;

            Some(Addresses::V4 {
                source: *source,
                destination: *destination,
            })
        }
        IpVersion::V6 => {
            let header = packet.first_chunk::<V6_HEADER_LEN>()?;
            let (rest, destination) = header.split_last_chunk()?;
            let (_, source) = rest.split_last_chunk()?;

            Some(Addresses::V6 {
                source: *source,
                destination: *destination,
            })
        }
    }
}
