// SPDX-License-Identifier: GPL-2.0

//! From a peer to the stack: header, peer, open, check, deliver.
//!
//! Nothing that a packet says is believed before its tag has been verified: until then it changes
//! no state but the device's count of drops.

use crate::{
    abstractions::{
        netdevice::NetDevice,
        rcu::Guard,
        skb::{SkBuff, UdpAddresses},
        softirq::BhDisabled,
        time,
    },
    endpoint,
    interface::Interface,
    peer::Peer,
    proto::{
        ip::{self, IpVersion},
        message::{self, Inner},
        packet::{self, DataHeader, Packet, HEADER_LEN, OVERHEAD, PEER_ID_UNDEFINED},
    },
    route,
    tx::{PROTOCOL_IPV4, PROTOCOL_IPV6},
};

const UDP_HEADER_LEN: u32 = 8;

/// Takes a packet that a UDP socket of the interface received, its data pointer at the UDP
/// header. Returns it if it is for the daemon. Softirq context.
pub(crate) fn receive(interface: &Interface, mut skb: SkBuff, guard: &Guard) -> Option<SkBuff> {
    let head = skb.len().min(UDP_HEADER_LEN + HEADER_LEN as u32);

    if !skb.may_pull(head) {
        return None;
    }
    let payload = skb.linear().get(UDP_HEADER_LEN as usize..).unwrap_or_default();
    let header = match packet::parse(payload) {
        Ok(Packet::Control) => return Some(skb),
        Ok(Packet::Data(header)) => Some(header),
        Err(packet::Malformed) => None,
    };
    // A device that is going away takes no packets.
    let dev = interface.device(guard)?;

    if header.and_then(|header| receive_data(interface, dev, header, skb, guard)).is_none() {
        dev.count_rx_dropped();
    }
    None
}

/// `None` if the packet was dropped, and is to be counted.
fn receive_data(
    interface: &Interface,
    dev: &NetDevice,
    header: DataHeader,
    mut skb: SkBuff,
    guard: &Guard,
) -> Option<()> {
    let bh = BhDisabled::new();
    let addresses = skb.udp_addresses()?;
    let peer = if header.peer_id == PEER_ID_UNDEFINED {
        interface.peers.by_remote(&endpoint::of_packet(&addresses).0, guard)
    } else {
        interface.peers.by_id(header.peer_id, guard)
    }?;

    if !skb.pull(UDP_HEADER_LEN) || (skb.len() as usize) < OVERHEAD {
        return None;
    }
    let link_len = skb.len();
    let inner = open(peer, &header, skb, guard, &bh)?;

    accepted(peer, link_len, &addresses, guard, &bh);
    deliver(peer, dev, inner, guard)
}

/// Decrypts a packet; `None` unless it is authentic and new.
fn open(
    peer: &Peer,
    header: &DataHeader,
    skb: SkBuff,
    guard: &Guard,
    bh: &BhDisabled,
) -> Option<SkBuff> {
    let key = peer.keys.find(header.key_id, guard)?;
    let nonce = key.decrypt.nonce(header.packet_id);
    let inner = peer
        .interface
        .workspaces
        .with(bh, |workspace| workspace.open(&key.decrypt.aead, nonce, skb))?
        .ok()?;

    key.accept(header.packet_id, time::boottime_seconds(), bh).ok()?;
    Some(inner)
}

/// Notes what an authentic packet tells about its peer.
fn accepted(
    peer: &Peer,
    link_len: u32,
    addresses: &UdpAddresses,
    guard: &Guard,
    bh: &BhDisabled,
) {
    peer.link.count_rx(link_len);
    peer.keepalive.received(time::boottime_seconds());
    peer.heard_from(addresses, guard, bh);
}

/// Hands an inner packet to the stack, if its source may be what it is.
fn deliver(peer: &Peer, dev: &NetDevice, mut skb: SkBuff, guard: &Guard) -> Option<()> {
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

    let len = skb.len();
    if peer.interface.gro.receive(skb, dev, protocol) {
        peer.vpn.count_rx(len);
        dev.count_rx(len);
    }
    Some(())
}
