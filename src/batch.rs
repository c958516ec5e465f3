// SPDX-License-Identifier: GPL-2.0

//! Packets for a peer that leave together.
//!
//! To route and send a packet by itself costs the stack more than its sealing does. Where packets for a
//! peer come fast, from one CPU, they wait for each other: until there are as many as one large packet
//! (UDP GSO) may hold, but not longer than [`WAIT`].

use crate::{
    abstractions::{
        aead::Workspaces,
        hrtimer::SoftTimer,
        netdevice::NetDevice,
        page_pool::{Area, MAX_AREA},
        skb::{SkBuff, Weight, HEADROOM},
        skb_list::SkBuffList,
        softirq::BhDisabled,
    },
    pace::Pace,
    peer::Peer,
    seal::MAX_TRAIN_BYTES,
};
use kernel::{
    cpu::CpuId,
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Release},
        SpinLock,
    },
};

/// The most packets that wait for each other.
const MAX_PACKETS: u32 = 64;
/// How many large packets may wait for one that is being sent.
pub(crate) const MAX_READY: u32 = 16;

/// How many nanoseconds the first of them waits.
pub(crate) const WAIT: u32 = 100_000;

/// A packet that waits for more of the same sender, and those that have come.
struct Open {
    first: SkBuff,
    /// All of them, if there are two or more.
    all: Option<Joint>,
}

/// Packets, one behind the other, in memory for a buffer. All are as long as the first but the last,
/// which may be shorter.
struct Joint {
    outer: SkBuff,
    area: Area,
    used: u32,
    weight: Weight,
    /// No more can be added.
    full: bool,
}

impl Joint {
    /// Room for packets as long as `first`, and that one in it.
    fn new(first: &SkBuff, workspaces: &Workspaces, bh: &BhDisabled) -> Option<Self> {
        let most = MAX_AREA
            .min(MAX_TRAIN_BYTES)
            .checked_div(first.len())?
            .min(MAX_PACKETS);
        let room = first.len().checked_mul(most)?;
        let mut joint = Self {
            outer: SkBuff::new(HEADROOM, 0).ok()?,
            area: workspaces.with(bh, |workspace| workspace.pool.lend(room))??,
            used: 0,
            weight: Weight::default(),
            full: false,
        };
        joint.add(first, first.len())?;
        Some(joint)
    }

    /// Adds a copy of a packet that is not longer than `slot`, as the first one is.
    #[inline]
    fn add(&mut self, packet: &SkBuff, slot: u32) -> Option<()> {
        let bytes = packet.linear();
        let used = self.used as usize;
        let end = used.checked_add(bytes.len())?;

        self.area.bytes().get_mut(used..end)?.copy_from_slice(bytes);
        self.used = end as u32;
        self.weight.add(packet.weight());
        self.full = packet.len() < slot || slot > self.area.len().saturating_sub(self.used);
        Some(())
    }

    /// All as one packet, charged to the sender of `first`. Else how many are lost.
    fn close(mut self, mut first: SkBuff) -> Result<SkBuff, u32> {
        let slot = first.len();
        let packets = self.weight.packets;

        self.outer
            .append(self.area, self.used)
            .map_err(|_| packets)?;
        self.outer.take_owner(&mut first);
        self.outer.set_udp_train(slot as u16, packets as u16);
        self.outer.set_weight(self.weight);
        first.consume();
        Ok(self.outer)
    }
}

impl Open {
    /// Whether a packet may wait at all: it is one, in one piece, two of its kind fit into a large one, and
    /// its sender does not mind.
    #[inline]
    fn takes(packet: &SkBuff) -> bool {
        !packet.is_gso()
            && packet.is_linear()
            && packet.len() <= MAX_AREA.min(MAX_TRAIN_BYTES) / 2
            && packet.owner_is_free()
    }

    /// Adds a copy of a packet, if it can.
    #[inline]
    fn add(&mut self, packet: &SkBuff, workspaces: &Workspaces, bh: &BhDisabled) -> Option<()> {
        let slot = self.first.len();

        if packet.len() > slot || !packet.has_owner_of(&self.first) {
            return None;
        }
        if self.all.is_none() {
            self.all = Joint::new(&self.first, workspaces, bh);
        }
        self.all.as_mut()?.add(packet, slot)
    }

    fn is_full(&self) -> bool {
        self.all.as_ref().is_some_and(|all| all.full)
    }

    fn close(self) -> Result<SkBuff, u32> {
        match self.all {
            Some(all) => all.close(self.first),
            None => Ok(self.first),
        }
    }
}

struct State {
    open: Option<Open>,
    /// What is to be sent next.
    ready: SkBuffList,
    ready_len: u32,
    /// Somebody sends what is ready, and looks again before stopping.
    sending: bool,
    /// The timer will expire, and look here.
    started: bool,
    /// The period in which a packet waited in vain for the first time since one did not.
    in_vain_from: Option<u32>,
}

impl State {
    fn push(&mut self, packet: SkBuff) {
        self.ready.push(packet);
        self.ready_len = self.ready_len.wrapping_add(1);
    }

