// SPDX-License-Identifier: GPL-2.0

//! Network devices of a driver.
//!
//! C header: [`include/linux/netdevice.h`](srctree/include/linux/netdevice.h)

use super::{
    gro::GroCells,
    net::Net,
    rcu::{Guard, RcuArc, RcuRef},
    rtnl::LinkOps,
    skb::{SkBuff, Weight},
    softirq::BhDisabled,
};
use crate::bindings;
use core::{marker::PhantomData, ptr, ptr::NonNull};
use kernel::{
    prelude::*,
    str::CStr,
    sync::atomic::{Acquire, Atomic, Release},
    types::Opaque,
};

/// A network device, borrowed.
#[repr(transparent)]
pub struct NetDevice(Opaque<bindings::net_device>);

impl NetDevice {
    /// # Safety
    ///
    /// `raw` must point to a device that stays for `'a`.
    pub(super) unsafe fn from_raw<'a>(raw: *mut bindings::net_device) -> &'a Self {
        // SAFETY: The type is transparent; the caller vouches for the lifetime.
        unsafe { &*raw.cast() }
    }

    pub(super) fn as_raw(&self) -> *mut bindings::net_device {
        self.0.get()
    }

    /// The interface index.
    pub fn ifindex(&self) -> u32 {
        // SAFETY: The device is valid; the index changes only with the namespace, and a reader
        // sees the old or the new one.
        let ifindex = unsafe { ptr::read_volatile(&raw const (*self.as_raw()).ifindex) };
        u32::try_from(ifindex).unwrap_or(0)
    }

    /// The namespace that the device is in now, for as long as `guard` lives.
    pub fn net<'g>(&self, _guard: &'g Guard) -> &'g Net {
        // SAFETY: The device is valid, and a namespace is freed a grace period after its last
        // device has left.
        unsafe { Net::from_raw(bindings::dev_net(self.as_raw())) }
    }

    /// Counts packets that the device handed to the stack. Bottom halves disabled.
    #[inline]
    pub fn count_rx(&self, weight: Weight) {
        // SAFETY: The device asked for these statistics; the counters are per-CPU and bottom
        // halves are disabled on the data path.
        unsafe { bindings::ovpn_shim_netdev_count_rx(self.as_raw(), weight.packets, weight.bytes) };
    }

    /// Counts packets that were sent. Bottom halves disabled.
    #[inline]
    pub fn count_tx(&self, weight: Weight) {
        // SAFETY: As above.
        unsafe { bindings::ovpn_shim_netdev_count_tx(self.as_raw(), weight.packets, weight.bytes) };
    }

    /// Counts packets that were received and not handed on. Bottom halves disabled.
    #[cold]
    pub fn count_rx_dropped(&self, packets: u32) {
        // SAFETY: As above.
        unsafe { bindings::ovpn_shim_netdev_count_dropped(self.as_raw(), packets, 0) };
    }

    /// Counts packets that the stack gave and that were not sent. Bottom halves disabled.
    #[cold]
    pub fn count_tx_dropped(&self, packets: u32) {
        // SAFETY: As above.
        unsafe { bindings::ovpn_shim_netdev_count_dropped(self.as_raw(), 0, packets) };
    }

    /// Keeps the stack from telling senders of better routes past this device.
    ///
    /// Under RTNL, from [`Driver::open`]: the setting is lost when the device changes namespace.
    pub fn disable_redirects(&self) {
        // SAFETY: The device is valid, and `ndo_open` is called under RTNL.
        unsafe { bindings::ovpn_shim_netdev_no_redirects(self.as_raw()) };
    }

    /// The driver's data of the device, if it is one of this driver.
    pub(super) fn data<T: Driver>(&self) -> Option<RcuRefSource<T>> {
        // SAFETY: The device is valid.
        let ops = unsafe { (*self.as_raw()).rtnl_link_ops };

        if !ptr::eq(ops, T::link().as_raw()) {
            return None;
        }
        // SAFETY: Devices with these link operations have a `Private<T>`.
        let private = unsafe { &*Private::<T>::of(self.as_raw()) };
        NonNull::new(private.data.load(Acquire)).map(RcuRefSource)
    }
}

