// SPDX-License-Identifier: GPL-2.0

//! Memory that held secrets.
//!
//! C header: [`include/linux/string.h`](srctree/include/linux/string.h)

use crate::bindings;

/// Overwrites `secret` with zeroes, even if nobody reads it again.
pub fn wipe(secret: &mut [u8]) {
    // SAFETY: The slice is valid for writing.
    unsafe { bindings::memzero_explicit(secret.as_mut_ptr().cast(), secret.len()) };
}
