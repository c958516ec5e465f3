// SPDX-License-Identifier: GPL-2.0

//! Objects by key, found by RCU readers.
//!
//! C header: [`include/linux/rhashtable.h`](srctree/include/linux/rhashtable.h)

use super::rcu::{Guard, RcuArc, RcuRef};
use crate::bindings;
use core::{marker::PhantomData, mem::offset_of, ptr, ptr::NonNull};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Full, Relaxed},
    types::Opaque,
};

/// What an object carries to be found by a key of `N` bytes.
///
/// The key never changes, as readers may look at it until the object is freed.
///
/// # Invariants
///
/// `table` is null until the node is linked, then the table that it was linked into, for ever: a
/// node that has been removed may still be walked over by readers.
#[repr(C)]
#[pin_data]
pub struct Node<const N: usize> {
    #[pin]
    head: Opaque<bindings::rhlist_head>,
    key: [u8; N],
    table: Atomic<*const c_void>,
}

// SAFETY: The list head is the table's, which locks for itself.
unsafe impl<const N: usize> Send for Node<N> {}
// SAFETY: As above.
unsafe impl<const N: usize> Sync for Node<N> {}

impl<const N: usize> Node<N> {
    /// A node that is not in a table yet.
    pub fn new(key: [u8; N]) -> impl PinInit<Self> {
        pin_init!(Self {
            head: Opaque::uninit(),
            key,
            table: Atomic::new(ptr::null()),
        })
    }
}

/// Objects with a [`Node`].
///
/// # Safety
///
/// The two functions must be each other's inverse, by the offset of one field.
pub unsafe trait HasNode<const N: usize> {
    /// The object's node.
    fn node(&self) -> &Node<N>;

    /// The object that the node is in.
    ///
    /// # Safety
    ///
    /// `node` must point to the node of a `Self`.
    unsafe fn owner(node: *mut Node<N>) -> *mut Self;
}

/// Implements [`HasNode`]: `impl_has_node!(impl HasNode<4> for Peer { self.by_vpn_ipv4 });`
macro_rules! impl_has_node {
    (impl HasNode<$n:tt> for $owner:ty { self.$field:ident }) => {
        // SAFETY: Both go by the field of the given name.
        #[allow(unsafe_code)]
        unsafe impl $crate::abstractions::rhashtable::HasNode<$n> for $owner {
            fn node(&self) -> &$crate::abstractions::rhashtable::Node<$n> {
                &self.$field
            }

            unsafe fn owner(node: *mut $crate::abstractions::rhashtable::Node<$n>) -> *mut Self {
                // SAFETY: By the safety requirement of the function.
                unsafe { kernel::container_of!(node, Self, $field) }
            }
        }
    };
}
pub(crate) use impl_has_node;

/// A hash table of counted references; several objects may have the same key.
///
/// # Invariants
///
/// Each linked node belongs to an object of which the table owns a reference, taken with
/// [`RcuArc::into_raw`].
#[pin_data(PinnedDrop)]
pub struct Table<T: HasNode<N> + Send + Sync + 'static, const N: usize> {
    #[pin]
    raw: Opaque<bindings::rhltable>,
    _entries: PhantomData<RcuArc<T>>,
}

// SAFETY: The C structure locks for itself, and what it holds may be sent and shared.
unsafe impl<T: HasNode<N> + Send + Sync + 'static, const N: usize> Send for Table<T, N> {}
// SAFETY: As above.
unsafe impl<T: HasNode<N> + Send + Sync + 'static, const N: usize> Sync for Table<T, N> {}

