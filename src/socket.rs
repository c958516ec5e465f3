// SPDX-License-Identifier: GPL-2.0

//! A socket that peers of an interface share with the daemon.

use crate::{
    abstractions::{
        errno,
        rcu::{Guard, RcuArc},
        skb::SkBuff,
        socket::{Kind, Sock, SocketFile},
        udp_tunnel,
    },
    interface::Interface,
    refusal::{Outcome, Refusal},
    rx,
};
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

/// Attached by its first peer, detached by its last.
///
/// It does not keep the daemon's socket open: when that is closed, its peers end.
pub(crate) struct Socket {
    /// The socket itself.
    pub(crate) sock: Sock,
    /// Whose peers use it.
    pub(crate) interface: RcuArc<Interface>,
    /// How many of them; changed with the socket locked.
    users: Atomic<i32>,
}

impl Socket {
    /// Makes the socket one of `interface` for one more peer. Process context.
    ///
    /// The file must be held until the peer can be found: only then does its closing end it.
    pub(crate) fn attach(file: &SocketFile, interface: &RcuArc<Interface>) -> Outcome<RcuArc<Self>> {
        const BUSY: Refusal = Refusal::new(EBUSY, c"the socket is in use by another interface or kernel user");
        let lock = file.sock().lock();

        let shared = {
            let guard = Guard::new();
            udp_tunnel::attached::<Self>(lock.sock(), &guard).map(|socket| socket.to_arc())
        };
        if let Some(socket) = shared {
            let socket = socket.filter(|socket| interface.is(&socket.interface)).ok_or(BUSY)?;
            socket.users.add(1, Relaxed);
            return Ok(socket);
        }

        let socket = RcuArc::new(
            Self {
                sock: file.reference(),
                interface: interface.clone(),
                users: Atomic::new(1),
            },
            GFP_KERNEL,
        )
        .map_err(Refusal::because(c"out of memory"))?;
        udp_tunnel::attach(&lock, socket.clone()).map_err(|_| BUSY)?;
        Ok(socket)
    }

    /// One peer less uses it. Process context, once for each [`Socket::attach`].
    pub(crate) fn detach(&self) {
        let lock = self.sock.lock();

        if self.users.fetch_sub(1, Relaxed) == 1 {
            udp_tunnel::detach::<Self>(&lock);
        }
    }

    /// Whether peers can be reached over a socket of this kind at `remote`'s family.
    pub(crate) fn check(file: &SocketFile, remote_is_ipv6: bool) -> Outcome {
        match file.sock().kind() {
            Kind::Udp if remote_is_ipv6 && !file.sock().is_ipv6() => Err(Refusal::new(
                EINVAL,
                c"the remote address is IPv6, but the socket is IPv4",
            )),
            Kind::Udp => Ok(()),
            Kind::Tcp if !file.sock().is_established() => Err(Refusal::new(
                EINVAL,
                c"the TCP socket is not in ESTABLISHED state",
            )),
            Kind::Tcp => Err(Refusal::new(
                errno::eopnotsupp(),
                c"TCP transport is not supported yet",
            )),
            Kind::Other => Err(Refusal::new(
                errno::eopnotsupp(),
                c"the socket is neither UDP nor TCP",
            )),
        }
    }
}

impl udp_tunnel::Receiver for Socket {
    fn receive(&self, skb: SkBuff, guard: &Guard) -> Option<SkBuff> {
        rx::receive(&self.interface, skb, guard)
    }

    fn closed(this: RcuArc<Self>) {
        Interface::socket_closed(&this.interface, &this);
    }
}
