// SPDX-License-Identifier: GPL-2.0

//! From packets of the stack to packets for the link.
//!
//! A large packet of the stack (GSO) is not cut first: each piece of its payload is copied to where
//! it is sealed, behind headers of its own, and all of them leave as one large packet again.

use crate::{
    abstractions::{
        aead::Workspace,
        netdevice::NetDevice,
        page_pool::MAX_AREA,
        rcu::{Guard, RcuRef},
        skb::{Cut, SkBuff, Weight, HEADROOM},
        skb_list::SkBuffList,
        socket::Kind,
        softirq::BhDisabled,
    },
    interface::OUTER_HEADERS,
    keys::Key,
    peer::Peer,
    proto::{
        packet::{DataHeader, OVERHEAD},
        packet_id::PacketIds,
        segment::{Segment, Segmenter, Transport},
        tcp_frame::{self, PREFIX_LEN},
    },
};
use kernel::prelude::*;

/// The most packets that go into one UDP train, which is what the kernel lets a program send at
/// once (`UDP_MAX_SEGMENTS`).
const MAX_TRAIN: u32 = 128;

/// The most bytes in one UDP train: what the largest IP packet holds.
pub(crate) const MAX_TRAIN_BYTES: u32 = u16::MAX as u32 - OUTER_HEADERS;

/// Packets for the link, each with the weight of the inner packets in it.
pub(crate) struct Sealed {
    pub(crate) outer: SkBuffList,
    /// How many inner packets they hold, with how many bytes.
    pub(crate) inner: Weight,
}

/// Encrypts a packet under the peer's primary key. What can not be sealed is dropped and counted.
pub(crate) fn seal(
    peer: &Peer,
    dev: &NetDevice,
    skb: SkBuff,
    guard: &Guard,
    bh: &BhDisabled,
) -> Sealed {
    let mut sealed = Sealed {
        outer: SkBuffList::new(),
        inner: Weight::default(),
    };
    let Some(key) = peer.keys.primary(guard) else {
        dev.count_tx_dropped(skb.segments());
        return sealed;
    };
    peer.interface.workspaces.with(bh, |workspace| {
        Sealer {
            peer,
            dev,
            key,
            prefix: match peer.socket.kind {
                Kind::Tcp => PREFIX_LEN,
                _ => 0,
            },
            workspace,
            sealed: &mut sealed,
        }
        .seal(skb)
    });
    sealed
}

struct Sealer<'a, 'g> {
    peer: &'a Peer,
    dev: &'a NetDevice,
    key: RcuRef<'g, Key>,
    /// Bytes before each packet: its length, on a stream.
    prefix: usize,
    workspace: &'a mut Workspace,
    sealed: &'a mut Sealed,
}

/// A large packet of the stack, and what is to become of it.
struct Large<'a> {
    skb: &'a SkBuff,
    cut: Cut,
    segmenter: Segmenter,
    ids: PacketIds,
    /// Bytes of payload.
    payload: u32,
    /// Bytes of payload that have been sealed.
    done: u32,
    /// Packets that have been sealed.
    index: u32,
}

impl Sealer<'_, '_> {
    fn seal(&mut self, mut skb: SkBuff) {
        if !skb.is_gso() {
            self.single_or_drop(skb);
        } else if let Some((cut, segmenter)) = self.plan(&skb) {
            let count = skb.len().saturating_sub(cut.headers).div_ceil(cut.size);
            if self.large(&mut skb, cut, segmenter, count).is_err() {
                self.dev.count_tx_dropped(count);
                return;
            }
            skb.consume();
        } else {
            // Of a kind that only the kernel knows how to cut.
            let count = skb.segments();
            let Ok(mut segments) = skb.segment() else {
                self.dev.count_tx_dropped(count);
                return;
            };
            while let Some(segment) = segments.pop() {
                self.single_or_drop(segment);
            }
        }
    }

    fn single_or_drop(&mut self, inner: SkBuff) {
        if self.single(inner).is_err() {
            self.dev.count_tx_dropped(1);
        }
    }

    /// Seals one packet into one, where it is if that can be.
    fn single(&mut self, mut inner: SkBuff) -> Result {
        let len = inner.len();
        let before = (OVERHEAD as u32).wrapping_add(self.prefix as u32);
        let packet_id = self.take_packet_ids(1)?.next().ok_or(ERANGE)?;
        let mut outer = if inner.claim(before) {
            inner
        } else {
            self.copy(inner, before)?
        };
        let (prefix, packet) = outer
            .linear_mut()
            .and_then(|bytes| bytes.split_at_mut_checked(self.prefix))
            .ok_or(EINVAL)?;
        self.finish(prefix, packet, packet_id)?;

        outer.set_weight(Weight::one(len));
        self.push(outer);
        Ok(())
    }

    /// A copy of a packet, in one piece, with `before` bytes in front.
    fn copy(&mut self, mut inner: SkBuff, before: u32) -> Result<SkBuff> {
        let room = inner.len().checked_add(before).ok_or(EMSGSIZE)?;
        let mut copy = SkBuff::in_area(&mut self.workspace.pool, HEADROOM, room)?;
        let body = copy
            .linear_mut()
            .and_then(|bytes| bytes.get_mut(before as usize..))
            .ok_or(EINVAL)?;

        inner.copy_complete(body)?;
        copy.take_owner(&mut inner);
        inner.consume();
        Ok(copy)
    }

    /// How to cut a large packet, if it is of a kind that is known here.
    fn plan(&self, skb: &SkBuff) -> Option<(Cut, Segmenter)> {
        let cut = skb.cut().filter(|cut| self.slot(cut) <= MAX_AREA)?;
        let headers = skb.linear().get(..cut.headers as usize)?;
        let transport = if cut.udp {
            Transport::Udp
        } else {
            Transport::Tcp
        };
        let segmenter = Segmenter::new(headers, transport, cut.fixed_id)?;
        Some(if cut.keeps_cwr {
            (cut, segmenter.with_cwr_on_all())
        } else {
            (cut, segmenter)
        })
    }

