// SPDX-License-Identifier: GPL-2.0

//! The parameters of the module. Only a debug build has any.
//!
//! C header: [`include/linux/moduleparam.h`](srctree/include/linux/moduleparam.h)

use crate::bindings;

/// The packet id that new keys begin with: `first_packet_id`, for tests of a key that runs out.
pub fn first_packet_id() -> u32 {
    // SAFETY: Only reads a number.
    unsafe { bindings::ovpn_shim_first_packet_id() }
}
