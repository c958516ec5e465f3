// SPDX-License-Identifier: GPL-2.0

//! Routes that were looked up before, one a CPU.
//!
//! C header: [`include/net/dst_cache.h`](srctree/include/net/dst_cache.h)

use super::softirq::BhDisabled;
use crate::bindings;
use kernel::{
    alloc::Flags,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
    types::Opaque,
};

/// The route of one flow.
///
/// # Invariants
///
/// Initialised by `dst_cache_init`.
pub struct DstCache {
    raw: Opaque<bindings::dst_cache>,
    /// The socket mark that the routes were looked up with.
    mark: Atomic<i32>,
}

// SAFETY: The cache is per-CPU.
unsafe impl Send for DstCache {}
// SAFETY: As above; its users have bottom halves disabled.
unsafe impl Sync for DstCache {}

impl DstCache {
    /// An empty cache. Any context if `flags` allow; fails with `ENOMEM`.
    pub fn new(flags: Flags) -> Result<Self> {
        // SAFETY: All zero is valid before initialisation.
        let cache = Self {
            raw: Opaque::new(unsafe { core::mem::zeroed() }),
            mark: Atomic::new(0),
        };
        // SAFETY: The structure is ours; it holds no pointer to itself, so it may be moved.
        kernel::error::to_result(unsafe {
            bindings::dst_cache_init(cache.raw.get(), raw_flags(flags))
        })?;
        Ok(cache)
    }

    /// Forgets all routes if they were made with another mark.
    #[inline]
    pub(super) fn check_mark(&self, mark: u32) {
        if self.mark.load(Relaxed) as u32 != mark {
            self.mark.store(mark as i32, Relaxed);
            // SAFETY: By the type invariants.
            unsafe { bindings::dst_cache_reset(self.raw.get()) };
        }
    }

    #[inline]
    pub(super) fn as_raw(&self, _bh: &BhDisabled) -> *mut bindings::dst_cache {
        self.raw.get()
    }
}

/// What `flags` are called in C; anything that may not sleep is `GFP_ATOMIC`.
fn raw_flags(flags: Flags) -> bindings::gfp_t {
    if flags.contains(GFP_KERNEL) {
        kernel::bindings::GFP_KERNEL
    } else {
        kernel::bindings::GFP_ATOMIC
    }
}

impl Drop for DstCache {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; null per-CPU memory is allowed.
        unsafe { bindings::dst_cache_destroy(self.raw.get()) };
    }
}
