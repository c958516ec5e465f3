// SPDX-License-Identifier: GPL-2.0

//! Trains: packets of one sender that the stack hands over as one, for it received them in a row
//! (UDP GRO) or they never were apart.
//!
//! Peer and key are looked up once. Each packet is opened to where its payload follows that of the
//! packet before, so that TCP segments of one flow come out as one packet.

use crate::{
    abstractions::{
        aead::Workspace,
        netdevice::NetDevice,
        page_pool::{Area, MAX_AREA},
        rcu::Guard,
        skb::{Joined, SkBuff, UdpAddresses, Weight, HEADROOM},
        softirq::BhDisabled,
        time,
    },
    keys::Key,
    peer::Peer,
    proto::{
        merge::{Merge, MAX_HEADERS},
        packet::{self, DataHeader, Packet, HEADER_LEN, OVERHEAD},
        tcp_frame::PREFIX_LEN,
    },
    rx,
    socket::Socket,
};
use core::num::NonZero;

/// Bytes of a header that all packets of a train share: opcode, key id and peer id.
const SHARED: usize = 4;

/// Bytes that are set aside while headers stand in their place: more than the headers, so that it is
/// always the same number.
const ASIDE: usize = 128;
const _: () = assert!(MAX_HEADERS <= ASIDE);

/// Up to this length a packet is copied to its buffer whole.
const SMALL: usize = 256;

/// Takes a train whose packets begin `offset` bytes behind the data pointer, each `size` bytes long
/// but the last. Returns it if it is not all data of one peer under one key, or not laid out
/// packet by packet: the stack then hands it over in pieces. Softirq context.
pub(crate) fn receive(
    socket: &Socket,
    skb: SkBuff,
    offset: u32,
    size: u16,
    guard: &Guard,
) -> Option<SkBuff> {
    // No area is as large as what a link with a huge MTU may carry.
    let Some(size) = NonZero::new(usize::from(size)).filter(|size| size.get() <= MAX_AREA as usize)
    else {
        return Some(skb);
    };
    let Some(header) = shared_header(&skb, offset, size) else {
        return Some(skb);
    };
    let Some(addresses) = skb.udp_addresses() else {
        return Some(skb);
    };
    // A device that is going away takes no packets.
    let dev = socket.interface.device(guard)?;
    let bh = BhDisabled::new();

    let left = skb.len().saturating_sub(offset);
    let opened = open(
        socket,
        &header,
        dev,
        left,
        Some(&addresses),
        guard,
        &bh,
        |open| {
            for part in skb.parts(offset) {
                for packet in part.chunks(size.get()) {
                    open.next(packet);
                }
            }
            Some(())
        },
    );
    match opened {
        Some(()) => skb.consume(),
        None => count_dropped(dev, &skb, offset, size),
    }
    None
}

/// Takes `len` bytes of messages that begin `offset` bytes into `messages`, each `size` bytes long with
/// its prefix, all data under one key. Softirq or process context.
pub(crate) fn receive_messages(
    socket: &Socket,
    messages: &SkBuff,
    offset: u32,
    len: u32,
    size: NonZero<u32>,
    guard: &Guard,
) {
    // A device that is going away takes no packets.
    let Some(dev) = socket.interface.device(guard) else {
        return;
    };
    let bh = BhDisabled::new();
    let count = len / size;
    let mut done: u32 = 0;

    let opened = first_message(messages, offset).and_then(|header| {
        open(socket, &header, dev, len, None, guard, &bh, |open| {
            let mut reader = messages.reader(offset);
            let packet_len = (size.get() as usize).checked_sub(PREFIX_LEN)?;
            // Copied, as pages that were spliced into the stream may change while they are opened.
            let mut copy = open.workspace.pool.lend(size.get())?;
            let packet = copy.bytes().get_mut(..packet_len)?;
            while done < count {
                reader.skip(PREFIX_LEN)?;
                reader.read(packet)?;
                open.next(packet);
                done = done.wrapping_add(1);
            }
            Some(())
        })
    });
    if opened.is_none() {
        dev.count_rx_dropped(count.saturating_sub(done));
    }
}

