// SPDX-License-Identifier: GPL-2.0

//! Next hops, as the routing tables have them.
//!
//! C headers: [`include/net/route.h`](srctree/include/net/route.h),
//! [`include/net/ip6_route.h`](srctree/include/net/ip6_route.h)

use super::{netdevice::NetDevice, rcu::Guard, skb::SkBuff};
use crate::bindings;
use core::ptr;

/// The next hop for `destination` over `dev`: the gateway if the route has one, else the
/// destination itself. `None` if the route does not lead over `dev`.
///
/// The route that `skb` came with is used if it has one over `dev`; policy rules see its mark.
/// Softirq context or bottom halves disabled.
pub fn next_hop_ipv4(
    dev: &NetDevice,
    skb: Option<&SkBuff>,
    destination: [u8; 4],
    guard: &Guard,
) -> Option<[u8; 4]> {
    let mut hop: bindings::__be32 = 0;
    // SAFETY: All are valid, and the guard makes the critical section that they ask for.
    let found = unsafe {
        bindings::ovpn_shim_nexthop4(
            dev.as_raw(),
            skb.map_or(ptr::null(), |skb| skb.dst(guard)),
            u32::from_ne_bytes(destination),
            skb.map_or(0, SkBuff::mark),
            &mut hop,
        )
    };
    found.then(|| hop.to_ne_bytes())
}

/// As [`next_hop_ipv4`], for IPv6.
pub fn next_hop_ipv6(
    dev: &NetDevice,
    skb: Option<&SkBuff>,
    destination: &[u8; 16],
    guard: &Guard,
) -> Option<[u8; 16]> {
    let mut hop = [0; 16];
    // SAFETY: As above; `struct in6_addr` is 16 bytes, and the shim copies whole ones.
    let found = unsafe {
        bindings::ovpn_shim_nexthop6(
            dev.as_raw(),
            skb.map_or(ptr::null(), |skb| skb.dst(guard)),
            destination.as_ptr(),
            skb.map_or(0, SkBuff::mark),
            hop.as_mut_ptr(),
        )
    };
    found.then_some(hop)
}
