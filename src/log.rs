// SPDX-License-Identifier: GPL-2.0

//! Messages for people who debug.

/// Prints to the kernel log in a module built with `make DEBUG=1`, else nothing.
///
/// Key material is never an argument.
macro_rules! debug {
    ($($argument:tt)*) => {
        if cfg!(ovpn_dco_debug) {
            kernel::pr_info!($($argument)*);
        }
    };
}

/// As `debug!`, for what a sender can cause: not more often than the network stack allows.
macro_rules! debug_ratelimited {
    ($($argument:tt)*) => {
        if cfg!(ovpn_dco_debug) && $crate::abstractions::genl::may_log() {
            kernel::pr_info!($($argument)*);
        }
    };
}

pub(crate) use {debug, debug_ratelimited};
