// SPDX-License-Identifier: GPL-2.0

//! Coarse time.
//!
//! C header: [`include/linux/timekeeping.h`](srctree/include/linux/timekeeping.h)

use crate::bindings;

/// Seconds since boot, suspended time included. Any context.
///
/// Keepalive counts suspended time, so that a laptop that wakes up finds its peers expired.
#[inline]
pub fn boottime_seconds() -> u64 {
    // SAFETY: Reading the clock has no preconditions.
    let seconds = unsafe { bindings::ktime_get_boottime_seconds() };
    u64::try_from(seconds).unwrap_or(0)
}
