// SPDX-License-Identifier: GPL-2.0

//! Signs of life: messages to peers that have not heard from us for a while, and the end of peers
//! that we have not heard from.

use crate::{
    abstractions::{rcu::RcuArc, time, workqueue::DelayedWork},
    config::Reason,
    interface::Interface,
    peer::Peer,
    proto::message::KEEPALIVE,
    tx,
};
use core::cell::Cell;
use kernel::time::{msecs_to_jiffies, Msecs};

/// What is to be done about a peer now.
enum Due {
    Nothing,
    Message,
    End,
}

fn due(peer: &Peer, now: u64) -> Due {
    let passed = |moment: Option<u64>| moment.is_some_and(|moment| moment <= now);

    if passed(peer.keepalive.expire_at()) {
        Due::End
    } else if passed(peer.keepalive.send_at()) {
        Due::Message
    } else {
        Due::Nothing
    }
}

/// Does what is due for all peers and arranges to be called when something is due again.
///
/// Process context, from the workqueue.
pub(crate) fn run(interface: &RcuArc<Interface>) {
    let now = time::boottime_seconds();
    let next: Cell<Option<u64>> = Cell::new(None);

    let why = |peer: &RcuArc<Peer>| {
        match due(peer, now) {
            Due::End => return Some(Reason::Expired),
            Due::Message => {
                tx::send_message(peer, &KEEPALIVE);
                // Whether or not it could be sent: the next try is an interval away.
                peer.keepalive.sent(now);
            }
            Due::Nothing => {}
        }
        let moments = [peer.keepalive.expire_at(), peer.keepalive.send_at()];
        next.set(moments.into_iter().flatten().chain(next.get()).min());
        None
    };
    // With the peers still locked: later it could undo what a request has arranged meanwhile, or
    // come after the interface has gone.
    interface.peers.end_where_then(interface, why, || {
        if let Some(next) = next.get() {
            let milliseconds = next.saturating_sub(now).clamp(1, 3600).saturating_mul(1000);
            DelayedWork::schedule(interface, msecs_to_jiffies(milliseconds as Msecs));
        }
    });
}
