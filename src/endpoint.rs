// SPDX-License-Identifier: GPL-2.0

//! The bind of a UDP peer: its remote address and the local one that it talks to.

use crate::{
    abstractions::{
        dst_cache::DstCache,
        netdevice::NetDevice,
        rcu::RcuArc,
        rhashtable::{impl_has_node, Node},
        skb::{SkBuff, UdpAddresses},
        socket::Sock,
        softirq::BhDisabled,
        udp_tunnel,
    },
    config::{IpAddress, SocketAddress},
    proto::packet::PeerId,
};
use kernel::{alloc::Flags, prelude::*};

/// Bytes of a remote address as a table key.
pub(crate) const KEY_LEN: usize = 24;

/// An endpoint never changes: a peer that floats gets a new one.
#[pin_data]
pub(crate) struct Endpoint {
    #[pin]
    by_remote: Node<24>,
    /// Whose endpoint this is.
    pub(crate) peer: PeerId,
    /// Where the peer is.
    pub(crate) remote: SocketAddress,
    /// Which of our addresses it writes to; `None` if that is not known yet.
    pub(crate) local: Option<IpAddress>,
    route: DstCache,
}

impl_has_node!(impl HasNode<24> for Endpoint { self.by_remote });

/// The table key of a remote address.
pub(crate) fn key(remote: &SocketAddress) -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    let (head, rest) = key.split_at_mut(8);
    let (address, port, scope): (&[u8], u16, u32) = match remote {
        SocketAddress::V4 { address, port } => (address, *port, 0),
        SocketAddress::V6 {
            address,
            port,
            scope_id,
        } => (address, *port, *scope_id),
    };
    let [p0, p1] = port.to_be_bytes();
    let [s0, s1, s2, s3] = scope.to_be_bytes();

    head.copy_from_slice(&[address.len() as u8, 0, p0, p1, s0, s1, s2, s3]);
    for (to, from) in rest.iter_mut().zip(address) {
        *to = *from;
    }
    key
}

/// What a packet's outer headers say: who sent it, to which of our addresses.
pub(crate) fn of_packet(addresses: &UdpAddresses) -> (SocketAddress, IpAddress) {
    match *addresses {
        UdpAddresses::V4 {
            source,
            source_port,
            destination,
        } => (
            SocketAddress::V4 {
                address: source,
                port: source_port,
            },
            IpAddress::V4(destination),
        ),
        UdpAddresses::V6 {
            source,
            source_port,
            destination,
            scope_id,
        } => (
            SocketAddress::V6 {
                address: source,
                port: source_port,
                scope_id,
            },
            IpAddress::V6(destination),
        ),
    }
}

impl Endpoint {
    /// Makes an endpoint. Any context that `flags` allow; fails with `ENOMEM`.
    pub(crate) fn new(
        peer: PeerId,
        remote: SocketAddress,
        local: Option<IpAddress>,
        flags: Flags,
    ) -> Result<RcuArc<Self>> {
        let route = DstCache::new(flags)?;

        RcuArc::pin_init(
            pin_init!(Self {
                by_remote <- Node::new(key(&remote)),
                peer,
                remote,
                local,
                route,
            }),
            flags,
        )
    }

    /// Whether this is where a packet came from, and where it went to.
    #[inline]
    pub(crate) fn matches(&self, packet: &UdpAddresses) -> bool {
        match (packet, &self.remote, &self.local) {
            (
                UdpAddresses::V4 {
                    source,
                    source_port,
                    destination,
                },
                SocketAddress::V4 { address, port },
                Some(IpAddress::V4(local)),
            ) => source == address && source_port == port && destination == local,
            (
                UdpAddresses::V6 {
                    source,
                    source_port,
                    destination,
                    scope_id,
                },
                SocketAddress::V6 {
                    address,
                    port,
                    scope_id: scope,
                },
                Some(IpAddress::V6(local)),
            ) => {
                source == address
                    && source_port == port
                    && destination == local
                    && scope_id == scope
            }
            _ => false,
        }
    }

    /// Sends a sealed packet from `sock` over UDP.
    #[inline]
    pub(crate) fn send(
        &self,
        sock: &Sock,
        dev: &NetDevice,
        skb: SkBuff,
        bh: &BhDisabled,
    ) -> Result {
        match self.remote {
            SocketAddress::V4 { address, port } => {
                let local = match self.local {
                    Some(IpAddress::V4(local)) => local,
                    _ => [0; 4],
                };
                udp_tunnel::send_ipv4(sock, &self.route, dev, (local, address, port), skb, bh)
            }
            SocketAddress::V6 {
                address,
                port,
                scope_id,
            } => {
                let local = match self.local {
                    Some(IpAddress::V6(local)) => local,
                    _ => [0; 16],
                };
                let flow = (&local, &address, port, scope_id);
                udp_tunnel::send_ipv6(sock, &self.route, dev, flow, skb, bh)
            }
        }
    }
}