/// The driver's data of a device, found but not yet borrowed.
pub(super) struct RcuRefSource<T>(pub(super) NonNull<T>);

/// Finds the device with `ifindex` in `net`.
///
/// `None` if there is none; `Some(None)` if it is not one of this driver.
pub fn find<'g, T: Driver>(
    net: &Net,
    ifindex: u32,
    guard: &'g Guard,
) -> Option<Option<RcuRef<'g, T>>> {
    let ifindex = c_int::try_from(ifindex).ok()?;
    // SAFETY: The namespace is valid, and the guard makes the critical section.
    let raw = unsafe { bindings::dev_get_by_index_rcu(net.as_raw(), ifindex) };
    if raw.is_null() {
        return None;
    }
    // SAFETY: The device stays for as long as the guard.
    let dev = unsafe { NetDevice::from_raw(raw) };
    // SAFETY: The data of a device is released when the device is freed, a grace period after
    // it can not be found any more.
    Some(
        dev.data::<T>()
            .map(|data| unsafe { RcuRef::new(data.0, guard) }),
    )
}

/// What the private area of a device holds.
///
/// # Invariants
///
/// `data` is null or a reference from [`RcuArc::into_raw`] that the device owns.
#[repr(C)]
pub(super) struct Private<T> {
    pub(super) data: Atomic<*mut T>,
}

impl<T> Private<T> {
    /// # Safety
    ///
    /// `dev` must be a device whose private area is of this type.
    pub(super) unsafe fn of(dev: *mut bindings::net_device) -> *mut Self {
        // SAFETY: By the safety requirement.
        unsafe { bindings::netdev_priv(dev) }.cast()
    }
}

/// The device of a driver's data, while the device is there.
///
/// # Invariants
///
/// Null, or a device between its `ndo_init` and its `ndo_uninit`. A device is freed a grace
/// period after the latter.
pub struct DeviceCell(Atomic<*mut bindings::net_device>);

impl DeviceCell {
    /// No device.
    pub fn new() -> Self {
        Self(Atomic::new(ptr::null_mut()))
    }

    /// The device, unless it is being deleted. Any context.
    #[inline]
    pub fn get<'g>(&self, _guard: &'g Guard) -> Option<&'g NetDevice> {
        let raw = NonNull::new(self.0.load(Acquire))?;
        // SAFETY: By the type invariants, the device is not freed before the guard ends.
        Some(unsafe { NetDevice::from_raw(raw.as_ptr()) })
    }
}

/// What a device is made with. All lengths in bytes.
pub struct Shape {
    /// The default MTU.
    pub mtu: u32,
    /// The largest MTU that may be set.
    pub max_mtu: u32,
    /// What the stack should leave free before a packet.
    pub headroom: u32,
    /// How many bytes the stack may send as one large packet.
    pub gso_max: u32,
}

/// A driver of virtual layer 3 devices.
pub trait Driver: Sized + Send + Sync + 'static {
    /// Its link type.
    fn link() -> &'static LinkOps<Self>;

    /// Its name and version, as `ethtool -i` shows them.
    const NAME: &'static CStr;
    /// See [`Driver::NAME`].
    const VERSION: &'static CStr;
    /// What its devices are like.
    const SHAPE: Shape;

    /// Makes the data of a device of mode `mode`. Process context, under RTNL.
    fn new(mode: u8) -> Result<RcuArc<Self>>;

    /// The mode that [`Driver::new`] was given.
    fn mode(&self) -> u8;

    /// Where the device is kept.
    fn device(&self) -> &DeviceCell;

    /// The device's GRO cells.
    fn gro(&self) -> &GroCells;

    /// The device goes up. Process context, under RTNL.
    fn open(&self, dev: &NetDevice);

    /// The device goes away: end everything that could use it. Process context, under RTNL. After
    /// this, [`Driver::device`] is empty.
    fn uninit(this: &RcuArc<Self>, dev: &NetDevice);

    /// Sends `skb`, an IP packet.
    fn transmit(&self, dev: &NetDevice, skb: SkBuff, bh: &BhDisabled);
}

/// The C callbacks of a driver.
pub(super) struct Callbacks<T: Driver>(PhantomData<T>);

