// SPDX-License-Identifier: GPL-2.0-only

//! The replay window of the receiving side.
//!
//! Source: OpenVPN's C drivers for the data channel, which fix what `--replay-window` sets in
//! userspace to 2048 ids and 30 s. The bitmap is a ring of words, so that a window that slides
//! clears words instead of shifting them: RFC 6479.

/// How many ids the window covers, the highest included. An id is too old once the highest is this
/// many ahead of it.
pub(crate) const WINDOW_LEN: u32 = 2048;

/// For how many seconds after the highest id came lower ones are still accepted.
///
/// Only a new highest id starts the time again. If any accepted one did, as in the C drivers,
/// whoever holds packets back could stretch it by letting them go one by one.
pub(crate) const BACKTRACK_SECONDS: u64 = 30;

const WORD_BITS: u32 = u64::BITS;

/// One word more than the window has bits for: the window need not begin where a word does, and
/// words are cleared as a whole.
const WORDS: usize = (WINDOW_LEN / WORD_BITS) as usize + 1;

/// Why a packet id was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplayError {
    /// The id is 0, which no sender may use.
    Zero,
    /// The id is [`WINDOW_LEN`] or more behind the highest: nothing is known of it any more.
    TooOld,
    /// A packet with this id has been accepted already.
    Replayed,
    /// The id is new, but comes [`BACKTRACK_SECONDS`] or more after what was the highest by then:
    /// somebody may have held it back.
    Expired,
}

/// The packet ids that have been accepted under one key.
pub(crate) struct ReplayWindow {
    /// One bit for each id, in a ring of words. In the words that the window covers, the bits above
    /// `highest` are clear.
    accepted: [u64; WORDS],
    /// The highest id accepted, 0 before the first.
    highest: u32,
    /// No new id is accepted at or below this one.
    floor: u32,
    /// When `highest` was accepted.
    highest_at: u64,
}

impl ReplayWindow {
    /// A window that has seen no packet.
    pub(crate) const fn new() -> Self {
        Self {
            accepted: [0; WORDS],
            highest: 0,
            floor: 0,
            highest_at: 0,
        }
    }

    /// Accepts a packet id once, and never again.
    ///
    /// To be called only after the tag of the packet has been verified: before that anybody could
    /// slide the window past the ids that the peer is about to send.
    ///
    /// `now` is in seconds, of any clock that does not go back. It need not be fresh: if it is from
    /// before the highest id came, no time has passed since.
    ///
    /// # Errors
    ///
    /// See [`ReplayError`]. A refused packet leaves the window as it was.
    #[inline]
    pub(crate) fn check_and_update(&mut self, packet_id: u32, now: u64) -> Result<(), ReplayError> {
        if packet_id == 0 {
            return Err(ReplayError::Zero);
        }

        let bit = 1 << (packet_id % WORD_BITS);
        let expired = now.saturating_sub(self.highest_at) >= BACKTRACK_SECONDS;

        match self.highest.checked_sub(packet_id) {
            None => {
                if expired {
                    // What has not come by now stays refused after the silence has ended.
                    self.floor = self.highest;
                }
                self.slide_to(packet_id);
                self.highest_at = self.highest_at.max(now);
            }
            Some(behind) => {
                if behind >= WINDOW_LEN {
                    return Err(ReplayError::TooOld);
                }
                if *self.word(packet_id / WORD_BITS) & bit != 0 {
                    return Err(ReplayError::Replayed);
                }
                if expired || packet_id <= self.floor {
                    return Err(ReplayError::Expired);
                }
            }
        }

        *self.word(packet_id / WORD_BITS) |= bit;
        Ok(())
    }

    /// Makes `packet_id`, which must be above the highest, the highest.
    #[inline]
    fn slide_to(&mut self, packet_id: u32) {
        let newly_covered = self.highest / WORD_BITS + 1..=packet_id / WORD_BITS;

        // After a jump beyond the window, once around the ring clears everything.
        for number in newly_covered.take(WORDS) {
            *self.word(number) = 0;
        }
        self.highest = packet_id;
    }

    /// The word with the bits of the ids from `number * WORD_BITS` on.
    #[inline]
    fn word(&mut self, number: u32) -> &mut u64 {
        // Can not be out of bounds, whatever the number.
        &mut self.accepted[number as usize % WORDS]
    }
}
