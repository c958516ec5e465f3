// SPDX-License-Identifier: GPL-2.0-only

//! What an opened packet is: an IP packet, or a message between the two ends.
//!
//! Messages take the place of the inner packet. Their first byte can not be that of an IP packet,
//! whose high half is 4 or 6.

use super::ip::{self, IpVersion};

/// A sign of life, sent when there is nothing else to send: OpenVPN's `ping_string`.
pub(crate) const KEEPALIVE: [u8; 16] = [
    0x2a, 0x18, 0x7b, 0xf3, 0x64, 0x1e, 0xb4, 0xcb, 0x07, 0xed, 0x2d, 0x0a, 0x98, 0x1f, 0xc7, 0x48,
];

/// The peer is leaving: OpenVPN's `occ_magic` followed by `OCC_EXIT`.
///
/// Older peers send it on the data channel; newer ones say it on the control channel.
pub(crate) const EXIT: [u8; 17] = [
    0x28, 0x7f, 0x34, 0x6b, 0xd4, 0xef, 0x7a, 0x81, 0x2d, 0x56, 0xb8, 0xd3, 0xaf, 0xc5, 0x45, 0x9c,
    0x06,
];

/// What an opened packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inner {
    /// An IP packet with at least its fixed header.
    Ip(IpVersion),
    /// Exactly [`KEEPALIVE`].
    Keepalive,
    /// Exactly [`EXIT`].
    Exit,
    /// None of these. Nobody here can use it.
    Unknown,
}

/// Tells what an opened packet is.
///
/// `inner` is the plaintext. Its first [`ip::PEEK_LEN`] bytes are enough, fewer only if there are
/// no more: the messages are shorter than that, and they are told by their length too.
#[inline]
pub(crate) fn classify(inner: &[u8]) -> Inner {
    if let Some(version) = ip::version(inner) {
        Inner::Ip(version)
    } else if inner == KEEPALIVE {
        Inner::Keepalive
    } else if inner == EXIT {
        Inner::Exit
    } else {
        Inner::Unknown
    }
}
