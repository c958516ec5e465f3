// SPDX-License-Identifier: GPL-2.0

//! A peer: the other end of a tunnel.

use crate::{
    abstractions::{
        net::NetRef,
        rcu::{Guard, RcuArc, RcuCell},
        rhashtable::{impl_has_node, Node},
        skb::UdpAddresses,
        socket::Kind,
        softirq::{BhDisabled, LockBh},
        time,
    },
    batch::Batch,
    config::{NewPeer, PeerInfo, Reason},
    endpoint::{self, Endpoint},
    interface::Interface,
    keys::KeySlots,
    netlink,
    proto::packet::PeerId,
    refusal::{Outcome, Refusal},
    socket::Socket,
    stats::Counters,
};
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        SpinLock,
    },
};

/// How a peer ended. Userspace is told when this is dropped, which is when the peer is: nobody can
/// send to it or receive from it any more.
pub(crate) struct Farewell {
    /// The namespace that the interface was in.
    pub(crate) net: NetRef,
    /// The interface's index there.
    pub(crate) ifindex: u32,
    /// Who it was.
    pub(crate) peer: PeerId,
    /// Why it ended.
    pub(crate) reason: Reason,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        netlink::notify_del_peer(&self.net, self.ifindex, self.peer, self.reason);
    }
}

/// What changes about a peer under its lock.
struct State {
    /// Set once, when the peer ends; from then on its endpoint stays empty.
    ended: bool,
    farewell: Option<Farewell>,
}

/// One end of a tunnel, as the daemon configured it.
#[pin_data]
pub(crate) struct Peer {
    /// The id in its packets.
    pub(crate) id: PeerId,
    /// The interface that it belongs to.
    pub(crate) interface: RcuArc<Interface>,
    /// The socket that it is reached over.
    pub(crate) socket: RcuArc<Socket>,
    /// Its keys.
    pub(crate) keys: KeySlots,
    /// Its address inside the tunnel.
    pub(crate) vpn_ipv4: Option<[u8; 4]>,
    /// Its address inside the tunnel.
    pub(crate) vpn_ipv6: Option<[u8; 16]>,
    /// Counts inner packets.
    pub(crate) vpn: Counters,
    /// Counts outer payloads.
    pub(crate) link: Counters,
    /// What waits to be sent to it.
    #[pin]
    pub(crate) batch: Batch,
    /// When to tell the peer that we live, and when to give it up.
    pub(crate) keepalive: Keepalive,
    endpoint: RcuCell<Endpoint>,
    #[pin]
    by_vpn_ipv4: Node<4>,
    #[pin]
    by_vpn_ipv6: Node<16>,
    #[pin]
    state: SpinLock<State>,
}

impl_has_node!(impl HasNode<4> for Peer { self.by_vpn_ipv4 });
impl_has_node!(impl HasNode<16> for Peer { self.by_vpn_ipv6 });

/// The keepalive settings of a peer and when it was last heard. All in seconds, the moments on
/// the clock of [`time::boottime_seconds`].
pub(crate) struct Keepalive {
    interval: Atomic<i32>,
    timeout: Atomic<i32>,
    last_sent: Atomic<i64>,
    last_received: Atomic<i64>,
}

impl Keepalive {
    fn new() -> Self {
        let now = time::boottime_seconds() as i64;
        Self {
            interval: Atomic::new(0),
            timeout: Atomic::new(0),
            last_sent: Atomic::new(now),
            last_received: Atomic::new(now),
        }
    }

    /// Sets both values, 0 for off, and starts to count from `now`.
    pub(crate) fn set(&self, interval: u32, timeout: u32, now: u64) {
        self.last_sent.store(now as i64, Relaxed);
        self.last_received.store(now as i64, Relaxed);
        self.interval.store(interval as i32, Relaxed);
        self.timeout.store(timeout as i32, Relaxed);
    }

    /// After how long a silence of ours the peer gets a message; 0 for never.
    pub(crate) fn interval(&self) -> u32 {
        self.interval.load(Relaxed) as u32
    }

    /// After how long a silence of the peer it is given up; 0 for never.
    pub(crate) fn timeout(&self) -> u32 {
        self.timeout.load(Relaxed) as u32
    }

    /// The moment at which a message is due, if one will be.
    pub(crate) fn send_at(&self) -> Option<u64> {
        Self::after(&self.last_sent, self.interval())
    }

    /// The moment at which the peer expires, if it will.
    pub(crate) fn expire_at(&self) -> Option<u64> {
        Self::after(&self.last_received, self.timeout())
    }

    fn after(last: &Atomic<i64>, seconds: u32) -> Option<u64> {
        (seconds != 0).then(|| (last.load(Relaxed) as u64).saturating_add(u64::from(seconds)))
    }

    /// Notes that something was sent. Writes to shared memory at most once a second.
    #[inline]
    pub(crate) fn sent(&self, now: u64) {
        Self::stamp(&self.last_sent, now);
    }

