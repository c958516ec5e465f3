// SPDX-License-Identifier: GPL-2.0

//! Bottom halves.
//!
//! C header: [`include/linux/bottom_half.h`](srctree/include/linux/bottom_half.h)

use crate::bindings;
use core::marker::PhantomData;

/// Keeps softirqs off this CPU while it lives.
///
/// A lock that softirq context takes must be taken with one of these in scope.
pub struct BhDisabled(PhantomData<*mut ()>);

impl BhDisabled {
    /// Disables bottom halves on this CPU, in process or softirq context.
    #[inline]
    pub fn new() -> Self {
        // SAFETY: Bottom halves may be disabled anywhere but in hard interrupts, from which
        // nothing in this module is called; `drop` undoes it on the same CPU, as the type is not
        // `Send`.
        unsafe { bindings::local_bh_disable() };
        Self(PhantomData)
    }
}

impl Drop for BhDisabled {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By construction, this undoes the call in `new`.
        unsafe { bindings::local_bh_enable() };
    }
}
