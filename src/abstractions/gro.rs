// SPDX-License-Identifier: GPL-2.0

//! Generic receive offload for packets that a device decapsulates.
//!
//! C header: [`include/net/gro_cells.h`](srctree/include/net/gro_cells.h)

use super::{
    netdevice::NetDevice,
    skb::{Joined, SkBuff},
};
use crate::bindings;
use kernel::{prelude::*, types::Opaque};

/// One queue and poller a CPU.
///
/// # Invariants
///
/// All zero, or initialised by `gro_cells_init`.
#[repr(transparent)]
pub struct GroCells(Opaque<bindings::gro_cells>);

// SAFETY: The cells are per-CPU; init and destroy are called under RTNL.
unsafe impl Send for GroCells {}
// SAFETY: As above.
unsafe impl Sync for GroCells {}

impl GroCells {
    /// Cells that are not initialised: they take no packet.
    pub fn new() -> Self {
        // SAFETY: A null cells pointer is a valid value.
        Self(Opaque::new(unsafe { core::mem::zeroed() }))
    }

    /// Initialises the cells for `dev`, in its `ndo_init`. Fails with `ENOMEM`.
    pub(super) fn init(&self, dev: &NetDevice) -> Result {
        // SAFETY: Called once, before the device can receive.
        kernel::error::to_result(unsafe { bindings::gro_cells_init(self.0.get(), dev.as_raw()) })
    }

    /// Destroys the cells, in `ndo_uninit`: by then the device is down, so nothing is queued.
    pub(super) fn destroy(&self) {
        // SAFETY: The function does nothing for cells that are not initialised; it forgets the
        // per-CPU pointer, which is freed after a grace period.
        unsafe { bindings::gro_cells_destroy(self.0.get()) };
    }

    /// Hands `skb`, an IP packet that came out of a tunnel, to the stack as received by `dev`, by
    /// way of this CPU's cell if it could be joined with others there: that costs twice as much as
    /// the queue for all.
    ///
    /// `protocol` is `ETH_P_IP` or `ETH_P_IPV6`, in host order; `joined` says what the packet was
    /// joined from, if it was. Its checksums are taken to be right. Returns whether the packet was
    /// taken; one for a device that is down is dropped. Bottom halves disabled.
    #[inline]
    pub fn receive(
        &self,
        mut skb: SkBuff,
        dev: &NetDevice,
        protocol: u16,
        joined: Option<&Joined>,
    ) -> bool {
        // SAFETY: The packet and the device are valid.
        unsafe {
            bindings::ovpn_shim_skb_prepare_decap(skb.as_raw(), dev.as_raw(), protocol.to_be())
        };
        if let Some(joined) = joined {
            skb.set_joined(joined);
        }
        // SAFETY: The packet and the device are valid; the cells are initialised while the
        // device is up, and both functions drop packets for a device that is not.
        unsafe {
            if joined.is_some() || bindings::ovpn_shim_skb_may_be_joined(skb.as_raw()) {
                bindings::gro_cells_receive(self.0.get(), skb.into_raw()) == 0
            } else {
                bindings::netif_rx(skb.into_raw()) == 0
            }
        }
    }
}