    /// What waits for more waits no longer.
    fn close(&mut self, pace: &Pace, dev: &NetDevice) {
        let Some(open) = self.open.take() else {
            return;
        };
        if open.all.is_some() {
            self.in_vain_from = None;
        } else {
            pace.in_vain(&mut self.in_vain_from);
        }
        match open.close() {
            Ok(packet) => self.push(packet),
            Err(lost) => dev.count_tx_dropped(lost),
        }
    }
}

/// What a packet is in for.
pub(crate) enum Fate {
    /// It is to be sent now: nothing is before it.
    Send(SkBuff),
    /// It has been taken, and so may others have been: they are to be [sent](Batch::next).
    Depart,
    /// It has been taken. The timer is to be started.
    Start,
    /// It has been taken.
    Taken,
    /// Too many wait.
    Refused(SkBuff),
}

/// What there is to send.
pub(crate) enum Next {
    /// This.
    Packet(SkBuff),
    /// Nothing now. The timer is to be started.
    Start,
    /// Nothing.
    Nothing,
}

/// Sealed packets for a peer, on their way to its UDP socket. They leave in the order in which they came.
#[pin_data]
pub(crate) struct Batch {
    pace: Pace,
    /// Whether there is something in `state`, or somebody sends what was.
    busy: Atomic<bool>,
    #[pin]
    state: SpinLock<State>,
    /// Sends what has waited for long enough.
    #[pin]
    pub(crate) timer: SoftTimer<Peer>,
}

impl Batch {
    /// An empty one.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            pace: Pace::new(),
            busy: Atomic::new(false),
            state <- new_spinlock!(State {
                open: None,
                ready: SkBuffList::new(),
                ready_len: 0,
                sending: false,
                started: false,
                in_vain_from: None,
            }),
            timer <- SoftTimer::new(),
        })
    }

    /// A sealed packet is to be sent. Bottom halves disabled.
    #[inline]
    pub(crate) fn offer(
        &self,
        packet: SkBuff,
        workspaces: &Workspaces,
        dev: &NetDevice,
        bh: &BhDisabled,
    ) -> Fate {
        let cpu = CpuId::current().as_u32();
        let waits = self.pace.step(cpu) && Open::takes(&packet);

        if waits || self.busy.load(Acquire) {
            self.take(packet, waits, workspaces, dev, bh)
        } else {
            Fate::Send(packet)
        }
    }

    fn take(
        &self,
        packet: SkBuff,
        waits: bool,
        workspaces: &Workspaces,
        dev: &NetDevice,
        bh: &BhDisabled,
    ) -> Fate {
        let mut copied = None;
        let fate = {
            let mut state = self.state.lock();

            if state.ready_len >= MAX_READY {
                return Fate::Refused(packet);
            }
            self.busy.store(true, Release);
            let added = waits
                && state
                    .open
                    .as_mut()
                    .is_some_and(|open| open.add(&packet, workspaces, bh).is_some());
            if added {
                copied = Some(packet);
            } else {
                state.close(&self.pace, dev);
                if waits {
                    state.open = Some(Open {
                        first: packet,
                        all: None,
                    });
                } else {
                    state.push(packet);
                }
            }
            if state.open.as_ref().is_some_and(Open::is_full) {
                state.close(&self.pace, dev);
            }
            if state.sending {
                Fate::Taken
            } else if state.ready_len != 0 {
                state.sending = true;
                Fate::Depart
            } else if !core::mem::replace(&mut state.started, true) {
                Fate::Start
            } else {
                Fate::Taken
            }
        };
        // Its owner may have something to say about it: not with the lock held.
        if let Some(copied) = copied {
            copied.consume();
        }
        fate
    }

    /// The timer has expired: nothing waits any longer. Whether the caller is to [send](Self::next) it.
    /// Bottom halves disabled.
    pub(crate) fn close(&self, dev: &NetDevice, _bh: &BhDisabled) -> bool {
        let mut state = self.state.lock();

        state.started = false;
        state.close(&self.pace, dev);
        !core::mem::replace(&mut state.sending, true)
    }

    /// The one who is to send has sent enough: the timer is to go on. Whether it is to be started.
    /// Bottom halves disabled.
    pub(crate) fn hand_over(&self, _bh: &BhDisabled) -> bool {
        let mut state = self.state.lock();

        state.sending = false;
        !core::mem::replace(&mut state.started, true)
    }

    /// What to send next, for the only one who is to send until there is nothing.
    /// Bottom halves disabled.
    pub(crate) fn next(&self, _bh: &BhDisabled) -> Next {
        let mut state = self.state.lock();

        if let Some(packet) = state.ready.pop() {
            state.ready_len = state.ready_len.saturating_sub(1);
            return Next::Packet(packet);
        }
        state.sending = false;
        if state.open.is_none() {
            self.busy.store(false, Release);
            Next::Nothing
        } else if core::mem::replace(&mut state.started, true) {
            Next::Nothing
        } else {
            Next::Start
        }
    }
}
