// SPDX-License-Identifier: GPL-2.0

//! From the stack to a peer: route, seal, send.

use crate::{
    abstractions::{
        errno,
        hrtimer::{Expire, SoftTimer},
        netdevice::NetDevice,
        rcu::{Guard, RcuArc, RcuRef},
        skb::{SkBuff, Weight},
        skb_list::SkBuffList,
        socket::Kind,
        softirq::BhDisabled,
        tcp, time,
    },
    batch::{Fate, Next, MAX_READY, WAIT},
    interface::Interface,
    peer::Peer,
    proto::{ip, packet::OVERHEAD},
    route,
    seal::seal,
};

/// `ETH_P_IP`, `ETH_P_IPV6`.
pub(crate) const PROTOCOL_IPV4: u16 = 0x0800;
pub(crate) const PROTOCOL_IPV6: u16 = 0x86dd;

/// Sends a packet that the stack gave to `dev`.
pub(crate) fn transmit(interface: &Interface, dev: &NetDevice, mut skb: SkBuff, bh: &BhDisabled) {
    let guard = Guard::new();

    let Some(peer) = find_peer(interface, dev, &mut skb, &guard) else {
        dev.count_tx_dropped(skb.segments());
        skb.tx_error();
        return;
    };
    let sealed = seal(&peer, dev, skb, &guard, bh);

    if sealed.inner.packets != 0 {
        peer.vpn.count_tx(sealed.inner);
        dev.count_tx(sealed.inner);
        send(peer, dev, sealed.outer, &guard, bh);
    }
}

/// The peer for a packet, if it is an IP packet that is what it says.
fn find_peer<'g>(
    interface: &Interface,
    dev: &NetDevice,
    skb: &mut SkBuff,
    guard: &'g Guard,
) -> Option<RcuRef<'g, Peer>> {
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

/// Sends sealed packets over the peer's transport, or leaves them to whoever does.
fn send(
    peer: RcuRef<'_, Peer>,
    dev: &NetDevice,
    mut packets: SkBuffList,
    guard: &Guard,
    bh: &BhDisabled,
) {
    let mut link = Weight::default();

    while let Some(packet) = packets.pop() {
        let fate = match peer.socket.kind {
            Kind::Tcp => Fate::Send(packet),
            _ => {
                let workspaces = &peer.interface.workspaces;
                peer.batch.offer(packet, workspaces, dev, bh)
            }
        };
        match fate {
            Fate::Send(packet) => send_now(&peer, dev, packet, &mut link, guard, bh),
            Fate::Depart => depart(peer, dev, &mut link, guard, bh),
            Fate::Start => start(peer, bh),
            Fate::Taken => {}
            Fate::Refused(packet) => dev.count_tx_dropped(packet.weight().packets),
        }
    }
    count(&peer, link);
}

/// Sends what is ready in the peer's batch. The caller is the one who is to do that.
fn depart(
    peer: RcuRef<'_, Peer>,
    dev: &NetDevice,
    link: &mut Weight,
    guard: &Guard,
    bh: &BhDisabled,
) {
    for _ in 0..MAX_READY {
        match peer.batch.next(bh) {
            Next::Packet(packet) => send_now(&peer, dev, packet, link, guard, bh),
            Next::Start => return start(peer, bh),
            Next::Nothing => return,
        }
    }
    // Other CPUs have kept it busy.
    if peer.batch.hand_over(bh) {
        start(peer, bh);
    }
}

fn start(peer: RcuRef<'_, Peer>, bh: &BhDisabled) {
    // If it has lost its last reference, what waits goes with it.
    if let Some(peer) = peer.to_arc() {
        SoftTimer::start(&peer, WAIT, bh);
    }
}

/// Sends what has waited for long enough.
impl Expire for Peer {
    fn timer(&self) -> &SoftTimer<Self> {
        &self.batch.timer
    }

    fn expired(this: RcuArc<Self>, bh: &BhDisabled) {
        let guard = Guard::new();
        let mut link = Weight::default();

        // Of a device that is going away, what waits goes with the peer.
        let Some(dev) = this.interface.device(&guard) else {
            return;
        };
        if this.batch.close(dev, bh) {
            depart(this.borrow(&guard), dev, &mut link, &guard, bh);
        }
        count(&this, link);
    }
}

/// Sends one sealed packet, or one train, and adds it to `link`.
#[inline]
fn send_now(
    peer: &Peer,
    dev: &NetDevice,
    packet: SkBuff,
    link: &mut Weight,
    guard: &Guard,
    bh: &BhDisabled,
) {
    let inner = packet.weight();
    let sent = match (peer.socket.kind, peer.endpoint(guard)) {
        (Kind::Tcp, _) => tcp::send(peer.socket.borrow(guard), packet, bh),
        (_, Some(endpoint)) => endpoint.send(&peer.socket.sock, dev, packet, bh),
        // The peer has ended in the meantime.
        (_, None) => Err(errno::enotconn()),
    };
    match sent {
        Ok(()) => {
            let overhead = inner.packets.wrapping_mul(OVERHEAD as u32);
            link.add(Weight {
                packets: inner.packets,
                bytes: inner.bytes.wrapping_add(overhead),
            });
        }
        Err(_) => dev.count_tx_dropped(inner.packets),
    }
}

fn count(peer: &Peer, link: Weight) {
    if link.packets != 0 {
        peer.link.count_tx(link);
        peer.keepalive.sent(time::boottime_seconds());
    }
}

/// Sends a message that is no IP packet to a peer. Process context.
///
/// It is lost if there is no key or no memory, as it could be on the way.
pub(crate) fn send_message(peer: &RcuArc<Peer>, message: &[u8]) {
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
    let sealed = seal(peer, dev, skb, &guard, &bh);
    send(peer.borrow(&guard), dev, sealed.outer, &guard, &bh);
}
