// SPDX-License-Identifier: GPL-2.0

//! Safe Rust over the C kernel APIs that the `kernel` crate does not wrap yet.
//!
//! One file per C subsystem. All `unsafe` code of the module stands below this directory.

// Written as parts of the `kernel` crate would be, whose items other crates use.
#![allow(unreachable_pub)]

pub mod aead;
pub mod chacha20poly1305;
pub mod dst_cache;
pub mod errno;
pub mod fib;
pub mod genl;
pub mod gro;
pub mod hrtimer;
pub mod memory;
pub mod net;
pub mod netdevice;
pub mod netlink;
pub mod page_pool;
#[cfg(ovpn_dco_debug)]
pub mod parameters;
pub mod rcu;
pub mod rhashtable;
pub mod rtnl;
pub mod skb;
pub mod skb_list;
pub mod skb_parts;
pub mod socket;
pub mod softirq;
pub mod tcp;
pub mod tcp_attach;
pub mod tcp_overrides;
pub mod time;
pub mod udp_tunnel;
pub mod workqueue;
pub mod xarray;
