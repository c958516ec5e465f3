// SPDX-License-Identifier: GPL-2.0

//! The module's own workqueue, and delayed work on reference-counted objects.
//!
//! The `kernel` crate's queues belong to the whole system: they can not be waited for when a
//! module goes, and its delayed work can not be cancelled.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use super::rcu::{self, RcuArc};
use crate::bindings;
use core::{marker::PhantomData, ptr, ptr::NonNull};
use kernel::{
    container_of,
    prelude::*,
    sync::atomic::{Acquire, Atomic, Relaxed, Release},
    time::Jiffies,
    types::Opaque,
};

/// The workqueue of this module, or null before [`WorkQueue::start`] and after its drop.
static QUEUE: Atomic<*mut bindings::workqueue_struct> = Atomic::new(ptr::null_mut());

/// Returns the module's workqueue; null only while the module is not running.
pub(super) fn queue() -> *mut bindings::workqueue_struct {
    QUEUE.load(Acquire)
}

/// The module's workqueue and, with it, the release of every [`RcuArc`].
///
/// The module holds one from before its first object to after its last; dropping it waits until
/// every object has been freed, so that no callback is left in the module's text.
pub struct WorkQueue(());

impl WorkQueue {
    /// Creates the workqueue. Process context.
    pub fn start() -> Result<Self> {
        // Unbound: releasing keys and peers is slow and cares for no particular CPU.
        // SAFETY: The format string has no conversions but the one that the name serves.
        let queue = unsafe {
            bindings::alloc_workqueue_noprof(
                c"%s".as_char_ptr().cast(),
                bindings::wq_flags_WQ_UNBOUND,
                0,
                c"ovpn-dco".as_char_ptr(),
            )
        };
        if queue.is_null() {
            return Err(ENOMEM);
        }
        QUEUE.store(queue, Release);
        Ok(Self(()))
    }
}

impl Drop for WorkQueue {
    fn drop(&mut self) {
        let queue = queue();
        let mut rounds: u32 = 0;

        // What is freed may free something else a grace period later (a peer its keys).
        loop {
            // SAFETY: Module exit is process context, and `queue` lives until the end of this
            // function.
            unsafe {
                bindings::rcu_barrier();
                bindings::__flush_workqueue(queue);
            }
            if rcu::live_objects() == 0 {
                break;
            }
            rounds = rounds.wrapping_add(1);
            if rounds % 1024 == 0 {
                pr_err!(
                    "waiting for {} objects to be released\n",
                    rcu::live_objects()
                );
            }
            // SAFETY: As above, this may sleep.
            unsafe { bindings::msleep(1) };
        }
        QUEUE.store(ptr::null_mut(), Relaxed);
        // SAFETY: No object is left that could queue work.
        unsafe { bindings::destroy_workqueue(queue) };
    }
}

/// What lockdep tells one kind of work from others by, in a static.
pub struct WorkClass(Opaque<bindings::lock_class_key>);

// SAFETY: Only the address counts.
unsafe impl Sync for WorkClass {}

impl WorkClass {
    /// A class of its own.
    pub const fn new() -> Self {
        Self(Opaque::uninit())
    }
}

/// What a [`DelayedWork`] does.
pub trait Run<const ID: u64 = 0>: Sized + Send + Sync + 'static {
    /// The embedded work item.
    fn work(&self) -> &DelayedWork<Self, ID>;

    /// Called in process context, never twice at once for the same item.
    fn run(this: RcuArc<Self>);
}

/// A work item inside an object of type `T`, run on the module's workqueue. `ID` tells several in
/// one object apart.
///
/// # Invariants
///
/// `owner` is null or points to the value of a live [`RcuArc`] that has this item as its
/// [`Run::work`]; while the item is pending it owns a reference to it.
#[pin_data]
pub struct DelayedWork<T, const ID: u64 = 0> {
    #[pin]
    raw: Opaque<bindings::delayed_work>,
    owner: Atomic<*mut T>,
    _owner: PhantomData<T>,
}

// SAFETY: Workqueue functions may be called on an item from any thread.
unsafe impl<T: Send + Sync, const ID: u64> Send for DelayedWork<T, ID> {}
// SAFETY: As above; all state is the workqueue's or atomic.
unsafe impl<T: Send + Sync, const ID: u64> Sync for DelayedWork<T, ID> {}

impl<T: Run<ID>, const ID: u64> DelayedWork<T, ID> {
    /// A new item of a kind, not pending.
    pub fn new(class: &'static WorkClass) -> impl PinInit<Self> {
        pin_init!(Self {
            raw <- Opaque::ffi_init(move |slot| {
                // SAFETY: `slot` is valid for initialisation, and the class is static.
                unsafe {
                    bindings::ovpn_shim_init_delayed_work(
                        slot,
                        Some(Self::trampoline),
                        class.0.get(),
                    )
                }
            }),
            owner: Atomic::new(ptr::null_mut()),
            _owner: PhantomData,
        })
    }

    /// Makes the item of `this` run after `delay` jiffies, whether it was pending or not.
    ///
    /// Any context but hard interrupts.
    pub fn schedule(this: &RcuArc<T>, delay: Jiffies) {
        let item = this.work();
        let owner = RcuArc::into_raw(this.clone());

        item.owner.store(owner.as_ptr(), Release);
        // SAFETY: The item is initialised and pinned in `owner`, of which it holds a reference
        // from here until it runs or is cancelled.
        let was_pending = unsafe {
            bindings::mod_delayed_work_on(
                bindings::wq_misc_consts_WORK_CPU_UNBOUND as c_int,
                queue(),
                item.raw.get(),
                delay,
            )
        };
        if was_pending {
            // SAFETY: The pending item held a reference already; this takes back the second.
            drop(unsafe { RcuArc::<T>::from_raw(owner) });
        }
    }

    /// Cancels the item and waits for it if it is running. Process context, not from the item.
    pub fn cancel(this: &RcuArc<T>) {
        let item = this.work();

        // Not `cancel_delayed_work_sync`: what is queued while that waits is refused without a
        // word, and `schedule` would take the item for the owner of a reference.
        loop {
            // SAFETY: The item is initialised and pinned.
            if unsafe { bindings::cancel_delayed_work(item.raw.get()) } {
                if let Some(owner) = NonNull::new(item.owner.load(Acquire)) {
                    // SAFETY: By the type invariants the item, which was pending and is not any
                    // more, held this reference.
                    drop(unsafe { RcuArc::<T>::from_raw(owner) });
                }
            }
            // SAFETY: As above, and this context may sleep.
            if !unsafe { bindings::flush_work(&raw mut (*item.raw.get()).work) } {
                break;
            }
            // It was running, and may have queued itself again.
        }
    }

    extern "C" fn trampoline(work: *mut bindings::work_struct) {
        // SAFETY: Only items of this type are given this function, and theirs is the `work` of
        // a `delayed_work`.
        let raw = unsafe { container_of!(work, bindings::delayed_work, work) };
        // SAFETY: `Opaque` is transparent, and `raw` the field of that name.
        let item =
            unsafe { container_of!(raw.cast::<Opaque<bindings::delayed_work>>(), Self, raw) };
        // SAFETY: The item lives, as it holds a reference to its owner.
        let owner = unsafe { (*item).owner.load(Acquire) };

        if let Some(owner) = NonNull::new(owner) {
            // SAFETY: By the type invariants; the item is not pending any more.
            T::run(unsafe { RcuArc::<T>::from_raw(owner) });
        }
    }
}
