// SPDX-License-Identifier: GPL-2.0

//! Network namespaces.
//!
//! C header: [`include/net/net_namespace.h`](srctree/include/net/net_namespace.h)

use crate::bindings;
use core::{ops::Deref, ptr::NonNull};
use kernel::types::Opaque;

/// A network namespace, borrowed from whoever keeps it.
#[repr(transparent)]
pub struct Net(Opaque<bindings::net>);

impl Net {
    /// # Safety
    ///
    /// `raw` must point to a namespace that lives for `'a`.
    pub(super) unsafe fn from_raw<'a>(raw: *mut bindings::net) -> &'a Self {
        // SAFETY: The type is transparent; the caller vouches for the lifetime.
        unsafe { &*raw.cast() }
    }

    pub(super) fn as_raw(&self) -> *mut bindings::net {
        self.0.get()
    }
}

/// A counted reference to a network namespace.
///
/// # Invariants
///
/// Points to a namespace of which a reference is owned.
pub struct NetRef(NonNull<bindings::net>);

// SAFETY: References may be held and dropped by any thread.
unsafe impl Send for NetRef {}
// SAFETY: As above.
unsafe impl Sync for NetRef {}

impl NetRef {
    /// A reference to `net`; `None` if it is going away already. Any context.
    pub fn get(net: &Net) -> Option<Self> {
        // SAFETY: The namespace has not been freed.
        NonNull::new(unsafe { bindings::maybe_get_net(net.as_raw()) }).map(Self)
    }
}

impl Deref for NetRef {
    type Target = Net;

    fn deref(&self) -> &Net {
        // SAFETY: By the type invariants.
        unsafe { Net::from_raw(self.0.as_ptr()) }
    }
}

impl Drop for NetRef {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::put_net(self.0.as_ptr()) };
    }
}
