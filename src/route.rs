// SPDX-License-Identifier: GPL-2.0

//! Which peer an inner packet goes to, and whether it may come from the peer that sent it.

use crate::{
    abstractions::{
        fib,
        netdevice::NetDevice,
        rcu::{Guard, RcuRef},
        skb::SkBuff,
    },
    interface::{Interface, Mode},
    peer::Peer,
    proto::ip::Addresses,
};

/// The peer for a packet that leaves by `dev`.
///
/// With many peers, it is the one whose address inside the tunnel is the next hop.
pub(crate) fn to_peer<'g>(
    interface: &Interface,
    dev: &NetDevice,
    skb: &SkBuff,
    addresses: &Addresses,
    guard: &'g Guard,
) -> Option<RcuRef<'g, Peer>> {
    match (interface.mode(), addresses) {
        (Mode::P2p, _) => interface.peers.only(guard),
        (Mode::Mp, Addresses::V4 { destination, .. }) => {
            let hop = fib::next_hop_ipv4(dev, Some(skb), *destination, guard)?;
            interface.peers.by_vpn_ipv4(&hop, guard)
        }
        (Mode::Mp, Addresses::V6 { destination, .. }) => {
            let hop = fib::next_hop_ipv6(dev, Some(skb), destination, guard)?;
            interface.peers.by_vpn_ipv6(&hop, guard)
        }
    }
}

/// Whether packets with this source may come from `peer`: whether an answer would go there.
#[inline]
pub(crate) fn may_come_from(
    peer: &Peer,
    dev: &NetDevice,
    addresses: &Addresses,
    guard: &Guard,
) -> bool {
    if peer.interface.mode() == Mode::P2p {
        return true;
    }
    match addresses {
        Addresses::V4 { source, .. } => peer.vpn_ipv4.is_some_and(|own| {
            own == *source || fib::next_hop_ipv4(dev, None, *source, guard) == Some(own)
        }),
        Addresses::V6 { source, .. } => peer.vpn_ipv6.is_some_and(|own| {
            own == *source || fib::next_hop_ipv6(dev, None, source, guard) == Some(own)
        }),
    }
}
