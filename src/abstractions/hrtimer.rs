// SPDX-License-Identifier: GPL-2.0

//! Timers of microseconds on reference-counted objects.
//!
//! The `kernel` crate's timers need its own kinds of pointers, of which none is freed after an RCU grace
//! period.
//!
//! C header: [`include/linux/hrtimer.h`](srctree/include/linux/hrtimer.h)

use super::{rcu::RcuArc, softirq::BhDisabled};
use crate::bindings;
use core::{marker::PhantomData, ptr, ptr::NonNull};
use kernel::{
    container_of,
    prelude::*,
    sync::atomic::{Acquire, Atomic, Full, Release},
    types::Opaque,
};

/// What a [`SoftTimer`] does.
pub trait Expire: Sized + Send + Sync + 'static {
    /// The embedded timer.
    fn timer(&self) -> &SoftTimer<Self>;

    /// The time has come. Softirq context, on the CPU that started the timer.
    fn expired(this: RcuArc<Self>, bh: &BhDisabled);
}

/// A timer inside an object of type `T`.
///
/// # Invariants
///
/// While `armed`, the timer owns a reference to the object at `owner`, which has it as its
/// [`Expire::timer`], and will run once.
#[pin_data]
pub struct SoftTimer<T> {
    #[pin]
    raw: Opaque<bindings::hrtimer>,
    owner: Atomic<*mut T>,
    armed: Atomic<bool>,
    _owner: PhantomData<T>,
}

// SAFETY: Timer functions may be called from any thread.
unsafe impl<T: Send + Sync> Send for SoftTimer<T> {}
// SAFETY: As above; all state is the timer's or atomic.
unsafe impl<T: Send + Sync> Sync for SoftTimer<T> {}

impl<T: Expire> SoftTimer<T> {
    const MODE: bindings::hrtimer_mode = bindings::hrtimer_mode_HRTIMER_MODE_REL_PINNED_SOFT;

    /// A new timer, not started.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            raw <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is valid for initialisation.
                unsafe {
                    bindings::hrtimer_setup(
                        slot,
                        Some(Self::trampoline),
                        bindings::CLOCK_MONOTONIC as c_int,
                        Self::MODE,
                    )
                }
            }),
            owner: Atomic::new(ptr::null_mut()),
            armed: Atomic::new(false),
            _owner: PhantomData,
        })
    }

    /// Lets the timer of `this` expire on this CPU `nanoseconds` from now, if it has not been started
    /// already. Softirq context or bottom halves disabled.
    pub fn start(this: &RcuArc<T>, nanoseconds: u32, _bh: &BhDisabled) {
        let timer = this.timer();

        if timer.armed.xchg(true, Full) {
            return;
        }
        // INVARIANT: The reference is the timer's until it has expired.
        let owner = RcuArc::into_raw(this.clone());
        timer.owner.store(owner.as_ptr(), Release);
        // SAFETY: The timer is initialised and pinned in `owner`, of which it holds a reference. It may
        // be on its last instructions after it has expired, which the function allows for.
        unsafe {
            bindings::hrtimer_start_range_ns(timer.raw.get(), i64::from(nanoseconds), 0, Self::MODE)
        };
    }

    extern "C" fn trampoline(raw: *mut bindings::hrtimer) -> bindings::hrtimer_restart {
        // SAFETY: Only timers of this type are given this function; `Opaque` is transparent.
        let timer = unsafe { container_of!(raw.cast::<Opaque<bindings::hrtimer>>(), Self, raw) };
        // SAFETY: The timer lives, as it holds a reference to its owner.
        let owner = unsafe { (*timer).owner.load(Acquire) };
        // SAFETY: A soft timer expires in softirq context.
        let bh = unsafe { BhDisabled::assumed() };

        if let Some(owner) = NonNull::new(owner) {
            // SAFETY: By the type invariants; the reference is ours once `armed` is not set, and what
            // it may be the last of is freed only after a grace period, for which softirqs count.
            let owner = unsafe { RcuArc::<T>::from_raw(owner) };
            owner.timer().armed.store(false, Release);
            T::expired(owner, bh);
        }
        bindings::hrtimer_restart_HRTIMER_NORESTART
    }
}