/// The header of the first message.
fn first_message(messages: &SkBuff, offset: u32) -> Option<DataHeader> {
    let mut header = [0; HEADER_LEN];
    let mut reader = messages.reader(offset);

    reader.skip(PREFIX_LEN)?;
    reader.read(&mut header)?;
    DataHeader::from_bytes(&header)
}

/// What the headers of all packets have in common, if they have.
fn shared_header(skb: &SkBuff, offset: u32, size: NonZero<usize>) -> Option<DataHeader> {
    let mut shared = None;
    let mut parts = skb.parts(offset);
    let mut short = false;

    for part in &mut parts {
        for packet in part.chunks(size.get()) {
            let head = packet.first_chunk::<SHARED>()?;
            // Only the last one may be shorter.
            if short || *shared.get_or_insert(head) != head {
                return None;
            }
            short = packet.len() != size.get();
        }
    }
    if parts.is_broken() {
        return None;
    }
    let first = skb.parts(offset).next()?;
    match packet::parse(first.get(..HEADER_LEN.min(first.len()))?) {
        Ok(Packet::Data(header)) => Some(header),
        _ => None,
    }
}

#[cold]
fn count_dropped(dev: &NetDevice, skb: &SkBuff, offset: u32, size: NonZero<usize>) {
    let packets = skb
        .parts(offset)
        .map(|part| part.len().div_ceil(size.get()));
    dev.count_rx_dropped(packets.fold(0, usize::wrapping_add) as u32);
}

/// Packets that are opened one after the other.
struct Opening<'a, 'w> {
    opener: Opener<'a>,
    workspace: &'w mut Workspace,
    key: &'a Key,
    bh: &'a BhDisabled,
    /// In seconds since boot.
    now: u64,
    /// What was authentic and new.
    link: Weight,
}

impl Opening<'_, '_> {
    #[inline]
    fn next(&mut self, packet: &[u8]) {
        let opened = self
            .opener
            .open(self.workspace, self.key, packet, self.now, self.bh);

        match opened {
            Some(()) => self.link.add(Weight::one(packet.len() as u32)),
            None => self.opener.dev.count_rx_dropped(1),
        }
    }
}

/// Opens all packets that `each` gives, about `left` bytes, and hands on what is authentic, new, and from
/// where it may be. `None` if nothing could be tried, or `each` says that something could not.
#[allow(clippy::too_many_arguments)]
fn open(
    socket: &Socket,
    header: &DataHeader,
    dev: &NetDevice,
    left: u32,
    addresses: Option<&UdpAddresses>,
    guard: &Guard,
    bh: &BhDisabled,
    each: impl FnOnce(&mut Opening<'_, '_>) -> Option<()>,
) -> Option<()> {
    let peer = rx::find_peer(socket, header, addresses, guard)?;
    let key = peer.keys.find(header.key_id, guard)?;
    let now = time::boottime_seconds();

    let (link, all) = peer.interface.workspaces.with(bh, |workspace| {
        let mut opening = Opening {
            opener: Opener {
                peer,
                dev,
                guard,
                left,
                area: None,
                end: 0,
                run: None,
            },
            workspace,
            key: key.get(),
            bh,
            now,
            link: Weight::default(),
        };
        let all = each(&mut opening);
        opening.opener.end_run();
        (opening.link, all)
    })?;
    if link.packets != 0 {
        rx::accepted(peer, link, addresses, now, guard, bh);
    }
    all
}

/// Opens one packet after the other.
struct Opener<'a> {
    peer: &'a Peer,
    dev: &'a NetDevice,
    guard: &'a Guard,
    /// Bytes that are still to come, headers included.
    left: u32,
    /// Where packets are opened to.
    area: Option<Area>,
    /// Where in `area` the next payload goes.
    end: usize,
    run: Option<Run>,
}

/// TCP segments that follow one another, as one packet in the making.
struct Run {
    merge: Merge,
    /// The headers, to be written, and the payload of former areas.
    skb: SkBuff,
    /// Where in the area its payload begins.
    start: usize,
    weight: Weight,
}

