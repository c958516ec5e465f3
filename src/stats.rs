// SPDX-License-Identifier: GPL-2.0

//! What a peer has sent and received.

use crate::{abstractions::skb::Weight, config::Traffic};
use kernel::sync::atomic::{Atomic, Relaxed};

/// Counters of one side: the inner packets, or the outer payloads.
///
/// Bytes and packets are counted one after the other; a reader may see one without the other.
pub(crate) struct Counters {
    rx_bytes: Atomic<i64>,
    tx_bytes: Atomic<i64>,
    rx_packets: Atomic<i64>,
    tx_packets: Atomic<i64>,
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            rx_bytes: Atomic::new(0),
            tx_bytes: Atomic::new(0),
            rx_packets: Atomic::new(0),
            tx_packets: Atomic::new(0),
        }
    }

    /// Counts packets that came.
    #[inline]
    pub(crate) fn count_rx(&self, weight: Weight) {
        self.rx_bytes.add(i64::from(weight.bytes), Relaxed);
        self.rx_packets.add(i64::from(weight.packets), Relaxed);
    }

    /// Counts packets that went.
    #[inline]
    pub(crate) fn count_tx(&self, weight: Weight) {
        self.tx_bytes.add(i64::from(weight.bytes), Relaxed);
        self.tx_packets.add(i64::from(weight.packets), Relaxed);
    }

    /// The counters now.
    pub(crate) fn snapshot(&self) -> Traffic {
        Traffic {
            rx_bytes: self.rx_bytes.load(Relaxed) as u64,
            tx_bytes: self.tx_bytes.load(Relaxed) as u64,
            rx_packets: self.rx_packets.load(Relaxed) as u64,
            tx_packets: self.tx_packets.load(Relaxed) as u64,
        }
    }
}
