// SPDX-License-Identifier: GPL-2.0

//! Pages that are used again once the packets that they were lent to are gone.
//!
//! A fresh page costs its clearing, which takes longer than to check what is encrypted into it.
//!
//! C header: [`include/net/page_pool/helpers.h`](srctree/include/net/page_pool/helpers.h)

use crate::bindings;
use core::{mem::ManuallyDrop, ptr::NonNull, slice};
use kernel::{error::from_err_ptr, prelude::*};

/// Pages come 2^`ORDER` at a time, as those of the kernel's own fragment allocators do.
const ORDER: u32 = 3;

/// How many of them may lie idle in a pool: 2 MiB with pages of 4 KiB.
const IDLE: u32 = 64;

/// Bytes of the largest [`Area`].
pub const MAX_AREA: u32 = (kernel::page::PAGE_SIZE as u32) << ORDER;

/// A pool, used by one CPU at a time.
///
/// # Invariants
///
/// Points to a page pool of pages of order [`ORDER`] that has not been destroyed.
pub struct PagePool(NonNull<bindings::page_pool>);

// SAFETY: A pool may be used by any CPU, one after the other; exclusive references see to that.
unsafe impl Send for PagePool {}

impl PagePool {
    /// An empty pool. Process context; fails with `ENOMEM`.
    pub fn new() -> Result<Self> {
        // SAFETY: The function has no preconditions.
        let raw = from_err_ptr(unsafe { bindings::ovpn_shim_page_pool_create(ORDER, IDLE) })?;
        // INVARIANT: The pool is new and ours.
        NonNull::new(raw).map(Self).ok_or(ENOMEM)
    }

    /// Lends `len` bytes, at most [`MAX_AREA`], that lie together. What they hold is what was
    /// there before. Any context but hard interrupts; `None` if memory is short.
    #[inline]
    pub fn lend(&mut self, len: u32) -> Option<Area> {
        if len == 0 || len > MAX_AREA {
            return None;
        }
        let mut offset = 0;
        // SAFETY: By the type invariants, and the exclusive reference serialises callers.
        let page = unsafe {
            bindings::page_pool_alloc_frag(
                self.0.as_ptr(),
                &mut offset,
                len,
                kernel::bindings::GFP_ATOMIC | kernel::bindings::__GFP_NOWARN,
            )
        };
        let page = NonNull::new(page)?;
        // SAFETY: The page has just been allocated, not in high memory.
        let start = unsafe { bindings::ovpn_shim_page_address(page.as_ptr()) };
        // INVARIANT: The pool gave us `len` bytes from `offset` on, with a reference.
        Some(Area {
            page,
            start: NonNull::new(start.cast::<u8>().wrapping_add(offset as usize))?,
            len,
        })
    }
}

impl Drop for PagePool {
    fn drop(&mut self) {
        // SAFETY: By the type invariants. The pool itself waits for the pages that are still
        // lent, in the kernel's own code.
        unsafe { bindings::page_pool_destroy(self.0.as_ptr()) };
    }
}

/// Bytes of a page that nobody else has.
///
/// # Invariants
///
/// `len` initialised bytes from `start` on, within `page`, belong to this value, which owns a
/// reference of the pool's to `page`.
pub struct Area {
    page: NonNull<bindings::page>,
    start: NonNull<u8>,
    len: u32,
}

// SAFETY: What is owned may be used by any thread.
unsafe impl Send for Area {}

impl Area {
    /// How many bytes it has.
    #[inline]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// The bytes.
    #[inline]
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: By the type invariants; pages of a pool were cleared or written before.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len as usize) }
    }

    /// Cuts off the first `len` bytes; `None`, and nothing changes, if there are not more.
    #[inline]
    pub fn split_front(&mut self, len: u32) -> Option<Area> {
        let rest = self.len.checked_sub(len).filter(|rest| *rest != 0)?;
        // SAFETY: By the type invariants there is a reference that makes this one valid.
        unsafe { bindings::page_pool_ref_page(self.page.as_ptr()) };
        // INVARIANT: The bytes are divided, and each part has its reference.
        let front = Area {
            page: self.page,
            start: self.start,
            len,
        };
        // SAFETY: Still within the page, as `rest` is not 0.
        self.start = unsafe { self.start.add(len as usize) };
        self.len = rest;
        Some(front)
    }

    /// Gives the area away: its page, where in the page it begins, its first byte, its length.
    ///
    /// The page is to be released as that of a buffer that is marked for recycling.
    #[inline]
    pub(super) fn into_raw(self) -> (NonNull<bindings::page>, u32, NonNull<u8>, u32) {
        let this = ManuallyDrop::new(self);
        // SAFETY: By the type invariants, both pointers are into the same page.
        let offset = unsafe {
            let base = bindings::ovpn_shim_page_address(this.page.as_ptr()).cast::<u8>();
            this.start.as_ptr().offset_from(base)
        };
        (this.page, offset as u32, this.start, this.len)
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; the page knows its pool, which lives while it has pages
        // that are lent.
        unsafe { bindings::ovpn_shim_page_pool_return(self.page.as_ptr()) };
    }
}