    /// Seals a large packet, of which there will be `count`, into as few as can be, or none at all.
    fn large(&mut self, skb: &mut SkBuff, cut: Cut, segmenter: Segmenter, count: u32) -> Result {
        let payload = skb.len().checked_sub(cut.headers).ok_or(EINVAL)?;
        let mut large = Large {
            skb,
            cut,
            segmenter,
            ids: self.take_packet_ids(count)?,
            payload,
            done: 0,
            index: 0,
        };
        let mut trains = SkBuffList::new();

        while large.done < payload {
            trains.push(self.train(&mut large)?);
        }
        // The charge goes with the first, whose release lets the sender go on.
        let mut first = true;
        while let Some(mut train) = trains.pop() {
            if core::mem::take(&mut first) {
                train.take_owner(skb);
            }
            self.push(train);
        }
        Ok(())
    }

    /// Seals as much of a large packet as one packet for the link holds.
    fn train(&mut self, large: &mut Large<'_>) -> Result<SkBuff> {
        let slot = self.slot(&large.cut);
        let most = if self.prefix == 0 {
            (MAX_TRAIN_BYTES / slot).clamp(1, MAX_TRAIN)
        } else {
            MAX_TRAIN
        };
        let mut outer = SkBuff::new(HEADROOM, 0)?;
        let mut weight = Weight::default();

        while weight.packets < most && large.done < large.payload {
            let count = (MAX_AREA / slot).min(most.wrapping_sub(weight.packets));
            self.fill_area(large, slot, count, &mut outer, &mut weight)?;
        }
        if self.prefix == 0 && weight.packets > 1 {
            outer.set_udp_train(slot as u16, weight.packets as u16);
        }
        outer.set_weight(weight);
        Ok(outer)
    }

    /// Seals up to `count` packets, each in a slot of its own, and appends them to `outer`.
    fn fill_area(
        &mut self,
        large: &mut Large<'_>,
        slot: u32,
        count: u32,
        outer: &mut SkBuff,
        weight: &mut Weight,
    ) -> Result {
        let left = large.payload.wrapping_sub(large.done);
        let count = count.min(left.div_ceil(large.cut.size));
        let mut area = self
            .workspace
            .pool
            .lend(slot.checked_mul(count).ok_or(EMSGSIZE)?)
            .ok_or(ENOMEM)?;
        let mut used: u32 = 0;

        for slot in area.bytes().chunks_exact_mut(slot as usize) {
            let inner = self.fill_slot(large, slot)?;
            weight.add(Weight::one(inner));
            used = used
                .wrapping_add(inner)
                .wrapping_add(OVERHEAD as u32)
                .wrapping_add(self.prefix as u32);
        }
        outer.append(area, used)
    }

    /// Seals the next packet of a large one into `slot`. Returns the length of the inner packet.
    #[inline]
    fn fill_slot(&mut self, large: &mut Large<'_>, slot: &mut [u8]) -> Result<u32> {
        let headers = large.cut.headers;
        let payload = large.cut.size.min(large.payload.wrapping_sub(large.done));
        let inner = headers.checked_add(payload).ok_or(EMSGSIZE)?;

        let (prefix, packet) = slot.split_at_mut_checked(self.prefix).ok_or(EINVAL)?;
        let packet = packet
            .get_mut(..OVERHEAD.wrapping_add(inner as usize))
            .ok_or(EINVAL)?;
        let body = packet.get_mut(OVERHEAD..).ok_or(EINVAL)?;
        let (head, data) = body.split_at_mut_checked(headers as usize).ok_or(EINVAL)?;
        let sum = large
            .skb
            .copy_and_sum(headers.checked_add(large.done).ok_or(EMSGSIZE)?, data)
            .ok_or(EINVAL)?;
        let segment = Segment {
            index: large.index,
            offset: large.done,
            payload_len: u16::try_from(payload).map_err(|_| EMSGSIZE)?,
            payload_sum: sum,
            last: large.done.wrapping_add(payload) == large.payload,
        };
        if !large.segmenter.write(&segment, head) {
            return Err(EMSGSIZE);
        }
        let packet_id = large.ids.next().ok_or(ERANGE)?;
        self.finish(prefix, packet, packet_id)?;
        large.done = large.done.wrapping_add(payload);
        large.index = large.index.wrapping_add(1);
        Ok(inner)
    }

    /// Writes what stands before an inner packet, and encrypts it.
    #[inline]
    fn finish(&mut self, prefix: &mut [u8], packet: &mut [u8], packet_id: u32) -> Result {
        if let Some(prefix) = prefix.first_chunk_mut::<PREFIX_LEN>() {
            *prefix = tcp_frame::prefix(packet.len()).ok_or(EMSGSIZE)?;
        }
        let header = DataHeader {
            key_id: self.key.id,
            peer_id: self.peer.id,
            packet_id,
        };
        self.key.encrypt.seal(self.workspace, &header, packet)
    }

    /// Bytes that a full packet takes on the link.
    fn slot(&self, cut: &Cut) -> u32 {
        cut.size
            .saturating_add(cut.headers)
            .saturating_add(OVERHEAD as u32)
            .saturating_add(self.prefix as u32)
    }

    fn take_packet_ids(&self, count: u32) -> Result<PacketIds> {
        self.key.take_packet_ids(count).ok_or(ERANGE)
    }

    fn push(&mut self, outer: SkBuff) {
        self.sealed.inner.add(outer.weight());
        self.sealed.outer.push(outer);
    }
}
