// SPDX-License-Identifier: GPL-2.0

//! UDP as a transport.

use crate::{
    abstractions::{
        rcu::{Guard, RcuArc},
        skb::SkBuff,
        softirq::BhDisabled,
        udp_tunnel::Receiver,
    },
    config::Reason,
    rx,
    socket::Socket,
    train,
};

impl Receiver for Socket {
    fn receive(&self, skb: SkBuff, guard: &Guard, bh: &BhDisabled) -> Option<SkBuff> {
        rx::receive_datagram(self, skb, guard, bh)
    }

    fn receive_train(&self, skb: SkBuff, offset: u32, size: u16, guard: &Guard) -> Option<SkBuff> {
        train::receive(self, skb, offset, size, guard)
    }

    fn closed(this: RcuArc<Self>) {
        this.end_peers(Reason::TransportDisconnected);
    }
}
