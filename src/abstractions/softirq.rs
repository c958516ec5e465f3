// SPDX-License-Identifier: GPL-2.0

//! Bottom halves.
//!
//! C header: [`include/linux/bottom_half.h`](srctree/include/linux/bottom_half.h)

use crate::bindings;
use core::{
    marker::PhantomData,
    ops::{Deref, DerefMut},
    ptr::NonNull,
};
use kernel::sync::{SpinLock, SpinLockGuard};

/// Keeps softirqs off this CPU while it lives.
///
/// A lock that softirq context takes must be taken by [`LockBh::lock_bh`], or where softirqs are off.
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

    /// The same for code that is called with bottom halves disabled.
    ///
    /// # Safety
    ///
    /// They must stay disabled for `'a`.
    #[inline]
    pub(super) unsafe fn assumed<'a>() -> &'a Self {
        // SAFETY: The type has no bytes; what it stands for holds by the safety requirement.
        unsafe { NonNull::dangling().as_ref() }
    }
}

impl Drop for BhDisabled {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By construction, this undoes the call in `new`.
        unsafe { bindings::local_bh_enable() };
    }
}

/// A spin lock is held, with bottom halves disabled.
pub struct BhLocked<'a, T> {
    // In this order they go: softirqs must stay off until the lock is free.
    lock: SpinLockGuard<'a, T>,
    _bh: BhDisabled,
}

impl<T> Deref for BhLocked<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.lock
    }
}

impl<T: Unpin> DerefMut for BhLocked<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.lock
    }
}

/// Taking a lock that softirq context takes, too, in any context.
pub trait LockBh<T> {
    /// Disables bottom halves, and takes the lock. Process or softirq context.
    fn lock_bh(&self) -> BhLocked<'_, T>;
}

impl<T> LockBh<T> for SpinLock<T> {
    #[inline]
    fn lock_bh(&self) -> BhLocked<'_, T> {
        let bh = BhDisabled::new();

        BhLocked {
            lock: self.lock(),
            _bh: bh,
        }
    }
}