impl<T: Driver> Callbacks<T> {
    pub(super) const NETDEV: bindings::net_device_ops = bindings::net_device_ops {
        ndo_init: Some(Self::init),
        ndo_uninit: Some(Self::uninit),
        ndo_open: Some(Self::open),
        ndo_start_xmit: Some(Self::start_xmit),
        // SAFETY: Null is valid for every callback.
        ..unsafe { core::mem::zeroed() }
    };

    pub(super) const ETHTOOL: bindings::ethtool_ops = bindings::ethtool_ops {
        get_drvinfo: Some(Self::get_drvinfo),
        get_link: Some(bindings::ethtool_op_get_link),
        get_link_ksettings: Some(bindings::ovpn_shim_get_link_ksettings),
        get_ts_info: Some(bindings::ethtool_op_get_ts_info),
        // SAFETY: Null is valid for every callback.
        ..unsafe { core::mem::zeroed() }
    };

    /// The device and its data.
    ///
    /// # Safety
    ///
    /// `raw` must be a device of this driver that has its data, and stays for `'a`.
    unsafe fn parts<'a>(raw: *mut bindings::net_device) -> Option<(&'a NetDevice, &'a T)> {
        // SAFETY: By the safety requirement; the data lives as long as the device.
        unsafe {
            let data = (*Private::<T>::of(raw)).data.load(Acquire);
            Some((NetDevice::from_raw(raw), NonNull::new(data)?.as_ref()))
        }
    }

    extern "C" fn init(raw: *mut bindings::net_device) -> c_int {
        // SAFETY: `newlink` gave the device its data before it registered it.
        let Some((dev, data)) = (unsafe { Self::parts(raw) }) else {
            return ENODEV.to_errno();
        };
        if let Err(error) = data.gro().init(dev) {
            return error.to_errno();
        }
        // INVARIANT: This is `ndo_init`.
        data.device().0.store(raw, Release);
        0
    }

    extern "C" fn uninit(raw: *mut bindings::net_device) {
        // SAFETY: As in `init`.
        let Some((dev, data)) = (unsafe { Self::parts(raw) }) else {
            return;
        };
        // SAFETY: The device owns a reference to its data, so the count is not zero; the copy
        // made here is given back.
        let this = core::mem::ManuallyDrop::new(unsafe { RcuArc::from_raw(NonNull::from(data)) });
        T::uninit(&this, dev);
        data.device().0.store(ptr::null_mut(), Release);
        data.gro().destroy();
    }

    extern "C" fn open(raw: *mut bindings::net_device) -> c_int {
        // SAFETY: As in `init`.
        if let Some((dev, data)) = unsafe { Self::parts(raw) } {
            data.open(dev);
        }
        0
    }

    extern "C" fn start_xmit(
        skb: *mut bindings::sk_buff,
        raw: *mut bindings::net_device,
    ) -> bindings::netdev_tx_t {
        if let Some(skb) = NonNull::new(skb) {
            // SAFETY: The stack hands its reference over.
            let skb = unsafe { SkBuff::from_raw(skb) };
            // SAFETY: As in `init`.
            if let Some((dev, data)) = unsafe { Self::parts(raw) } {
                // SAFETY: The stack calls this with bottom halves disabled.
                data.transmit(dev, skb, unsafe { BhDisabled::assumed() });
            }
        }
        bindings::netdev_tx_NETDEV_TX_OK
    }

    extern "C" fn get_drvinfo(_: *mut bindings::net_device, info: *mut bindings::ethtool_drvinfo) {
        // SAFETY: `info` is valid for the call, and the others are C strings.
        unsafe {
            bindings::ovpn_shim_set_drvinfo(info, T::NAME.as_char_ptr(), T::VERSION.as_char_ptr())
        };
    }

    /// Called when the last reference to the device goes.
    pub(super) extern "C" fn destructor(raw: *mut bindings::net_device) {
        // SAFETY: The device is of this driver.
        let private = unsafe { &*Private::<T>::of(raw) };
        let data = private
            .data
            .xchg(ptr::null_mut(), kernel::sync::atomic::Full);
        // SAFETY: By the invariants of `Private`, whose owner this function has become.
        drop(NonNull::new(data).map(|data| unsafe { RcuArc::from_raw(data) }));
    }
}