impl Run {
    /// Joins a packet of `len` bytes, which is at `place`, if it continues the run. `apart` of its bytes
    /// stand before what the area has.
    #[inline]
    fn continues(&mut self, place: &[u8], apart: usize, len: usize) -> bool {
        let headers = self.merge.header_len();
        let joined = place
            .get(..headers)
            .is_some_and(|seen| self.merge.append(seen, len));
        if joined {
            self.weight.add(Weight::one(len as u32));
            if apart == 0 {
                // The area is new, and the headers are in it.
                self.start = headers;
            }
        }
        joined
    }

    /// Writes the headers, if they are not those of a single packet: then says how to mark it.
    fn finish(&mut self) -> Option<Option<Joined>> {
        if self.weight.packets == 1 {
            return Some(None);
        }
        let merged = self.merge.finish(self.skb.linear_mut()?)?;
        Some(Some(Joined {
            size: merged.mss,
            segments: merged.segments,
            transport_offset: merged.transport_offset,
            v6: merged.v6,
            fixed_id: merged.fixed_id,
            ecn: merged.ecn,
        }))
    }
}

/// A packet that was opened and does not continue the run.
struct Opened {
    /// Its first bytes.
    head: [u8; MAX_HEADERS],
    /// How many bytes of it stand only in `head`; the others are at the end of what is in the area.
    apart: usize,
    len: usize,
}

impl Opened {
    /// The packet at `place`, the first `apart` bytes of which do not stay there.
    fn new(place: &[u8], apart: usize) -> Self {
        let mut head = [0; MAX_HEADERS];
        for (to, from) in head.iter_mut().zip(place) {
            *to = *from;
        }
        Self {
            head,
            apart,
            len: place.len(),
        }
    }
}