    /// Notes that something authentic was received.
    #[inline]
    pub(crate) fn received(&self, now: u64) {
        Self::stamp(&self.last_received, now);
    }

    #[inline]
    fn stamp(last: &Atomic<i64>, now: u64) {
        if last.load(Relaxed) != now as i64 {
            last.store(now as i64, Relaxed);
        }
    }
}

impl Peer {
    /// Makes a peer that is in no table yet. Process context; fails with `ENOMEM`.
    pub(crate) fn new(
        config: &NewPeer,
        interface: &RcuArc<Interface>,
        socket: RcuArc<Socket>,
    ) -> Outcome<RcuArc<Self>> {
        let endpoint = match config.remote {
            // A TCP peer is where its connection leads to.
            Some(remote) if socket.kind == Kind::Udp => Some(
                Endpoint::new(config.id, remote, config.local, GFP_KERNEL)
                    .map_err(Refusal::because(c"out of memory"))?,
            ),
            _ => None,
        };

        RcuArc::pin_init(
            pin_init!(Self {
                id: config.id,
                interface: interface.clone(),
                socket,
                keys: KeySlots::new(),
                vpn_ipv4: config.vpn_ipv4,
                vpn_ipv6: config.vpn_ipv6,
                vpn: Counters::new(),
                link: Counters::new(),
                batch <- Batch::new(),
                keepalive: Keepalive::new(),
                endpoint: RcuCell::new(endpoint),
                by_vpn_ipv4 <- Node::new(config.vpn_ipv4.unwrap_or_default()),
                by_vpn_ipv6 <- Node::new(config.vpn_ipv6.unwrap_or_default()),
                state <- new_spinlock!(State { ended: false, farewell: None }),
            }),
            GFP_KERNEL,
        )
        .map_err(Refusal::because(c"out of memory"))
    }

    /// Where the peer is; `None` once it has ended.
    #[inline]
    pub(crate) fn endpoint<'g>(&self, guard: &'g Guard) -> Option<&'g Endpoint> {
        self.endpoint.load(guard).map(|endpoint| endpoint.get())
    }

    /// The peer wrote, authentically, from where `addresses` say: answer there from now on.
    ///
    /// Softirq context.
    #[inline]
    pub(crate) fn heard_from(&self, addresses: &UdpAddresses, guard: &Guard, bh: &BhDisabled) {
        match self.endpoint.load(guard) {
            Some(endpoint) if !endpoint.matches(addresses) => self.float(addresses, bh),
            _ => {}
        }
    }

    #[cold]
    fn float(&self, addresses: &UdpAddresses, _bh: &BhDisabled) {
        let (remote, local) = endpoint::of_packet(addresses);
        // Out of memory: the next packet tries again.
        let Ok(new) = Endpoint::new(self.id, remote, Some(local), GFP_ATOMIC) else {
            return;
        };
        let state = self.state.lock();
        if !state.ended {
            let table = &self.interface.peers.by_remote;
            if table.insert(new.clone()).is_ok() {
                if let Some(old) = self.endpoint.replace(Some(new)) {
                    table.remove(&old);
                }
            }
        }
    }

    /// Makes the peer's remote address known to the interface. Process context, once.
    pub(crate) fn publish_endpoint(&self) -> Result {
        let endpoint = {
            let guard = Guard::new();
            self.endpoint
                .load(&guard)
                .and_then(|endpoint| endpoint.to_arc())
        };
        match endpoint {
            Some(endpoint) => self.interface.peers.by_remote.insert(endpoint),
            None => Ok(()),
        }
    }

    /// Takes away what the peer is reached by. What is in flight fails from here on.
    ///
    /// Process context, once.
    pub(crate) fn disconnect(&self, farewell: Option<Farewell>) {
        let endpoint = {
            let mut state = self.state.lock_bh();
            state.ended = true;
            state.farewell = farewell;
            self.endpoint.replace(None)
        };
        if let Some(endpoint) = endpoint {
            self.interface.peers.by_remote.remove(&endpoint);
        }
        self.keys.clear();
        self.socket.detach();
    }

    /// What GET_PEER tells.
    pub(crate) fn info(&self, guard: &Guard) -> PeerInfo {
        let endpoint = self.endpoint(guard);

        PeerInfo {
            id: self.id,
            remote: endpoint.map(|endpoint| endpoint.remote),
            local: endpoint.and_then(|endpoint| endpoint.local),
            local_port: self.socket.sock.local_port(),
            vpn_ipv4: self.vpn_ipv4,
            vpn_ipv6: self.vpn_ipv6,
            keepalive_interval: self.keepalive.interval(),
            keepalive_timeout: self.keepalive.timeout(),
            vpn: self.vpn.snapshot(),
            link: self.link.snapshot(),
        }
    }
}
