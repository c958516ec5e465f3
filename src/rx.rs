// SPDX-License-Identifier: GPL-2.0

//! From a peer to the stack: header, peer, open, check, deliver.
//!
//! Nothing that a packet says is believed before its tag has been verified: until then it changes
//! no state but the device's count of drops.

use crate::{
    abstractions::{
        netdevice::NetDevice,
        rcu::Guard,
        skb::{Joined, SkBuff, UdpAddresses, Weight},
        socket::Kind,
        softirq::BhDisabled,
        time,
    },
    endpoint,
    log::debug_ratelimited,
    peer::Peer,
    proto::{
        ip::{self, IpVersion},
        message::{self, Inner},
        packet::{self, DataHeader, Packet, HEADER_LEN, OVERHEAD, PEER_ID_UNDEFINED},
        tcp_frame::PREFIX_LEN,
    },
    route,
    socket::Socket,
    tx::{PROTOCOL_IPV4, PROTOCOL_IPV6},
};

const UDP_HEADER_LEN: u32 = 8;

/// Takes a packet that a UDP socket received, its data pointer at the UDP header. Returns it if it
/// is for the daemon.
pub(crate) fn receive_datagram(
    socket: &Socket,
    skb: SkBuff,
    guard: &Guard,
    bh: &BhDisabled,
) -> Option<SkBuff> {
    receive(socket, skb, UDP_HEADER_LEN, guard, bh)
}

/// Takes a message that a TCP socket received, with the prefix of its length. Returns it if it is
/// for the daemon. Softirq or process context.
pub(crate) fn receive_message(socket: &Socket, skb: SkBuff, guard: &Guard) -> Option<SkBuff> {
    let bh = BhDisabled::new();
    receive(socket, skb, PREFIX_LEN as u32, guard, &bh)
}

/// There was no memory to take a message with this first byte. A data packet is lost then, and
/// counted; anything else is for the daemon, who would miss it. Softirq or process context.
pub(crate) fn is_lost(socket: &Socket, first: u8, guard: &Guard) -> bool {
    let lost = !matches!(packet::parse(&[first]), Ok(Packet::Control));

    if let Some(dev) = socket.interface.device(guard).filter(|_| lost) {
        let _bh = BhDisabled::new();
        dev.count_rx_dropped(1);
    }
    lost
}

/// Takes a packet that begins `offset` bytes behind the data pointer.
fn receive(
    socket: &Socket,
    mut skb: SkBuff,
    offset: u32,
    guard: &Guard,
    bh: &BhDisabled,
) -> Option<SkBuff> {
    let head = skb.len().min(offset.saturating_add(HEADER_LEN as u32));

    if !skb.may_pull(head) {
        return None;
    }
    let payload = skb.linear().get(offset as usize..).unwrap_or_default();
    let header = match packet::parse(payload) {
        Ok(Packet::Control) => return Some(skb),
        Ok(Packet::Data(header)) => Some(header),
        Err(packet::Malformed) => None,
    };
    // A device that is going away takes no packets.
    let dev = socket.interface.device(guard)?;
    let delivered =
        header.and_then(|header| receive_data(socket, dev, header, skb, offset, guard, bh));

    if delivered.is_none() {
        debug_ratelimited!("dropped a packet: {:?}\n", header);
        dev.count_rx_dropped(1);
    }
    None
}

/// `None` if the packet was dropped, and is to be counted.
fn receive_data(
    socket: &Socket,
    dev: &NetDevice,
    header: DataHeader,
    mut skb: SkBuff,
    offset: u32,
    guard: &Guard,
    bh: &BhDisabled,
) -> Option<()> {
    let addresses = match socket.kind {
        Kind::Udp => Some(skb.udp_addresses()?),
        _ => None,
    };
    let peer = find_peer(socket, &header, addresses.as_ref(), guard)?;

    if !skb.pull(offset) || (skb.len() as usize) < OVERHEAD {
        return None;
    }
    let link = Weight::one(skb.len());
    let now = time::boottime_seconds();
    let mut inner = open(peer, &header, skb, now, guard, bh)?;

    accepted(peer, link, addresses.as_ref(), now, guard, bh);
    inner.set_weight(Weight::one(inner.len()));
    deliver(peer, dev, inner, None, guard)
}

/// The peer that a packet claims to be from.
pub(crate) fn find_peer<'g>(
    socket: &Socket,
    header: &DataHeader,
    addresses: Option<&UdpAddresses>,
    guard: &'g Guard,
) -> Option<&'g Peer> {
    let peers = &socket.interface.peers;

    match addresses {
        Some(addresses) if header.peer_id == PEER_ID_UNDEFINED => {
            peers.by_remote(&endpoint::of_packet(addresses).0, guard)
        }
        Some(_) => peers.by_id(header.peer_id, guard),
        // A connection is one peer's, whatever id its packets carry.
        None => peers
            .by_id(socket.first, guard)
            .filter(|peer| peer.socket.is(socket)),
    }
}

/// Decrypts a packet; `None` unless it is authentic and new.
fn open(
    peer: &Peer,
    header: &DataHeader,
    mut skb: SkBuff,
    now: u64,
    guard: &Guard,
    bh: &BhDisabled,
) -> Option<SkBuff> {
    let key = peer.keys.find(header.key_id, guard)?;

    peer.interface.workspaces.with(bh, |workspace| {
        if !skb.is_linear() || skb.linear_mut().is_none() {
            // Somebody else has a view of these bytes, or they are scattered.
            let copy = skb.copy_in_area(&mut workspace.pool).ok()?;
            core::mem::replace(&mut skb, copy).consume();
        }
        let packet = skb.linear_mut()?;
        key.decrypt.open(workspace, header, packet).ok()
    })??;
    key.accept(header.packet_id, now, bh).ok()?;
    skb.pull(OVERHEAD as u32).then_some(skb)
}

/// Notes what authentic packets tell about their peer. `now` is in seconds since boot.
pub(crate) fn accepted(
    peer: &Peer,
    link: Weight,
    addresses: Option<&UdpAddresses>,
    now: u64,
    guard: &Guard,
    bh: &BhDisabled,
) {
    peer.link.count_rx(link);
    peer.keepalive.received(now);
    if let Some(addresses) = addresses {
        peer.heard_from(addresses, guard, bh);
    }
}

/// Hands an inner packet to the stack, with the weight that it has, if its source may be what it is.
pub(crate) fn deliver(
    peer: &Peer,
    dev: &NetDevice,
    mut skb: SkBuff,
    joined: Option<&Joined>,
    guard: &Guard,
) -> Option<()> {
    if !skb.may_pull(skb.len().min(ip::PEEK_LEN as u32)) {
        return None;
    }
    let protocol = match message::classify(skb.linear()) {
        Inner::Ip(IpVersion::V4) => PROTOCOL_IPV4,
        Inner::Ip(IpVersion::V6) => PROTOCOL_IPV6,
        // Nothing to do but to have noted that the peer lives; its leaving is the daemon's
        // business, who is told over the control channel.
        Inner::Keepalive | Inner::Exit => {
            skb.consume();
            return Some(());
        }
        Inner::Unknown => return None,
    };
    let addresses = ip::addresses(skb.linear())?;
    if !route::may_come_from(peer, dev, &addresses, guard) {
        return None;
    }

    let weight = skb.weight();
    if peer.interface.gro.receive(skb, dev, protocol, joined) {
        peer.vpn.count_rx(weight);
        dev.count_rx(weight);
    }
    Some(())
}
