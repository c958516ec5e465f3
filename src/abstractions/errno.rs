// SPDX-License-Identifier: GPL-2.0

//! Error numbers that not every `kernel` crate names.
//!
//! C header: [`include/uapi/asm-generic/errno.h`](srctree/include/uapi/asm-generic/errno.h)

use crate::bindings;
use kernel::prelude::*;

/// The socket is of a kind that this can not be done with.
pub fn eopnotsupp() -> Error {
    Error::from_errno(-(bindings::EOPNOTSUPP as c_int))
}

/// The file is not a socket.
pub fn enotsock() -> Error {
    Error::from_errno(-(bindings::ENOTSOCK as c_int))
}

/// The other end is not reachable any more.
pub fn enotconn() -> Error {
    Error::from_errno(-(bindings::ENOTCONN as c_int))
}

/// The tag of a packet is not right.
pub fn ebadmsg() -> Error {
    Error::from_errno(-(bindings::EBADMSG as c_int))
}

/// A packet would come back to where it was sent from.
pub fn eloop() -> Error {
    Error::from_errno(-(bindings::ELOOP as c_int))
}
