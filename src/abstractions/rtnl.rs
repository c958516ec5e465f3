// SPDX-License-Identifier: GPL-2.0

//! Link types: `ip link add type …`.
//!
//! C header: [`include/net/rtnetlink.h`](srctree/include/net/rtnetlink.h)

use super::{
    netdevice::{Callbacks, Driver, Private},
    rcu::RcuArc,
};
use crate::bindings;
use core::{marker::PhantomData, mem::size_of, ptr, ptr::NonNull};
use kernel::{
    error::to_result,
    prelude::*,
    str::CStr,
    sync::atomic::{Acquire, Full},
    types::Opaque,
};

/// Attributes of `IFLA_INFO_DATA`, with the policy for each.
#[repr(transparent)]
struct Policy([bindings::nla_policy; 2]);

// SAFETY: The policy is constant.
unsafe impl Sync for Policy {}

/// `IFLA_OVPN_MODE`: u8, 0 or 1.
const MODE: u16 = bindings::IFLA_OVPN_MODE as u16;

static POLICY: Policy = Policy([
    // SAFETY: All zero is a policy without a type.
    unsafe { core::mem::zeroed() },
    bindings::nla_policy {
        type_: bindings::NLA_U8 as u8,
        validation_type: bindings::nla_policy_validation_NLA_VALIDATE_RANGE as u8,
        len: 0,
        __bindgen_anon_1: bindings::nla_policy__bindgen_ty_1 {
            __bindgen_anon_1: bindings::nla_policy__bindgen_ty_1__bindgen_ty_1 { min: 0, max: 1 },
        },
    },
]);

/// A link type, in a static.
#[repr(transparent)]
pub struct LinkOps<T: Driver>(Opaque<bindings::rtnl_link_ops>, PhantomData<T>);

// SAFETY: What changes in it does so under the locks of rtnetlink.
unsafe impl<T: Driver> Sync for LinkOps<T> {}

impl<T: Driver> LinkOps<T> {
    /// The link type `kind`.
    pub const fn new(kind: &'static CStr) -> Self {
        Self(
            Opaque::new(bindings::rtnl_link_ops {
                kind: kind.as_ptr().cast(),
                priv_size: size_of::<Private<T>>(),
                setup: Some(Self::setup),
                maxtype: MODE as c_uint,
                policy: POLICY.0.as_ptr(),
                newlink: Some(Self::newlink),
                get_size: Some(Self::get_size),
                fill_info: Some(Self::fill_info),
                // SAFETY: Null is valid for every callback, and zero for every number.
                ..unsafe { core::mem::zeroed() }
            }),
            PhantomData,
        )
    }

    pub(super) fn as_raw(&self) -> *mut bindings::rtnl_link_ops {
        self.0.get()
    }

    /// Registers the link type. Process context.
    ///
    /// Dropping the registration deletes all devices of the type, in all namespaces.
    pub fn register(&'static self) -> Result<Registration<T>> {
        // SAFETY: The structure is initialised and static.
        to_result(unsafe { bindings::rtnl_link_register(self.as_raw()) })?;
        Ok(Registration(self))
    }

    extern "C" fn setup(raw: *mut bindings::net_device) {
        // SAFETY: The device is new and ours to set up; the tables are constants.
        unsafe {
            bindings::ovpn_shim_netdev_setup(
                raw,
                T::SHAPE.mtu,
                T::SHAPE.max_mtu,
                T::SHAPE.headroom,
                T::SHAPE.gso_max,
            );
            (*raw).netdev_ops = const { &Callbacks::<T>::NETDEV };
            (*raw).ethtool_ops = const { &Callbacks::<T>::ETHTOOL };
            (*raw).priv_destructor = Some(Callbacks::<T>::destructor);
        }
    }

    extern "C" fn newlink(
        raw: *mut bindings::net_device,
        params: *mut bindings::rtnl_newlink_params,
        _extack: *mut bindings::netlink_ext_ack,
    ) -> c_int {
        kernel::error::from_result(|| {
            let mut mode = 0;
            // SAFETY: rtnetlink has validated the attributes by the policy; the table, where
            // there is one, has an entry for each.
            unsafe {
                let data = (*params).data;
                if !data.is_null() {
                    let attribute = *data.add(MODE as usize);
                    if !attribute.is_null() {
                        mode = bindings::nla_get_u8(attribute);
                    }
                }
            }

            let data = RcuArc::into_raw(T::new(mode)?);
            // SAFETY: The private area of the device, all zero so far, is a `Private<T>`.
            let private = unsafe { &*Private::<T>::of(raw) };
            private.data.xchg(data.as_ptr(), Full);

            // SAFETY: The device has been set up.
            let error = unsafe { bindings::register_netdevice(raw) };
            if error != 0 {
                // The core calls the destructor for some failures, not for all.
                Callbacks::<T>::destructor(raw);
                return Err(Error::from_errno(error));
            }
            Ok(0)
        })
    }

    extern "C" fn get_size(_: *const bindings::net_device) -> usize {
        // SAFETY: Pure arithmetic.
        let size = unsafe { bindings::nla_total_size(1) };
        usize::try_from(size).unwrap_or(0)
    }

    extern "C" fn fill_info(
        skb: *mut bindings::sk_buff,
        raw: *const bindings::net_device,
    ) -> c_int {
        // SAFETY: The device is of this driver and holds its data.
        let data = unsafe { (*Private::<T>::of(raw.cast_mut())).data.load(Acquire) };
        // SAFETY: As above.
        let Some(mode) = NonNull::new(data).map(|data| unsafe { data.as_ref() }.mode()) else {
            return 0;
        };
        // SAFETY: `skb` is the message that is being built, and the value one byte.
        unsafe { bindings::nla_put(skb, MODE as c_int, 1, ptr::from_ref(&mode).cast()) }
    }
}

/// A link type that is registered.
pub struct Registration<T: Driver>(&'static LinkOps<T>);

impl<T: Driver> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: It is registered, by construction.
        unsafe { bindings::rtnl_link_unregister(self.0.as_raw()) };
    }
}