impl Opener<'_> {
    /// `None` unless the packet is authentic and new.
    #[inline]
    fn open(
        &mut self,
        workspace: &mut Workspace,
        key: &Key,
        packet: &[u8],
        now: u64,
        bh: &BhDisabled,
    ) -> Option<()> {
        let header = DataHeader::from_bytes(packet.first_chunk()?)?;
        let len = packet.len().checked_sub(OVERHEAD)?;
        self.make_room(workspace, len)?;
        self.left = self.left.saturating_sub(packet.len() as u32);

        // The headers of a packet that continues a run take the place of the last bytes of payload,
        // which are put back then: payload follows payload.
        let apart = match &self.run {
            Some(run) if self.end >= ASIDE => run.merge.header_len().min(len),
            _ => 0,
        };
        let start = self.end.checked_sub(apart)?;
        let area = self.area.as_mut()?.bytes();
        let aside = area
            .get(self.end.saturating_sub(ASIDE)..)?
            .first_chunk::<ASIDE>()
            .copied();
        let place = area.get_mut(start..start.checked_add(len)?)?;

        let authentic = key
            .decrypt
            .open_to(workspace, &header, packet, place)
            .is_ok_and(|()| key.accept(header.packet_id, now, bh).is_ok());
        let continued = match &mut self.run {
            // Right behind what came before, or in a new area.
            Some(run) if authentic && (apart != 0 || self.end == 0) => {
                run.continues(place, apart, len)
            }
            _ => false,
        };
        let opened = (authentic && !continued).then(|| Opened::new(place, apart));
        if apart != 0 {
            *area
                .get_mut(self.end.checked_sub(ASIDE)?..)?
                .first_chunk_mut::<ASIDE>()? = aside?;
        }

        if continued {
            self.end = start.checked_add(len)?;
            if self.run.as_ref().is_some_and(|run| !run.merge.is_open()) {
                self.end_run();
            }
        } else if opened.is_some_and(|opened| self.begin(&opened).is_none()) {
            self.dev.count_rx_dropped(1);
        }
        authentic.then_some(())
    }

    /// Finds a place for a packet of `len` bytes.
    #[inline]
    fn make_room(&mut self, workspace: &mut Workspace, len: usize) -> Option<()> {
        let room = self.area.as_ref().map_or(0, |area| area.len() as usize);
        if self.end.checked_add(len)? <= room {
            return Some(());
        }
        self.end_piece();
        let wanted = self.left.clamp(u32::try_from(len).ok()?, MAX_AREA);
        self.area = Some(workspace.pool.lend(wanted)?);
        self.end = 0;
        if let Some(run) = &mut self.run {
            run.start = 0;
        }
        Some(())
    }

    /// Hands on the run, and begins another with a packet that does not continue it, or hands on that
    /// as well.
    fn begin(&mut self, opened: &Opened) -> Option<()> {
        self.end_run();
        let after = self
            .end
            .checked_add(opened.len.checked_sub(opened.apart)?)?;
        let seen = opened.head.get(..MAX_HEADERS.min(opened.len))?;

        match Merge::begin(seen, opened.len) {
            // Its payload stands alone if what stands apart is no more than its headers.
            Some(merge) if opened.apart <= merge.header_len() => {
                self.begin_run(merge, opened, after)
            }
            _ => self.single(opened, after),
        }
    }

    fn begin_run(&mut self, merge: Merge, opened: &Opened, after: usize) -> Option<()> {
        let headers = merge.header_len();
        let mut skb = SkBuff::new(HEADROOM, headers as u32).ok()?;
        skb.extend_from_slice(opened.head.get(..headers)?).ok()?;
        let in_area = headers.checked_sub(opened.apart)?;
        // The stack's own receive offload, through which a merge goes next, takes a CWR in it for one
        // in each of its packets.
        let open = merge.is_open() && !merge.has_cwr();
        self.run = Some(Run {
            merge,
            skb,
            start: self.end.checked_add(in_area)?,
            weight: Weight::one(opened.len as u32),
        });
        self.end = after;
        if !open {
            self.end_run();
        }
        Some(())
    }

    /// Puts the payload of the run that is in the area into its packet.
    fn end_piece(&mut self) {
        let Some(run) = &mut self.run else {
            return;
        };
        let Some(piece) = cut(&mut self.area, run.start, self.end) else {
            return;
        };
        self.end = 0;
        run.start = 0;
        let len = piece.len();
        // Cannot have more pieces than a packet has room for; if it had, it would be dropped
        // for its length not being what its headers say.
        let _ = run.skb.append(piece, len);
    }

    /// Hands the run on, if there is one.
    fn end_run(&mut self) {
        self.end_piece();
        let Some(mut run) = self.run.take() else {
            return;
        };
        let weight = run.weight;
        let delivered = run.finish().and_then(|joined| {
            run.skb.set_weight(weight);
            rx::deliver(self.peer, self.dev, run.skb, joined.as_ref(), self.guard)
        });
        if delivered.is_none() {
            self.dev.count_rx_dropped(weight.packets);
        }
    }

    /// Hands on a packet that is no part of a run.
    fn single(&mut self, opened: &Opened, after: usize) -> Option<()> {
        let mut skb;

        if opened.len <= SMALL {
            skb = SkBuff::new(HEADROOM, opened.len as u32).ok()?;
            skb.extend_from_slice(opened.head.get(..opened.apart)?)
                .ok()?;
            if let Some(area) = &mut self.area {
                // The next packet may take its place.
                skb.extend_from_slice(area.bytes().get(self.end..after)?)
                    .ok()?;
            }
        } else {
            skb = SkBuff::new(HEADROOM, MAX_HEADERS as u32).ok()?;
            skb.extend_from_slice(&opened.head).ok()?;
            let start = self
                .end
                .checked_add(MAX_HEADERS.checked_sub(opened.apart)?)?;
            let piece = cut(&mut self.area, start, after)?;
            self.end = 0;
            let len = piece.len();
            skb.append(piece, len).ok()?;
        }
        skb.set_weight(Weight::one(opened.len as u32));
        rx::deliver(self.peer, self.dev, skb, None, self.guard)
    }
}

/// Takes the bytes from `start` to `end` out of `area`, and what is before them; the rest stays.
fn cut(area: &mut Option<Area>, start: usize, end: usize) -> Option<Area> {
    if start >= end {
        return None;
    }
    let whole = area.as_mut()?;
    let mut piece = match whole.split_front(end as u32) {
        Some(piece) => piece,
        None => area.take()?,
    };
    if start != 0 {
        piece.split_front(start as u32)?;
    }
    Some(piece)
}
