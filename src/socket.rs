// SPDX-License-Identifier: GPL-2.0

//! A socket that peers of an interface share with the daemon.

use crate::{
    abstractions::{
        errno,
        rcu::{Guard, RcuArc},
        socket::{Kind, Locked, Sock, SocketFile},
        tcp::Connection,
        tcp_attach, udp_tunnel,
        workqueue::{DelayedWork, WorkClass},
    },
    config::Reason,
    interface::Interface,
    peer::Peer,
    proto::packet::PeerId,
    refusal::{Outcome, Refusal},
};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// Attached by its first peer, detached by its last. A TCP socket has one.
///
/// It does not keep the daemon's socket open: when that is closed, its peers end.
#[pin_data]
pub(crate) struct Socket {
    /// The socket itself.
    pub(crate) sock: Sock,
    /// UDP or TCP.
    pub(crate) kind: Kind,
    /// Whose peers use it.
    pub(crate) interface: RcuArc<Interface>,
    /// The peer that attached it.
    pub(crate) first: PeerId,
    /// How many peers use it; changed with the socket locked.
    users: Atomic<i32>,
    /// The connection of a TCP socket.
    #[pin]
    pub(crate) connection: Connection<Socket>,
    /// Ends the peers, for reason `failure`.
    #[pin]
    pub(crate) ending: DelayedWork<Socket>,
    pub(crate) failure: Atomic<i32>,
    pub(crate) patience: Atomic<i32>,
}

static ENDING: WorkClass = WorkClass::new();

const OUT_OF_MEMORY: &CStr = c"out of memory";
const BUSY: Refusal = Refusal::new(
    EBUSY,
    c"the socket is in use by another interface, peer or kernel user",
);

impl Socket {
    /// Makes the socket one of `interface` for the peer `id`. Process context.
    ///
    /// The file must be held until the peer can be found: only then does its closing end it.
    pub(crate) fn attach(
        file: &SocketFile,
        interface: &RcuArc<Interface>,
        id: PeerId,
    ) -> Outcome<RcuArc<Self>> {
        let lock = file.sock().lock();
        let kind = lock.sock().kind();

        let shared = {
            let guard = Guard::new();
            udp_tunnel::attached::<Self>(lock.sock(), &guard).map(|socket| socket.to_arc())
        };
        if let Some(socket) = shared {
            let socket = socket
                .filter(|socket| interface.is(&socket.interface))
                .ok_or(BUSY)?;
            socket.users.add(1, Relaxed);
            return Ok(socket);
        }

        let socket = RcuArc::pin_init(
            pin_init!(Self {
                sock: file.reference(),
                kind,
                interface: interface.clone(),
                first: id,
                users: Atomic::new(1),
                connection <- Connection::new(),
                ending <- DelayedWork::new(&ENDING),
                failure: Atomic::new(0),
                patience: Atomic::new(0),
            }),
            GFP_KERNEL,
        )
        .map_err(Refusal::because(OUT_OF_MEMORY))?;
        match kind {
            Kind::Udp => udp_tunnel::attach(&lock, socket.clone()).map_err(|_| BUSY)?,
            Kind::Tcp => tcp_attach::attach(&lock, &socket).map_err(|error| {
                if error == EINVAL {
                    Refusal::new(EINVAL, c"the TCP socket is not in ESTABLISHED state")
                } else {
                    BUSY
                }
            })?,
            Kind::Other => {
                return Err(Refusal::new(
                    errno::eopnotsupp(),
                    c"the socket is neither UDP nor TCP",
                ))
            }
        }
        Ok(socket)
    }

    /// One peer less uses it. Process context, once for each [`Socket::attach`].
    pub(crate) fn detach(&self) {
        match self.kind {
            Kind::Tcp => tcp_attach::detach(&self.sock, self),
            _ => {
                let lock = self.sock.lock();
                if self.users.fetch_sub(1, Relaxed) == 1 {
                    udp_tunnel::detach::<Self>(&lock);
                }
            }
        }
    }

    /// Ends the peers that use this socket. Process context.
    pub(crate) fn end_peers(&self, reason: Reason) {
        let peers = &self.interface.peers;
        let ours = |peer: &RcuArc<Peer>| peer.socket.is(self).then_some(reason);

        match self.kind {
            Kind::Tcp => peers.end_one_if(&self.interface, self.first, ours),
            _ => peers.end_where(&self.interface, ours),
        }
    }
}
