// SPDX-License-Identifier: GPL-2.0-only

//! Packets in a TCP stream.
//!
//! Source: OpenVPN's network protocol documentation. Over TCP each packet, data or control, is
//! preceded by its length as a big-endian 16-bit integer that does not count itself.

/// The bytes of the length that precedes each packet.
pub(crate) const PREFIX_LEN: usize = 2;

/// What the bytes of the stream so far tell about the frame that begins with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// The length prefix has not come completely.
    NeedMore,
    /// The bytes of the frame, prefix included: `PREFIX_LEN + 1..=PREFIX_LEN + u16::MAX`. The
    /// packet itself need not have come.
    Total(usize),
}

/// The length prefix announces a packet without any bytes.
///
/// Nobody sends that. Most likely the stream is out of step, and there is no way back into step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EmptyFrame;

/// Reads the length prefix of the frame that `available` begins with.
///
/// # Errors
///
/// [`EmptyFrame`] if the length is 0.
#[inline]
pub(crate) fn frame(available: &[u8]) -> Result<Frame, EmptyFrame> {
    match available {
        [0, 0, ..] => Err(EmptyFrame),
        [high, low, ..] => {
            let packet_len = usize::from(u16::from_be_bytes([*high, *low]));
            Ok(Frame::Total(PREFIX_LEN + packet_len))
        }
        _ => Ok(Frame::NeedMore),
    }
}

/// The prefix for a packet of `packet_len` bytes.
///
/// Returns [`None`] for a length that no frame can have: 0, or above [`u16::MAX`].
#[inline]
pub(crate) fn prefix(packet_len: usize) -> Option<[u8; PREFIX_LEN]> {
    match u16::try_from(packet_len) {
        Ok(0) | Err(_) => None,
        Ok(packet_len) => Some(packet_len.to_be_bytes()),
    }
}
