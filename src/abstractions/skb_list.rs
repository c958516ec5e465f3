// SPDX-License-Identifier: GPL-2.0

//! Socket buffers in a row.
//!
//! C header: [`include/linux/skbuff.h`](srctree/include/linux/skbuff.h)

use super::skb::SkBuff;
use crate::bindings;
use core::{ptr, ptr::NonNull};
use kernel::{prelude::*, types::Opaque};

/// Socket buffers in a row.
///
/// # Invariants
///
/// `first` is null or the first of a list of owned buffers, linked by `next` and ended by null;
/// `last` is the last of them, or null where it is not known or there is none.
pub struct SkBuffList {
    first: *mut bindings::sk_buff,
    last: *mut bindings::sk_buff,
}

// SAFETY: Owned buffers may be handed on and freed by any thread.
unsafe impl Send for SkBuffList {}

impl SkBuffList {
    /// # Safety
    ///
    /// `first` must be the first of buffers that are linked by `next` and ended by null, of each of
    /// which the caller hands over its one reference.
    pub(super) unsafe fn from_raw(first: *mut bindings::sk_buff) -> Self {
        // INVARIANT: By the safety requirement.
        Self {
            first,
            last: ptr::null_mut(),
        }
    }

    /// An empty list.
    pub fn new() -> Self {
        Self {
            first: ptr::null_mut(),
            last: ptr::null_mut(),
        }
    }

    /// Takes the first buffer out.
    pub fn pop(&mut self) -> Option<SkBuff> {
        let first = NonNull::new(self.first)?;
        // SAFETY: By the type invariants; the buffer leaves the list.
        unsafe {
            let links = &mut (*first.as_ptr()).__bindgen_anon_1.__bindgen_anon_1;
            self.first = links.next;
            links.next = ptr::null_mut();
            if self.first.is_null() {
                self.last = ptr::null_mut();
            }
            Some(SkBuff::from_raw(first))
        }
    }

    /// Puts a buffer at the end.
    pub fn push(&mut self, skb: SkBuff) {
        let raw = skb.into_raw();

        // SAFETY: Both are valid, owned buffers, and `raw` is on no list.
        unsafe {
            (*raw).__bindgen_anon_1.__bindgen_anon_1.next = ptr::null_mut();
            if self.first.is_null() {
                self.first = raw;
            } else {
                if self.last.is_null() {
                    self.last = self.first;
                    loop {
                        let next = (*self.last).__bindgen_anon_1.__bindgen_anon_1.next;
                        if next.is_null() {
                            break;
                        }
                        self.last = next;
                    }
                }
                (*self.last).__bindgen_anon_1.__bindgen_anon_1.next = raw;
            }
        }
        self.last = raw;
    }
}

impl Drop for SkBuffList {
    fn drop(&mut self) {
        while let Some(skb) = self.pop() {
            drop(skb);
        }
    }
}

/// A queue of socket buffers that locks for itself. Any context.
///
/// # Invariants
///
/// Initialised; what is in it is owned by it, each with one reference.
#[pin_data(PinnedDrop)]
pub struct SkBuffQueue {
    #[pin]
    raw: Opaque<bindings::sk_buff_head>,
}

// SAFETY: The queue locks for itself.
unsafe impl Send for SkBuffQueue {}
// SAFETY: As above.
unsafe impl Sync for SkBuffQueue {}

impl SkBuffQueue {
    /// An empty queue.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            raw <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is valid for initialisation.
                unsafe { bindings::ovpn_shim_skb_queue_init(slot) }
            }),
        })
    }

    pub(super) fn as_raw(&self) -> *mut bindings::sk_buff_head {
        self.raw.get()
    }

    /// How many buffers are in it at this moment.
    pub fn len(&self) -> u32 {
        // SAFETY: By the type invariants; the length is read once.
        unsafe { bindings::skb_queue_len_lockless(self.as_raw()) }
    }

    /// Whether there is nothing in it at this moment.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts a buffer at the end.
    pub fn push(&self, skb: SkBuff) {
        // SAFETY: By the type invariants of both.
        unsafe { bindings::skb_queue_tail(self.as_raw(), skb.into_raw()) };
    }

    /// Puts a buffer back to where [`pop`](Self::pop) takes it.
    pub fn push_front(&self, skb: SkBuff) {
        // SAFETY: By the type invariants of both.
        unsafe { bindings::skb_queue_head(self.as_raw(), skb.into_raw()) };
    }

    /// Takes the first buffer out.
    pub fn pop(&self) -> Option<SkBuff> {
        // SAFETY: By the type invariants, what comes out is owned and on no list.
        unsafe {
            NonNull::new(bindings::skb_dequeue(self.as_raw())).map(|skb| SkBuff::from_raw(skb))
        }
    }

    /// Frees all that is in it.
    pub fn clear(&self) {
        while self.pop().is_some() {}
    }
}

#[pinned_drop]
impl PinnedDrop for SkBuffQueue {
    fn drop(self: Pin<&mut Self>) {
        self.clear();
    }
}
