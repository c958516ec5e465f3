// SPDX-License-Identifier: GPL-2.0

//! The peers of an interface: how they come, how they are found, how they go.

use crate::{
    abstractions::{
        errno,
        net::NetRef,
        rcu::{Guard, RcuArc, RcuCell, RcuRef},
        rhashtable::Table,
        socket::{Kind, SocketFile},
        xarray::{Entry, XArray},
    },
    config::{NewPeer, Reason, SocketAddress},
    endpoint::{self, Endpoint},
    interface::{Interface, Mode},
    log::debug,
    peer::{Farewell, Peer},
    proto::packet::PeerId,
    refusal::{Outcome, Refusal},
    socket::Socket,
};
use kernel::{new_mutex, prelude::*, sync::Mutex};

/// Tables for the data path to find peers in, and the lock for whoever changes them.
///
/// A number of which the kernel removed the peer holds a mark, the tombstone, until userspace
/// has shown that it knows.
#[pin_data]
pub(crate) struct Peers {
    #[pin]
    by_id: XArray<Peer>,
    #[pin]
    by_vpn_ipv4: Table<Peer, 4>,
    #[pin]
    by_vpn_ipv6: Table<Peer, 16>,
    /// Remote addresses, for packets that do not say whose they are.
    #[pin]
    pub(crate) by_remote: Table<Endpoint, 24>,
    /// The one peer of an interface in P2P mode.
    only: RcuCell<Peer>,
    /// Taken by whoever adds, removes or configures peers. Process context.
    #[pin]
    changes: Mutex<Changes>,
}

/// The state of the changes to the tables.
pub(crate) struct Changes {
    /// The interface is being deleted: no peer comes any more.
    closed: bool,
}

/// What a request finds under a number.
pub(crate) enum Found {
    /// The peer.
    Peer(RcuArc<Peer>),
    /// There was one, and the kernel removed it: do nothing, and say that all is well.
    Tombstone,
}

const UNKNOWN: Refusal = Refusal::new(ENOENT, c"there is no peer with this id");

