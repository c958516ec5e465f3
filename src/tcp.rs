// SPDX-License-Identifier: GPL-2.0

//! TCP as a transport.

use crate::{
    abstractions::{
        rcu::{Guard, RcuArc},
        skb::SkBuff,
        socket::Sock,
        tcp::{self, Connection, Failure, Stream, FLUSH, HEAD_LEN},
        tcp_overrides::Overrides,
        workqueue::{DelayedWork, Run},
    },
    config::Reason,
    proto::{
        packet,
        tcp_frame::{self, Frame, PREFIX_LEN},
    },
    rx,
    socket::Socket,
    train,
};
use core::num::NonZero;
use kernel::{
    prelude::*,
    sync::atomic::Relaxed,
    time::{msecs_to_jiffies, Jiffies},
};

/// What a TCP socket of a peer has in place of its own operations.
pub(crate) static OVERRIDES: Overrides<Socket> = Overrides::new();

/// How often to look, in milliseconds, and how many times, whether the daemon has read what came
/// before the end of a connection.
const PATIENCE_MS: u32 = 100;
const PATIENCE: i32 = 50;

impl Stream for Socket {
    fn connection(&self) -> &Connection<Self> {
        &self.connection
    }

    fn sock(&self) -> &Sock {
        &self.sock
    }

    fn overrides() -> &'static Overrides<Self> {
        &OVERRIDES
    }

    fn frame(available: &[u8]) -> Result<Option<u32>> {
        match tcp_frame::frame(available) {
            Ok(Frame::NeedMore) => Ok(None),
            Ok(Frame::Total(len)) => Ok(Some(u32::try_from(len).map_err(|_| EMSGSIZE)?)),
            Err(tcp_frame::EmptyFrame) => Err(EINVAL),
        }
    }

    fn receive(&self, message: SkBuff, guard: &Guard) -> Option<SkBuff> {
        rx::receive_message(self, message, guard)
    }

    fn is_for_train(head: &[u8; HEAD_LEN]) -> bool {
        head.get(PREFIX_LEN..).is_some_and(packet::is_data)
    }

    fn receive_train(
        &self,
        messages: &SkBuff,
        offset: u32,
        len: u32,
        size: NonZero<u32>,
        guard: &Guard,
    ) {
        train::receive_messages(self, messages, offset, len, size, guard);
    }

    fn can_lose(&self, first: u8, guard: &Guard) -> bool {
        rx::is_lost(self, first, guard)
    }

    fn failed(this: RcuArc<Self>, failure: Failure) {
        let reason = match failure {
            Failure::Error => Reason::TransportError,
            Failure::Disconnected => Reason::TransportDisconnected,
        };
        // The first failure is the cause of the others.
        let _ = this.failure.cmpxchg(0, reason as i32, Relaxed);
        DelayedWork::<Self>::schedule(&this, 0);
    }

    fn closed(this: RcuArc<Self>) {
        this.end_peers(Reason::TransportDisconnected);
    }
}

/// Sends what waits.
impl Run<FLUSH> for Socket {
    fn work(&self) -> &DelayedWork<Self, FLUSH> {
        self.connection.work()
    }

    fn run(this: RcuArc<Self>) {
        tcp::flush(&this);
    }
}

/// Ends the peer after the connection has failed.
impl Run for Socket {
    fn work(&self) -> &DelayedWork<Self> {
        &self.ending
    }

    fn run(this: RcuArc<Self>) {
        // The other end may have said why it leaves: the daemon reads that first.
        let disconnected = this.failure.load(Relaxed) == Reason::TransportDisconnected as i32;
        if disconnected && this.connection.has_incoming() {
            let waited = this.patience.load(Relaxed);
            if waited < PATIENCE {
                this.patience.store(waited.wrapping_add(1), Relaxed);
                let delay: Jiffies = msecs_to_jiffies(PATIENCE_MS);
                DelayedWork::<Self>::schedule(&this, delay);
                return;
            }
        }
        this.end_peers(if disconnected {
            Reason::TransportDisconnected
        } else {
            Reason::TransportError
        });
    }
}