impl<T: HasNode<N> + Send + Sync + 'static, const N: usize> Table<T, N> {
    const PARAMETERS: bindings::rhashtable_params = bindings::rhashtable_params {
        nelem_hint: 0,
        key_len: N as u16,
        key_offset: offset_of!(Node<N>, key) as u16,
        head_offset: offset_of!(Node<N>, head) as u16,
        max_size: 0,
        min_size: 0,
        insecure_elasticity: false,
        automatic_shrinking: true,
        hashfn: None,
        obj_hashfn: None,
        obj_cmpfn: None,
    };

    /// An empty table. Process context; fails with `ENOMEM`.
    pub fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            raw <- Opaque::try_ffi_init(|slot| {
                // SAFETY: `slot` is valid for initialisation, and the parameters fit `Node`.
                kernel::error::to_result(unsafe {
                    bindings::ovpn_shim_rhltable_init(slot, &Self::PARAMETERS)
                })
            }),
            _entries: PhantomData,
        }? Error)
    }

    fn identity(&self) -> *const c_void {
        self.raw.get().cast_const().cast()
    }

    /// Links `object`. Process or softirq context.
    ///
    /// An object can be linked once in its life: `EBUSY`. Else fails with what the table fails
    /// with, such as `ENOMEM`.
    pub fn insert(&self, object: RcuArc<T>) -> Result {
        let node = object.node();

        node.table
            .cmpxchg(ptr::null(), self.identity(), Full)
            .map_err(|_| EBUSY)?;

        let head = node.head.get();
        let raw = RcuArc::into_raw(object);
        // SAFETY: The node was never linked, is pinned in the object, and the table owns a
        // reference to it from here on.
        let error = unsafe { bindings::rhltable_insert(self.raw.get(), head, Self::PARAMETERS) };
        if error != 0 {
            // SAFETY: The table did not take it.
            drop(unsafe { RcuArc::<T>::from_raw(raw) });
            return Err(Error::from_errno(error));
        }
        Ok(())
    }

    /// Unlinks `object`; `false` if it was not linked here. Context as for [`Table::insert`].
    pub fn remove(&self, object: &T) -> bool {
        let node = object.node();

        if node.table.load(Relaxed) != self.identity() {
            return false;
        }
        // SAFETY: The node is initialised, as it has been linked into this table; the function
        // does nothing if it is not there any more.
        let error =
            unsafe { bindings::rhltable_remove(self.raw.get(), node.head.get(), Self::PARAMETERS) };
        if error != 0 {
            return false;
        }
        // SAFETY: The table has given up the reference that it owned.
        drop(unsafe { RcuArc::<T>::from_raw(NonNull::from(object)) });
        true
    }

    /// The object with `key` that was linked last. Any context.
    #[inline]
    pub fn lookup<'g>(&self, key: &[u8; N], guard: &'g Guard) -> Option<RcuRef<'g, T>> {
        // SAFETY: The table is initialised, the key has the length of the parameters, and
        // `guard` makes the critical section that the lookup asks for.
        let head = unsafe {
            bindings::rhltable_lookup(self.raw.get(), key.as_ptr().cast(), Self::PARAMETERS)
        };
        if head.is_null() {
            return None;
        }
        // SAFETY: By the type invariants, `head` is the first field of the node of a `T`.
        let owner = unsafe { T::owner(head.cast()) };
        // SAFETY: The object was reachable under `guard`.
        NonNull::new(owner).map(|owner| unsafe { RcuRef::new(owner, guard) })
    }

    extern "C" fn release(node: *mut c_void, _: *mut c_void) {
        // SAFETY: By the type invariants, `node` is the node of a `T`.
        let owner = unsafe { T::owner(node.cast()) };
        if let Some(owner) = NonNull::new(owner) {
            // SAFETY: The table is going away, and with it the reference that it owned.
            drop(unsafe { RcuArc::<T>::from_raw(owner) });
        }
    }
}

#[pinned_drop]
impl<T: HasNode<N> + Send + Sync + 'static, const N: usize> PinnedDrop for Table<T, N> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Nobody else uses the table any more; objects are dropped in process context,
        // where this may sleep.
        unsafe {
            bindings::rhltable_free_and_destroy(
                self.raw.get(),
                Some(Self::release),
                ptr::null_mut(),
            )
        };
    }
}