impl Peers {
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            by_id <- XArray::new(),
            by_vpn_ipv4 <- Table::new(),
            by_vpn_ipv6 <- Table::new(),
            by_remote <- Table::new(),
            only: RcuCell::new(None),
            changes <- new_mutex!(Changes { closed: false }),
        }? Error)
    }

    /// The peer with this id. Any context.
    #[inline]
    pub(crate) fn by_id<'g>(&self, id: PeerId, guard: &'g Guard) -> Option<&'g Peer> {
        match self.by_id.load(id.get(), guard) {
            Entry::Object(peer) => Some(peer.get()),
            _ => None,
        }
    }

    /// The peer whose address inside the tunnel this is. Any context.
    #[inline]
    pub(crate) fn by_vpn_ipv4<'g>(
        &self,
        address: &[u8; 4],
        guard: &'g Guard,
    ) -> Option<RcuRef<'g, Peer>> {
        self.by_vpn_ipv4.lookup(address, guard)
    }

    /// The peer whose address inside the tunnel this is. Any context.
    #[inline]
    pub(crate) fn by_vpn_ipv6<'g>(
        &self,
        address: &[u8; 16],
        guard: &'g Guard,
    ) -> Option<RcuRef<'g, Peer>> {
        self.by_vpn_ipv6.lookup(address, guard)
    }

    /// The peer that is at this remote address. Any context.
    pub(crate) fn by_remote<'g>(
        &self,
        remote: &SocketAddress,
        guard: &'g Guard,
    ) -> Option<&'g Peer> {
        let endpoint = self.by_remote.lookup(&endpoint::key(remote), guard)?;
        self.by_id(endpoint.peer, guard)
    }

    /// The peer of an interface in P2P mode. Any context.
    #[inline]
    pub(crate) fn only<'g>(&self, guard: &'g Guard) -> Option<RcuRef<'g, Peer>> {
        self.only.load(guard)
    }

    /// The peer with the lowest id that is not below `first`. Any context.
    pub(crate) fn from<'g>(&self, first: u32, guard: &'g Guard) -> Option<RcuRef<'g, Peer>> {
        self.by_id.find(first, guard)
    }

    /// Runs `change` on the peer with this id, while nobody else changes any. A tombstone
    /// answers success.
    pub(crate) fn configure(&self, id: PeerId, change: impl FnOnce(&Peer)) -> Outcome {
        let _changes = self.changes.lock();

        if let Found::Peer(peer) = self.find(id)? {
            change(&peer);
        }
        Ok(())
    }

    fn find(&self, id: PeerId) -> Outcome<Found> {
        let guard = Guard::new();

        match self.by_id.load(id.get(), &guard) {
            Entry::Object(peer) => peer.to_arc().map(Found::Peer).ok_or(UNKNOWN),
            Entry::Mark => Ok(Found::Tombstone),
            Entry::Empty => Err(UNKNOWN),
        }
    }

    /// Adds a peer. Process context.
    pub(crate) fn add(interface: &RcuArc<Interface>, config: &NewPeer) -> Outcome {
        let this = &interface.peers;
        let changes = this.changes.lock();

        if changes.closed {
            return Err(Refusal::new(ENODEV, c"the interface is being deleted"));
        }
        let single = matches!(interface.mode(), Mode::P2p);
        let file = SocketFile::lookup(config.socket).map_err(|_| {
            Refusal::new(
                errno::enotsock(),
                c"the file descriptor is not a socket of the calling process",
            )
        })?;
        if file.sock().kind() == Kind::Udp {
            match config.remote {
                None => {
                    return Err(Refusal::new(
                        EINVAL,
                        c"a peer over UDP needs a remote address",
                    ))
                }
                Some(SocketAddress::V6 { .. }) if !file.sock().is_ipv6() => {
                    return Err(Refusal::new(
                        EINVAL,
                        c"the remote address is IPv6, but the socket is IPv4",
                    ))
                }
                Some(_) => {}
            }
        }
        if !single && matches!(this.find(config.id), Ok(Found::Peer(_))) {
            return Err(Refusal::new(
                EEXIST,
                c"there is a peer with this id already",
            ));
        }

        let socket = Socket::attach(&file, interface, config.id)?;
        let peer = Peer::new(config, interface, socket.clone()).inspect_err(|_| socket.detach())?;

        this.link(&peer, single).map_err(|error| {
            this.unlink(&peer);
            peer.disconnect(None);
            Refusal::new(error, c"out of memory")
        })?;
        if single {
            let old = this.only.replace(Some(peer.clone()));
            // One with the same id has lost its entry to the new one already.
            if let Some(old) = old {
                if old.id != peer.id {
                    this.by_id.erase(old.id.get());
                }
                this.retire(&old, interface, Reason::Teardown);
            }
        }
        debug!("peer {} added\n", peer.id.get());
        Ok(())
    }

    fn link(&self, peer: &RcuArc<Peer>, single: bool) -> Result {
        if !single {
            if peer.vpn_ipv4.is_some() {
                self.by_vpn_ipv4.insert(peer.clone())?;
            }
            if peer.vpn_ipv6.is_some() {
                self.by_vpn_ipv6.insert(peer.clone())?;
            }
        }
        peer.publish_endpoint()?;
        // Last, as it is what makes packets of the peer arrive.
        self.by_id.store(peer.id.get(), peer.clone())?;
        Ok(())
    }

    fn unlink(&self, peer: &Peer) {
        self.by_vpn_ipv4.remove(peer);
        self.by_vpn_ipv6.remove(peer);
    }

    /// Removes the peer with this id because userspace says so; a tombstone goes as well.
    pub(crate) fn delete(&self, interface: &Interface, id: PeerId) -> Outcome {
        let changes = self.changes.lock();

        match self.find(id)? {
            Found::Peer(peer) => self.end(&changes, &peer, interface, Reason::Userspace),
            Found::Tombstone => {
                self.by_id.erase(id.get());
            }
        }
        Ok(())
    }

    /// The one way out: every peer that goes, whoever sent it away, goes through here.
    fn end(&self, _changes: &Changes, peer: &RcuArc<Peer>, interface: &Interface, reason: Reason) {
        match reason {
            Reason::Teardown | Reason::Userspace => {
                self.by_id.erase(peer.id.get());
            }
            // Userspace does not know yet. The entry is there, so this needs no memory; and if
            // it did fail, userspace would get ENOENT as from a module without tombstones.
            Reason::Expired | Reason::TransportError | Reason::TransportDisconnected => {
                if self.by_id.mark(peer.id.get()).is_err() {
                    self.by_id.erase(peer.id.get());
                }
            }
        }
        let only = {
            let guard = Guard::new();
            self.only(&guard).is_some_and(|only| peer.is(&only))
        };
        if only {
            self.only.replace(None);
        }
        self.retire(peer, interface, reason);
    }

    fn retire(&self, peer: &RcuArc<Peer>, interface: &Interface, reason: Reason) {
        let farewell = {
            let guard = Guard::new();
            interface.device(&guard).and_then(|dev| {
                Some(Farewell {
                    net: NetRef::get(dev.net(&guard))?,
                    ifindex: dev.ifindex(),
                    peer: peer.id,
                    reason,
                })
            })
        };
        self.unlink(peer);
        peer.disconnect(farewell);
        debug!("peer {} removed, reason {}\n", peer.id.get(), reason as u8);
    }

    /// Ends the peer with this id if there is one and `why` gives a reason. Process context.
    pub(crate) fn end_one_if(
        &self,
        interface: &Interface,
        id: PeerId,
        why: impl FnOnce(&RcuArc<Peer>) -> Option<Reason>,
    ) {
        let changes = self.changes.lock();

        if let Ok(Found::Peer(peer)) = self.find(id) {
            if let Some(reason) = why(&peer) {
                self.end(&changes, &peer, interface, reason);
            }
        }
    }

    /// Ends every peer of which `why` gives a reason. Process context.
    pub(crate) fn end_where(
        &self,
        interface: &Interface,
        why: impl FnMut(&RcuArc<Peer>) -> Option<Reason>,
    ) {
        self.end_where_then(interface, why, || {});
    }

    /// The same, and then runs `then` before anybody else changes peers, unless the interface is
    /// being deleted. Process context.
    pub(crate) fn end_where_then(
        &self,
        interface: &Interface,
        mut why: impl FnMut(&RcuArc<Peer>) -> Option<Reason>,
        then: impl FnOnce(),
    ) {
        let changes = self.changes.lock();
        self.end_each(&changes, interface, &mut why);
        if !changes.closed {
            then();
        }
    }

    fn end_each(
        &self,
        changes: &Changes,
        interface: &Interface,
        why: &mut dyn FnMut(&RcuArc<Peer>) -> Option<Reason>,
    ) {
        let mut next = Some(0);

        while let Some(first) = next {
            let peer = {
                let guard = Guard::new();
                // With the lock held nobody else ends peers, so what is found has not ended.
                self.from(first, &guard).and_then(RcuRef::to_arc)
            };
            let Some(peer) = peer else {
                break;
            };
            next = peer.id.get().checked_add(1);
            if let Some(reason) = why(&peer) {
                self.end(changes, &peer, interface, reason);
            }
        }
    }

    /// Ends all peers, and lets none come any more. Process context.
    pub(crate) fn close(&self, interface: &Interface) {
        let mut changes = self.changes.lock();

        changes.closed = true;
        self.end_each(&changes, interface, &mut |_| Some(Reason::Teardown));
    }
}
