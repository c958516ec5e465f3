// SPDX-License-Identifier: GPL-2.0

//! How fast packets come, and whether they should wait for each other.
//!
//! Those of somebody who waits for an answer to each are better sent at once, however fast they come. So are
//! those that do not go together, being of different sizes or senders. Either shows by waiting in vain.

use crate::abstractions::time;
use kernel::sync::atomic::{Atomic, Relaxed};

/// Packets in a [period](time::periods) from which on more are expected: a thousand in a second.
const FAST: u32 = 8;
/// For how many periods packets are let wait in vain, and for how many no more do then.
const IN_VAIN: u32 = 2;
const REST: u32 = 32;

/// No CPU yet.
const ANY: u32 = u32::MAX;

/// How fast packets for a peer come, and on which CPU. Several at once may miscount; nothing depends on it
/// but speed.
pub(crate) struct Pace {
    /// When the last one came.
    period: Atomic<u32>,
    /// How many came in that period, up to [`FAST`].
    count: Atomic<u32>,
    /// Whether as many came in the period before.
    fast: Atomic<bool>,
    /// The CPU that they come from; not kept up to date while none wait.
    cpu: Atomic<u32>,
    /// How many came from others in that period.
    foreign: Atomic<u32>,
    /// When packets that wait were last found to be of no use: none do for [`REST`] periods.
    rest_from: Atomic<u32>,
}

impl Pace {
    /// They have not come yet.
    pub(crate) fn new() -> Self {
        let now = time::periods();
        Self {
            period: Atomic::new(now),
            count: Atomic::new(0),
            fast: Atomic::new(false),
            cpu: Atomic::new(ANY),
            foreign: Atomic::new(0),
            rest_from: Atomic::new(now.wrapping_sub(REST)),
        }
    }

    /// One more packet comes, on this CPU; whether it is worth its while to wait for others.
    #[inline]
    pub(crate) fn step(&self, cpu: u32) -> bool {
        let now = time::periods();
        let last = self.period.load(Relaxed);
        let count = self.count.load(Relaxed);

        if now != last {
            let fast = count >= FAST && now.wrapping_sub(last) == 1;
            self.fast.store(fast, Relaxed);
            self.count.store(1, Relaxed);
            self.foreign.store(0, Relaxed);
            self.period.store(now, Relaxed);
        } else if count < FAST {
            self.count.store(count.wrapping_add(1), Relaxed);
        }
        if (count < FAST && !self.fast.load(Relaxed))
            || now.wrapping_sub(self.rest_from.load(Relaxed)) < REST
        {
            return false;
        }
        match self.cpu.load(Relaxed) {
            mine if mine == cpu => true,
            ANY => {
                self.cpu.store(cpu, Relaxed);
                true
            }
            _ => {
                self.comes_from_elsewhere(cpu, now);
                false
            }
        }
    }

    /// Flows from several CPUs would be sent by each other's, and overtake themselves: none wait then.
    #[cold]
    fn comes_from_elsewhere(&self, cpu: u32, now: u32) {
        let foreign = self.foreign.load(Relaxed).wrapping_add(1);

        self.foreign.store(foreign, Relaxed);
        if foreign >= FAST {
            self.cpu.store(cpu, Relaxed);
            self.rest_from.store(now, Relaxed);
        }
    }

    /// One has waited in vain. `from` is since when they do.
    pub(crate) fn in_vain(&self, from: &mut Option<u32>) {
        let now = time::periods();
        let since = from.map_or(u32::MAX, |from| now.wrapping_sub(from));

        if since > 2 * IN_VAIN {
            *from = Some(now);
        } else if since >= IN_VAIN {
            self.rest_from.store(now, Relaxed);
            *from = None;
        }
    }
}
