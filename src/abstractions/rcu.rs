// SPDX-License-Identifier: GPL-2.0

//! Reference-counted objects that RCU readers may find.
//!
//! An object lives as long as references to it do, and then until all RCU readers that could
//! have found it are done. A reader therefore needs no reference of its own to look at it.
//!
//! C headers: [`include/linux/rcupdate.h`](srctree/include/linux/rcupdate.h),
//! [`include/linux/refcount.h`](srctree/include/linux/refcount.h)

use super::workqueue;
use crate::bindings;
use core::{marker::PhantomData, ops::Deref, ptr, ptr::NonNull};
use kernel::{
    container_of,
    prelude::*,
    sync::atomic::{Acquire, Atomic, Full, Relaxed},
    types::Opaque,
};

pub use kernel::sync::rcu::Guard;

/// The guard of code that is called within a read-side critical section.
///
/// # Safety
///
/// The critical section must last for `'g`.
#[inline]
pub(super) unsafe fn assumed_guard<'g>() -> &'g Guard {
    const { assert!(size_of::<Guard>() == 0) };
    // SAFETY: The type has no bytes; what it stands for holds by the safety requirement.
    unsafe { NonNull::dangling().as_ref() }
}

/// How many objects there are, in all the module.
static LIVE: Atomic<i64> = Atomic::new(0);

/// The number of objects that have not been freed yet.
pub(super) fn live_objects() -> i64 {
    LIVE.load(Relaxed)
}

#[pin_data]
struct Inner<T> {
    refs: Opaque<bindings::refcount_t>,
    release: Opaque<bindings::rcu_work>,
    #[pin]
    value: T,
}

/// A reference to a `T` that counts.
///
/// When the last one goes, `T` is dropped after a grace period, in process context.
///
/// # Invariants
///
/// Points to the `value` of a live `Inner<T>`, whose count this reference is part of.
pub struct RcuArc<T: Send + Sync + 'static>(NonNull<T>);

// SAFETY: References may be sent and shared as `T` may.
unsafe impl<T: Send + Sync + 'static> Send for RcuArc<T> {}
// SAFETY: As above.
unsafe impl<T: Send + Sync + 'static> Sync for RcuArc<T> {}

impl<T: Send + Sync + 'static> RcuArc<T> {
    /// Allocates an object and initialises it in place.
    ///
    /// `flags` say whether this may sleep. Fails with what `init` fails with, or `ENOMEM`.
    pub fn pin_init<E>(init: impl PinInit<T, E>, flags: kernel::alloc::Flags) -> Result<Self>
    where
        Error: From<E>,
    {
        let inner = KBox::try_pin_init(
            try_pin_init!(Inner {
                // SAFETY: An all-zero `refcount_t` is valid.
                refs: Opaque::new(unsafe { core::mem::zeroed() }),
                release: Opaque::uninit(),
                value <- init,
            }? Error),
            flags,
        )?;
        // SAFETY: Nobody else knows of the object yet.
        unsafe { bindings::refcount_set(inner.refs.get(), 1) };
        LIVE.add(1, Relaxed);

        // SAFETY: The object stays where it is until `release`, which drops it in place.
        let inner = KBox::into_raw(unsafe { Pin::into_inner_unchecked(inner) });
        // SAFETY: `inner` is valid, so the address of its field is, and not null.
        Ok(Self(unsafe {
            NonNull::new_unchecked(&raw mut (*inner).value)
        }))
    }

    /// Gives the reference away; [`RcuArc::from_raw`] takes it back.
    pub(super) fn into_raw(self) -> NonNull<T> {
        core::mem::ManuallyDrop::new(self).0
    }

    /// # Safety
    ///
    /// `raw` must come from [`RcuArc::into_raw`], each of whose results serves once.
    pub(super) unsafe fn from_raw(raw: NonNull<T>) -> Self {
        // INVARIANT: By the safety requirement.
        Self(raw)
    }

    /// The object, as a reader finds it.
    pub fn borrow<'g>(&'g self, guard: &'g Guard) -> RcuRef<'g, T> {
        // SAFETY: The object is reachable, as this reference is.
        unsafe { RcuRef::new(self.0, guard) }
    }

    /// Whether both are references to the same object.
    pub fn is(&self, other: &T) -> bool {
        ptr::eq(self.0.as_ptr(), other)
    }

    fn inner(value: NonNull<T>) -> *mut Inner<T> {
        // SAFETY: By the invariants of `RcuArc` and `RcuRef`, the only callers.
        unsafe { container_of!(value.as_ptr(), Inner<T>, value) }
    }

    extern "C" fn release(work: *mut bindings::work_struct) {
        // SAFETY: Only the `release` items of `Inner<T>` are given this function.
        let inner = unsafe {
            let rcu_work = container_of!(work, bindings::rcu_work, work);
            container_of!(
                rcu_work.cast::<Opaque<bindings::rcu_work>>(),
                Inner<T>,
                release
            )
        };
        // SAFETY: The count is zero and a grace period has passed since: nobody can reach the
        // object any more, and it came from a `KBox`.
        drop(unsafe { KBox::from_raw(inner) });
        LIVE.fetch_sub(1, Relaxed);
    }
}

