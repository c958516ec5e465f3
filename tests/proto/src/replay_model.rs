// SPDX-License-Identifier: GPL-2.0-only

//! What the replay window is to do: what the fuzz target compares with, too.

use crate::proto::replay::ReplayError::{self, Expired, Replayed, TooOld, Zero};
use std::collections::HashSet;

/// The rules in the plainest form, with a memory that has no end.
pub(crate) struct Model {
    accepted: HashSet<u32>,
    pub(crate) highest: u32,
    highest_at: u64,
    floor: u32,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            accepted: HashSet::new(),
            highest: 0,
            highest_at: 0,
            floor: 0,
        }
    }

    pub(crate) fn check_and_update(&mut self, id: u32, now: u64) -> Result<(), ReplayError> {
        if now >= self.highest_at + 30 {
            self.floor = self.highest;
        }
        if id == 0 {
            return Err(Zero);
        }
        if i64::from(id) <= i64::from(self.highest) - 2048 {
            return Err(TooOld);
        }
        if self.accepted.contains(&id) {
            return Err(Replayed);
        }
        if id <= self.floor {
            return Err(Expired);
        }
        self.accepted.insert(id);
        if id > self.highest {
            self.highest = id;
            self.highest_at = now;
        }
        Ok(())
    }
}
