// SPDX-License-Identifier: GPL-2.0

//! From the stack to a peer: route, segment, seal, send.

use crate::{
    abstractions::{
        errno,
        netdevice::NetDevice,
        rcu::Guard,
        skb::{SkBuff, SkBuffList},
        socket::Kind,
        softirq::BhDisabled,
        time,
    },
    interface::Interface,
    peer::Peer,
    proto::{ip, packet::DataHeader},
    route, tcp,
};
use kernel::prelude::*;

/// `ETH_P_IP`, `ETH_P_IPV6`.
pub(crate) const PROTOCOL_IPV4: u16 = 0x0800;
pub(crate) const PROTOCOL_IPV6: u16 = 0x86dd;

/// Sends a packet that the stack gave to `dev`. Softirq context or bottom halves disabled.
pub(crate) fn transmit(interface: &Interface, dev: &NetDevice, mut skb: SkBuff) {
    let guard = Guard::new();
    let bh = BhDisabled::new();

    let Some(peer) = find_peer(interface, dev, &mut skb, &guard) else {
        dev.count_tx_dropped();
        skb.tx_error();
        return;
    };
    let Ok(packets) = segment(skb) else {
        dev.count_tx_dropped();
        return;
    };
    let sealed = seal(peer, dev, packets, &guard, &bh);

    if sealed.packets != 0 {
        peer.vpn.count_tx(sealed.packets, sealed.bytes);
        dev.count_tx(sealed.packets, sealed.bytes as u32);
        send(peer, dev, sealed.outer, &guard, &bh);
    }
}

/// The peer for a packet, if it is an IP packet that is what it says.
fn find_peer<'g>(
    interface: &Interface,
    dev: &NetDevice,
    skb: &mut SkBuff,
    guard: &'g Guard,
) -> Option<&'g Peer> {
    if !skb.may_pull(skb.len().min(ip::PEEK_LEN as u32)) {
        return None;
    }
    let addresses = ip::addresses(skb.linear())?;
    let protocol = match addresses {
        ip::Addresses::V4 { .. } => PROTOCOL_IPV4,
        ip::Addresses::V6 { .. } => PROTOCOL_IPV6,
    };
    if skb.protocol() != protocol {
        return None;
    }
    route::to_peer(interface, dev, skb, &addresses, guard)
}

/// Makes packets of a size that the tunnel carries, with their checksums in them.
fn segment(mut skb: SkBuff) -> Result<SkBuffList> {
    if skb.is_gso() {
        return skb.segment();
    }
    skb.complete_checksum()?;
    Ok(SkBuffList::of(skb))
}

/// Packets for the link.
struct Sealed {
    outer: SkBuffList,
    /// How many inner packets they hold, with how many bytes.
    packets: u32,
    bytes: u64,
}

/// Encrypts packets under the peer's primary key. What can not be sealed is dropped and counted.
fn seal(
    peer: &Peer,
    dev: &NetDevice,
    mut packets: SkBuffList,
    guard: &Guard,
    bh: &BhDisabled,
) -> Sealed {
    let mut sealed = Sealed {
        outer: SkBuffList::new(),
        packets: 0,
        bytes: 0,
    };
    let Some(key) = peer.keys.primary(guard) else {
        while packets.pop().is_some() {
            dev.count_tx_dropped();
        }
        return sealed;
    };

    peer.interface.workspaces.with(bh, |workspace| {
        while let Some(mut inner) = packets.pop() {
            let outer = key
                .take_packet_ids(1)
                .and_then(|mut ids| ids.next())
                .ok_or(ERANGE)
                .and_then(|packet_id| {
                    let header = DataHeader {
                        key_id: key.id,
                        peer_id: peer.id,
                        packet_id,
                    };
                    key.encrypt.seal(workspace, &header, &mut inner)
                });
            match outer {
                Ok(mut outer) => {
                    sealed.packets = sealed.packets.wrapping_add(1);
                    sealed.bytes = sealed.bytes.wrapping_add(u64::from(inner.len()));
                    outer.take_owner(&mut inner);
                    inner.consume();
                    sealed.outer.push(outer);
                }
                Err(_) => dev.count_tx_dropped(),
            }
        }
    });
    sealed
}

/// Sends sealed packets over the peer's transport.
fn send(peer: &Peer, dev: &NetDevice, mut packets: SkBuffList, guard: &Guard, bh: &BhDisabled) {
    let mut count: u32 = 0;
    let mut bytes: u64 = 0;

    while let Some(packet) = packets.pop() {
        let len = packet.len();
        let sent = match (peer.socket.kind, peer.endpoint(guard)) {
            (Kind::Tcp, _) => tcp::send(peer.socket.borrow(guard), packet, bh),
            (_, Some(endpoint)) => endpoint.send(&peer.socket.sock, dev, packet, bh),
            // The peer has ended in the meantime.
            (_, None) => Err(errno::enotconn()),
        };
        match sent {
            Ok(()) => {
                count = count.wrapping_add(1);
                bytes = bytes.wrapping_add(u64::from(len));
            }
            Err(_) => dev.count_tx_dropped(),
        }
    }
    if count != 0 {
        peer.link.count_tx(count, bytes);
        peer.keepalive.sent(time::boottime_seconds());
    }
}

/// Sends a message that is no IP packet to a peer. Process context.
///
/// It is lost if there is no key or no memory, as it could be on the way.
pub(crate) fn send_message(peer: &Peer, message: &[u8]) {
    let guard = Guard::new();
    let bh = BhDisabled::new();

    let Some(dev) = peer.interface.device(&guard) else {
        return;
    };
    let Ok(mut skb) = SkBuff::new(0, message.len() as u32) else {
        return;
    };
    if skb.extend_from_slice(message).is_err() {
        return;
    }
    let sealed = seal(peer, dev, SkBuffList::of(skb), &guard, &bh);
    send(peer, dev, sealed.outer, &guard, &bh);
}
