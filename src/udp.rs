// SPDX-License-Identifier: GPL-2.0

//! UDP as a transport.

use crate::{
    abstractions::{
        rcu::{Guard, RcuArc},
        skb::SkBuff,
        udp_tunnel::Receiver,
    },
    config::Reason,
    rx,
    socket::Socket,
};

impl Receiver for Socket {
    fn receive(&self, skb: SkBuff, guard: &Guard) -> Option<SkBuff> {
        rx::receive_datagram(self, skb, guard)
    }

    fn closed(this: RcuArc<Self>) {
        this.end_peers(Reason::TransportDisconnected);
    }
}
