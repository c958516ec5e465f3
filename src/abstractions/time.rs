// SPDX-License-Identifier: GPL-2.0

//! Coarse time.
//!
//! C header: [`include/linux/timekeeping.h`](srctree/include/linux/timekeeping.h)

use crate::bindings;
use kernel::prelude::*;

/// Seconds since boot, suspended time included. Any context.
///
/// Keepalive counts suspended time, so that a laptop that wakes up finds its peers expired.
#[inline]
pub fn boottime_seconds() -> u64 {
    // SAFETY: Reading the clock has no preconditions.
    let seconds = unsafe { bindings::ktime_get_boottime_seconds() };
    u64::try_from(seconds).unwrap_or(0)
}

/// Periods of 8 ms, or of a tick if that is longer, since some moment; wraps around. Any context.
///
/// It costs next to nothing to ask.
#[inline]
pub fn periods() -> u32 {
    const TICKS: c_ulong = match bindings::ovpn_const_HZ as c_ulong / 125 {
        0 => 1,
        ticks => ticks,
    };
    // SAFETY: A variable of the kernel that others write meanwhile, as a whole.
    let ticks = unsafe { (&raw const kernel::bindings::jiffies).read_volatile() };
    (ticks / TICKS) as u32
}