impl<T: Send + Sync + 'static> Clone for RcuArc<T> {
    fn clone(&self) -> Self {
        // SAFETY: By the type invariants, the object lives and its count is not zero.
        unsafe { bindings::refcount_inc((*Self::inner(self.0)).refs.get()) };
        // INVARIANT: The new reference has been counted.
        Self(self.0)
    }
}

impl<T: Send + Sync + 'static> Deref for RcuArc<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: By the type invariants.
        unsafe { self.0.as_ref() }
    }
}

impl<T: Send + Sync + 'static> Drop for RcuArc<T> {
    fn drop(&mut self) {
        let inner = Self::inner(self.0);

        // SAFETY: By the type invariants.
        if unsafe { bindings::refcount_dec_and_test((*inner).refs.get()) } {
            // SAFETY: This was the last reference, so nobody else uses `release`, and the object
            // stays until its function has run. The queue lives while objects do.
            unsafe {
                let work = (*inner).release.get();
                bindings::ovpn_shim_init_rcu_work(work, Some(Self::release));
                bindings::queue_rcu_work(workqueue::queue(), work);
            }
        }
    }
}

/// An object that an RCU reader found. It may have lost its last reference already.
///
/// # Invariants
///
/// Points to the `value` of an `Inner<T>` that is not freed before `'g` ends, as `'g` is within
/// a read-side critical section that began while the object could be found.
pub struct RcuRef<'g, T: Send + Sync + 'static>(NonNull<T>, PhantomData<&'g Guard>);

impl<T: Send + Sync + 'static> Clone for RcuRef<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T: Send + Sync + 'static> Copy for RcuRef<'_, T> {}

impl<'g, T: Send + Sync + 'static> RcuRef<'g, T> {
    /// # Safety
    ///
    /// `value` must be reachable for RCU readers, as the value of an [`RcuArc`], at some moment
    /// of the critical section of the guard.
    pub(super) unsafe fn new(value: NonNull<T>, _guard: &'g Guard) -> Self {
        // INVARIANT: By the safety requirement.
        Self(value, PhantomData)
    }

    /// The object, for as long as the guard lives.
    #[inline]
    pub fn get(self) -> &'g T {
        // SAFETY: By the type invariants.
        unsafe { self.0.as_ref() }
    }

    /// A counted reference, if the object has not lost its last one.
    pub fn to_arc(self) -> Option<RcuArc<T>> {
        // SAFETY: By the type invariants, the object has not been freed.
        let alive = unsafe { bindings::refcount_inc_not_zero((*RcuArc::inner(self.0)).refs.get()) };
        // INVARIANT: The reference has been counted.
        alive.then(|| RcuArc(self.0))
    }
}

impl<T: Send + Sync + 'static> Deref for RcuRef<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        (*self).get()
    }
}

/// A place for an object that readers load and writers replace.
///
/// # Invariants
///
/// Null, or a reference from [`RcuArc::into_raw`] that the cell owns.
pub struct RcuCell<T: Send + Sync + 'static>(Atomic<*mut T>, PhantomData<RcuArc<T>>);

impl<T: Send + Sync + 'static> RcuCell<T> {
    /// A cell with `value` in it.
    pub fn new(value: Option<RcuArc<T>>) -> Self {
        Self(Atomic::new(Self::raw(value)), PhantomData)
    }

    fn raw(value: Option<RcuArc<T>>) -> *mut T {
        value.map_or(ptr::null_mut(), |value| RcuArc::into_raw(value).as_ptr())
    }

    /// What is in the cell now.
    #[inline]
    pub fn load<'g>(&self, guard: &'g Guard) -> Option<RcuRef<'g, T>> {
        // SAFETY: What the cell owns is reachable, and is released only after a grace period
        // from the moment that it is taken out.
        NonNull::new(self.0.load(Acquire)).map(|value| unsafe { RcuRef::new(value, guard) })
    }

    /// Puts `value` into the cell and returns what was there.
    pub fn replace(&self, value: Option<RcuArc<T>>) -> Option<RcuArc<T>> {
        let old = self.0.xchg(Self::raw(value), Full);
        // SAFETY: By the type invariants, of which the exchange made us the owner.
        NonNull::new(old).map(|old| unsafe { RcuArc::from_raw(old) })
    }
}

impl<T: Send + Sync + 'static> Drop for RcuCell<T> {
    fn drop(&mut self) {
        self.replace(None);
    }
}
