// SPDX-License-Identifier: GPL-2.0-only

//! The packet ids of the sending side.
//!
//! Source: the OpenVPN data channel v2 wire format. The packet id is the part of the AEAD nonce
//! that changes, so an id used twice under one key gives the key away. Ids start at 1 and a key
//! that has run out of them is never used again.

use core::iter::FusedIterator;

/// A range of packet ids that belongs to its holder alone, in the order to be sent.
///
/// It can not be cloned, since a copy would yield each id again. Ids that are not taken from it are
/// lost, which does no harm: the receiver sees them as packets that the network dropped.
#[derive(Debug)]
#[must_use = "the ids have been taken from the counter and are lost if not used"]
pub(crate) struct PacketIds {
    /// The next id to yield, of no meaning once `left` is 0.
    next: u32,
    /// How many ids are still to be yielded.
    left: u32,
}

impl PacketIds {
    /// Makes the range that an atomic counter has been advanced over.
    ///
    /// `before` is what the `fetch_add(count)` returned. The counter belongs to one key, starts
    /// at 0 and only ever grows; the first packet id is 1. It has 64 bits so that the additions that
    /// still happen once the key has run out can not bring it round to ids that have been used.
    ///
    /// Returns [`None`] if any id of the range is above [`u32::MAX`]. The key is exhausted then
    /// and nothing may be sealed with it any more, not even with the lower ids of the range.
    #[inline]
    pub(crate) fn reserve(before: u64, count: u32) -> Option<Self> {
        let before = u32::try_from(before).ok()?;
        before.checked_add(count)?;

        Some(Self {
            // Wraps only for the empty range behind the last id.
            next: before.wrapping_add(1),
            left: count,
        })
    }
}

impl Iterator for PacketIds {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        let id = self.next;
        // Wraps only behind the last id, when nothing is left.
        self.next = id.wrapping_add(1);
        Some(id)
    }
}

impl FusedIterator for PacketIds {}
