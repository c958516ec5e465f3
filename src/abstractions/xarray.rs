// SPDX-License-Identifier: GPL-2.0

//! Objects by number, found by RCU readers.
//!
//! The `kernel` crate's `XArray` is read under its lock; the data path needs the lookup that
//! takes none.
//!
//! C header: [`include/linux/xarray.h`](srctree/include/linux/xarray.h)

use super::rcu::{Guard, RcuArc, RcuRef};
use crate::bindings;
use core::{marker::PhantomData, ptr, ptr::NonNull};
use kernel::{prelude::*, types::Opaque};

/// What stands under a number.
pub enum Entry<R> {
    /// Nothing.
    Empty,
    /// A mark without an object.
    Mark,
    /// An object.
    Object(R),
}

/// A map from `u32` to counted references and marks.
///
/// # Invariants
///
/// Each pointer entry comes from [`RcuArc::into_raw`] and is owned by the array; each value entry
/// is [`MARK`].
#[pin_data(PinnedDrop)]
pub struct XArray<T: Send + Sync + 'static> {
    #[pin]
    raw: Opaque<bindings::xarray>,
    _entries: PhantomData<RcuArc<T>>,
}

/// The value entry 0: `xa_mk_value(0)`.
const MARK: *mut c_void = ptr::without_provenance_mut(1);

/// `XA_PRESENT`: any entry that is not empty.
const PRESENT: bindings::xa_mark_t = 8;

// SAFETY: The C structure locks for itself, and what it holds may be sent and shared.
unsafe impl<T: Send + Sync + 'static> Send for XArray<T> {}
// SAFETY: As above.
unsafe impl<T: Send + Sync + 'static> Sync for XArray<T> {}

impl<T: Send + Sync + 'static> XArray<T> {
    /// An empty array.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            raw <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is valid for initialisation.
                unsafe { bindings::xa_init_flags(slot, 0) }
            }),
            _entries: PhantomData,
        })
    }

    /// # Safety
    ///
    /// `entry` must have been read from the array under `guard`.
    unsafe fn borrow<'g>(entry: *mut c_void, guard: &'g Guard) -> Entry<RcuRef<'g, T>> {
        match NonNull::new(entry) {
            None => Entry::Empty,
            Some(_) if entry == MARK => Entry::Mark,
            // SAFETY: By the type invariants and the safety requirement.
            Some(object) => Entry::Object(unsafe { RcuRef::new(object.cast(), guard) }),
        }
    }

    /// # Safety
    ///
    /// `entry` must have been taken out of the array by the caller.
    unsafe fn take(entry: *mut c_void) -> Entry<RcuArc<T>> {
        match NonNull::new(entry) {
            None => Entry::Empty,
            Some(_) if entry == MARK => Entry::Mark,
            // SAFETY: By the type invariants and the safety requirement.
            Some(object) => Entry::Object(unsafe { RcuArc::from_raw(object.cast()) }),
        }
    }

    /// What stands under `index`. Any context.
    #[inline]
    pub fn load<'g>(&self, index: u32, guard: &'g Guard) -> Entry<RcuRef<'g, T>> {
        // SAFETY: The array is initialised, and `guard` spans the use of the entry.
        unsafe { Self::borrow(bindings::xa_load(self.raw.get(), index as usize), guard) }
    }

    /// The object with the lowest number that is not below `first`. Any context.
    pub fn find<'g>(&self, first: u32, guard: &'g Guard) -> Option<RcuRef<'g, T>> {
        let mut index = first as usize;

        loop {
            // SAFETY: The array is initialised, and `guard` spans the use of the entry.
            let entry = unsafe {
                let last = u32::MAX as usize;
                let entry = bindings::xa_find(self.raw.get(), &mut index, last, PRESENT);
                Self::borrow(entry, guard)
            };
            match entry {
                Entry::Empty => return None,
                Entry::Object(object) => return Some(object),
                Entry::Mark => index = index.checked_add(1)?,
            }
        }
    }

    /// Puts `object` under `index` and returns what stood there. Process context, may sleep.
    ///
    /// Fails with `ENOMEM`, and then nothing has changed.
    pub fn store(&self, index: u32, object: RcuArc<T>) -> Result<Entry<RcuArc<T>>> {
        let object = RcuArc::into_raw(object);

        // SAFETY: The array takes the reference over; pointers to objects are aligned to more
        // than the two bits that the array keeps for itself.
        unsafe { self.exchange(index, object.as_ptr().cast()) }.inspect_err(|_| {
            // SAFETY: The array did not take it.
            drop(unsafe { RcuArc::<T>::from_raw(object) });
        })
    }

    /// Puts a mark under `index` and returns what stood there.
    ///
    /// Where something stood, this allocates nothing and can not fail.
    pub fn mark(&self, index: u32) -> Result<Entry<RcuArc<T>>> {
        // SAFETY: `MARK` is a value entry.
        unsafe { self.exchange(index, MARK) }
    }

    /// Empties `index` and returns what stood there. Process context.
    pub fn erase(&self, index: u32) -> Entry<RcuArc<T>> {
        // SAFETY: The array is initialised, and has given the entry up.
        unsafe { Self::take(bindings::xa_erase(self.raw.get(), index as usize)) }
    }

    /// # Safety
    ///
    /// `entry` must be as the type invariants say.
    unsafe fn exchange(&self, index: u32, entry: *mut c_void) -> Result<Entry<RcuArc<T>>> {
        // SAFETY: The array is initialised; the caller vouches for the entry.
        let old = unsafe {
            bindings::xa_store(
                self.raw.get(),
                index as usize,
                entry,
                kernel::bindings::GFP_KERNEL,
            )
        };
        // SAFETY: `old` is what `xa_store` returned.
        let error = unsafe { bindings::xa_err(old) };
        if error != 0 {
            return Err(Error::from_errno(error));
        }
        // SAFETY: The array has given `old` up.
        Ok(unsafe { Self::take(old) })
    }
}

#[pinned_drop]
impl<T: Send + Sync + 'static> PinnedDrop for XArray<T> {
    fn drop(self: Pin<&mut Self>) {
        let mut index = 0;

        loop {
            // SAFETY: The array is initialised, and nobody else uses it any more.
            let entry = unsafe {
                let last = u32::MAX as usize;
                bindings::xa_find(self.raw.get(), &mut index, last, PRESENT)
            };
            if entry.is_null() {
                break;
            }
            // SAFETY: As above; the array gives the entry up.
            drop(unsafe { Self::take(bindings::xa_erase(self.raw.get(), index)) });
        }
        // SAFETY: As above.
        unsafe { bindings::xa_destroy(self.raw.get()) };
    }
}
