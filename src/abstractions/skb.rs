// SPDX-License-Identifier: GPL-2.0

//! Socket buffers.
//!
//! C header: [`include/linux/skbuff.h`](srctree/include/linux/skbuff.h)

use super::{
    page_pool::{self, Area, PagePool},
    rcu::Guard,
    skb_list::SkBuffList,
    skb_parts::{Parts, Reader},
};
use crate::bindings;
use core::{mem::ManuallyDrop, ptr, ptr::NonNull, slice};
use kernel::prelude::*;

/// Bytes to leave free before an outer packet: UDP and IPv6 headers, and a link header of the
/// usual sizes; the stack makes more room where a link needs it.
pub const HEADROOM: u32 = 128;

/// A socket buffer that this value owns; dropping it counts as a packet drop.
///
/// # Invariants
///
/// Points to a valid `struct sk_buff` that is on no list and whose one reference is owned.
pub struct SkBuff(NonNull<bindings::sk_buff>);

// SAFETY: A socket buffer may be owned and freed by any thread.
unsafe impl Send for SkBuff {}

/// Outer addresses of a packet that a UDP socket received. Ports in host order.
#[derive(Clone, Copy)]
pub enum UdpAddresses {
    /// From and to IPv4.
    V4 {
        /// Who sent it.
        source: [u8; 4],
        /// From which port.
        source_port: u16,
        /// To which of our addresses.
        destination: [u8; 4],
    },
    /// From and to IPv6.
    V6 {
        /// Who sent it.
        source: [u8; 16],
        /// From which port.
        source_port: u16,
        /// To which of our addresses.
        destination: [u8; 16],
        /// The interface index where `source` is link-local, else 0.
        scope_id: u32,
    },
}

/// How a packet of the stack that is several in one is to be cut.
#[derive(Clone, Copy)]
pub struct Cut {
    /// Bytes of payload for each, not 0.
    pub size: u32,
    /// Bytes of network and transport header, which are in the linear part.
    pub headers: u32,
    /// UDP, else TCP.
    pub udp: bool,
    /// Whether all keep the IPv4 id of the first.
    pub fixed_id: bool,
    /// Whether all keep CWR, as with accurate ECN.
    pub keeps_cwr: bool,
}

/// How many packets a buffer stands for.
#[derive(Clone, Copy, Default)]
pub struct Weight {
    /// Packets.
    pub packets: u32,
    /// Bytes in all of them.
    pub bytes: u32,
}

impl Weight {
    /// The weight of one packet of `bytes`.
    #[inline]
    pub fn one(bytes: u32) -> Self {
        Self { packets: 1, bytes }
    }

    /// Adds more packets. What is in one buffer, or a few, does not come near the limits.
    #[inline]
    pub fn add(&mut self, more: Self) {
        self.packets = self.packets.wrapping_add(more.packets);
        self.bytes = self.bytes.wrapping_add(more.bytes);
    }
}

/// What a packet is that TCP segments have been joined to.
#[derive(Clone, Copy)]
pub struct Joined {
    /// Bytes of payload of each but the last.
    pub size: u16,
    /// How many there are, at least two.
    pub segments: u16,
    /// From the IP header to the TCP header.
    pub transport_offset: u16,
    /// IPv6, else IPv4.
    pub v6: bool,
    /// Whether all have the same IPv4 id.
    pub fixed_id: bool,
    /// Whether the first has CWR set.
    pub ecn: bool,
}

impl SkBuff {
    /// # Safety
    ///
    /// The caller hands over its reference to a valid buffer that is on no list.
    pub(super) unsafe fn from_raw(raw: NonNull<bindings::sk_buff>) -> Self {
        // INVARIANT: By the safety requirement.
        Self(raw)
    }

    /// Gives the buffer away.
    pub(super) fn into_raw(self) -> *mut bindings::sk_buff {
        ManuallyDrop::new(self).0.as_ptr()
    }

    pub(super) fn as_raw(&self) -> *mut bindings::sk_buff {
        self.0.as_ptr()
    }

    /// Allocates an empty linear buffer with `headroom` bytes before and `room` bytes behind its
    /// data pointer. Any context; fails with `ENOMEM`.
    pub fn new(headroom: u32, room: u32) -> Result<Self> {
        let size = headroom.checked_add(room).ok_or(EMSGSIZE)?;
        // SAFETY: Allocating has no preconditions.
        let raw = unsafe {
            bindings::__alloc_skb(
                size,
                kernel::bindings::GFP_ATOMIC,
                0,
                bindings::NUMA_NO_NODE,
            )
        };
        let raw = NonNull::new(raw).ok_or(ENOMEM)?;
        // SAFETY: The buffer is new and empty, and `headroom` is within its size.
        unsafe {
            let skb = raw.as_ptr();
            (*skb).data = (*skb).data.wrapping_add(headroom as usize);
            bindings::skb_reset_tail_pointer(skb);
        }
        // INVARIANT: The allocation is ours.
        Ok(Self(raw))
    }

    /// Bytes from the data pointer on, in the linear part and in fragments.
    #[inline]
    pub fn len(&self) -> u32 {
        // SAFETY: By the type invariants.
        unsafe { (*self.as_raw()).len }
    }

    #[inline]
    fn data_len(&self) -> u32 {
        // SAFETY: By the type invariants.
        unsafe { (*self.as_raw()).data_len }
    }

    /// Whether all bytes are in the linear part.
    #[inline]
    pub fn is_linear(&self) -> bool {
        self.data_len() == 0
    }

    /// The bytes of the linear part.
    #[inline]
    pub fn linear(&self) -> &[u8] {
        let len = self.len().wrapping_sub(self.data_len());
        // SAFETY: By the type invariants, `data` is followed by `len - data_len` bytes that
        // belong to the buffer, and whoever made it has written them.
        unsafe { slice::from_raw_parts((*self.as_raw()).data, len as usize) }
    }

    /// Sees to it that the first `len` bytes are in the linear part. Returns whether they are;
    /// they are not if the packet is shorter, or memory is.
    #[inline]
    pub fn may_pull(&mut self, len: u32) -> bool {
        let linear = self.len().wrapping_sub(self.data_len());

        if len <= linear {
            return true;
        }
        if len > self.len() {
            return false;
        }
        // SAFETY: By the type invariants; the missing bytes are in the fragments.
        !unsafe { bindings::__pskb_pull_tail(self.as_raw(), len.wrapping_sub(linear) as c_int) }
            .is_null()
    }

    /// Takes `len` bytes off the front of the linear part; returns whether there were that many.
    #[inline]
    pub fn pull(&mut self, len: u32) -> bool {
        if len > self.len().wrapping_sub(self.data_len()) {
            return false;
        }
        // SAFETY: The bytes are there, and an exclusive reference is held.
        unsafe {
            let skb = self.as_raw();
            (*skb).len = (*skb).len.wrapping_sub(len);
            (*skb).data = (*skb).data.wrapping_add(len as usize);
        }
        true
    }

    /// A linear buffer of `len` bytes, in memory of `pool` if they fit into an area of it. What they hold
    /// is what was there. Bottom halves disabled; fails with `ENOMEM`.
    #[inline]
    pub fn in_area(pool: &mut PagePool, headroom: u32, len: u32) -> Result<Self> {
        // SAFETY: The function has no preconditions.
        let overhead = unsafe { bindings::ovpn_shim_skb_area_overhead() };
        let size = headroom
            .checked_add(len)
            .and_then(|size| size.checked_next_multiple_of(64))
            .and_then(|size| size.checked_add(overhead))
            .ok_or(EMSGSIZE)?;
        if size > page_pool::MAX_AREA {
            return Self::zeroed(headroom, len);
        }
        let area = pool.lend(size).ok_or(ENOMEM)?;
        let size = area.len();
        let (page, _, start, _) = area.into_raw();

        // SAFETY: The area is ours, and goes with the buffer, which is marked for recycling; if
        // there is none, the area is given back. There is room for headroom and bytes, and
        // behind them for what the buffer needs itself.
        unsafe {
            let raw = bindings::ovpn_shim_skb_in_area(start.as_ptr().cast(), size);
            let Some(raw) = NonNull::new(raw) else {
                bindings::ovpn_shim_page_pool_return(page.as_ptr());
                return Err(ENOMEM);
            };
            let skb = raw.as_ptr();
            (*skb).data = (*skb).data.wrapping_add(headroom as usize);
            bindings::skb_reset_tail_pointer(skb);
            bindings::skb_put(skb, len);
            // INVARIANT: The buffer is new and ours.
            Ok(Self(raw))
        }
    }

    /// The bytes of the linear part, if they are this buffer's alone.
    #[inline]
    pub fn linear_mut(&mut self) -> Option<&mut [u8]> {
        if !self.is_private() {
            return None;
        }
        let len = self.len().wrapping_sub(self.data_len());
        // SAFETY: As in `linear`, and nobody else has a view of them.
        Some(unsafe { slice::from_raw_parts_mut((*self.as_raw()).data, len as usize) })
    }

    /// How this packet of the stack is to be cut, if it is several in one and of a kind that is
    /// known. It is at its IP header.
    pub fn cut(&self) -> Option<Cut> {
        let mut gso = bindings::ovpn_gso::default();
        // SAFETY: By the type invariants.
        unsafe { bindings::ovpn_shim_skb_gso(self.as_raw(), &mut gso) };
        (gso.size != 0 && gso.headers < self.len()).then_some(Cut {
            size: gso.size,
            headers: gso.headers,
            udp: gso.udp,
            fixed_id: gso.fixed_id,
            keeps_cwr: gso.keeps_cwr,
        })
    }

    /// Copies bytes from `offset` on to all of `to`, and returns their ones' complement sum, not
    /// folded, as the kernel's `__wsum` is. `None` if there are not as many.
    #[inline]
    pub fn copy_and_sum(&self, offset: u32, to: &mut [u8]) -> Option<u32> {
        let len = u32::try_from(to.len()).ok()?;
        if offset.checked_add(len)? > self.len() {
            return None;
        }
        // SAFETY: The bytes are there, in both.
        Some(unsafe {
            bindings::ovpn_shim_skb_copy_and_csum(
                self.as_raw(),
                offset as c_int,
                to.as_mut_ptr(),
                len as c_int,
            )
        })
    }

    /// Copies the whole packet, as long as `to`, with its checksum where the stack left it to the
    /// device.
    #[inline]
    pub fn copy_complete(&mut self, to: &mut [u8]) -> Result {
        if to.len() != self.len() as usize {
            return Err(EINVAL);
        }
        // SAFETY: By the type invariants; `to` has room for the whole packet.
        kernel::error::to_result(unsafe {
            bindings::ovpn_shim_skb_copy_complete(self.as_raw(), to.as_mut_ptr())
        })
    }

    /// Makes a packet of the stack one for the link, its checksum done, with `before` more bytes in
    /// front, which are to be written. Returns `false`, and nothing has changed, if its bytes are not
    /// its alone or not in one piece, or if these bytes and [`HEADROOM`] have no room.
    #[inline]
    pub fn claim(&mut self, before: u32) -> bool {
        // SAFETY: By the type invariants; the bytes in front are part of the buffer.
        unsafe { bindings::ovpn_shim_skb_claim(self.as_raw(), before, HEADROOM) }
    }

    /// Appends the first `len` bytes of `area`. Fails, with the area gone, if there are too many
    /// already.
    #[inline]
    pub fn append(&mut self, area: Area, len: u32) -> Result {
        if len > area.len() {
            return Err(EINVAL);
        }
        let (page, offset, _, size) = area.into_raw();
        // SAFETY: The area is ours, and goes with the buffer, which is marked for recycling.
        unsafe {
            if !bindings::ovpn_shim_skb_add_area(self.as_raw(), page.as_ptr(), offset, len, size) {
                bindings::ovpn_shim_page_pool_return(page.as_ptr());
                return Err(EMSGSIZE);
            }
        }
        Ok(())
    }

    /// Says that the payload is that of `segments` UDP packets of `size` bytes, of which the last
    /// may be shorter. There must be headroom for the UDP header.
    pub fn set_udp_train(&mut self, size: u16, segments: u16) {
        // SAFETY: By the type invariants.
        unsafe { bindings::ovpn_shim_skb_set_udp_gso(self.as_raw(), size, segments) };
    }

    pub(super) fn set_joined(&mut self, joined: &Joined) {
        let joined = bindings::ovpn_joined {
            size: joined.size,
            segments: joined.segments,
            transport_offset: joined.transport_offset,
            v6: joined.v6,
            fixed_id: joined.fixed_id,
            ecn: joined.ecn,
        };
        // SAFETY: By the type invariants.
        unsafe { bindings::ovpn_shim_skb_set_joined(self.as_raw(), &joined) };
    }

    /// The parts in memory that the bytes from `offset` on are in, in their order.
    pub fn parts(&self, offset: u32) -> Parts<'_> {
        Parts::new(self, offset)
    }

    /// Reads its bytes from `offset` on.
    pub fn reader(&self, offset: u32) -> Reader<'_> {
        Reader::new(self.parts(offset))
    }

    /// A linear buffer of `len` bytes, all zero. Any context; fails with `ENOMEM`.
    #[cold]
    fn zeroed(headroom: u32, len: u32) -> Result<Self> {
        let mut skb = Self::new(headroom, len)?;
        let start = skb.extend(len).ok_or(ENOMEM)?;
        // SAFETY: `start` is followed by `len` bytes of an exclusive buffer.
        unsafe { ptr::write_bytes(start.as_ptr(), 0, len as usize) };
        Ok(skb)
    }

    /// A linear copy in memory of `pool`, with the usual headroom. Bottom halves disabled; fails with
    /// `ENOMEM`.
    pub fn copy_in_area(&self, pool: &mut PagePool) -> Result<Self> {
        let len = self.len();
        let mut copy = Self::in_area(pool, HEADROOM, len)?;
        let to = copy.linear_mut().ok_or(ENOMEM)?;
        // SAFETY: `to` has room for the whole buffer.
        kernel::error::to_result(unsafe {
            bindings::skb_copy_bits(self.as_raw(), 0, to.as_mut_ptr().cast(), len as c_int)
        })?;
        Ok(copy)
    }

    /// Notes how many packets, with how many bytes in all, this buffer stands for. It is forgotten
    /// when the buffer is handed on.
    #[inline]
    pub fn set_weight(&mut self, weight: Weight) {
        // SAFETY: By the type invariants; while we own the buffer its control block is ours,
        // which is larger, and aligned to 8 bytes.
        unsafe {
            (*self.as_raw())
                .cb
                .as_mut_ptr()
                .cast::<Weight>()
                .write(weight)
        };
    }

    /// What [`set_weight`](Self::set_weight) noted.
    #[inline]
    pub fn weight(&self) -> Weight {
        // SAFETY: By the type invariants; any bytes are a weight.
        unsafe { (*self.as_raw()).cb.as_ptr().cast::<Weight>().read() }
    }

    /// A new linear buffer with a copy of `len` bytes from `offset` on, and the usual headroom.
    pub(super) fn copy_range(&self, offset: u32, len: u32) -> Result<Self> {
        let mut copy = Self::new(HEADROOM, len)?;
        let to = copy.extend(len).ok_or(ENOMEM)?;
        // SAFETY: `to` has room for `len` bytes; the function fails if `self` has fewer.
        kernel::error::to_result(unsafe {
            bindings::skb_copy_bits(
                self.as_raw(),
                offset as c_int,
                to.as_ptr().cast(),
                len as c_int,
            )
        })?;
        Ok(copy)
    }

    /// Whether the linear data belongs to this buffer alone, and may be written.
    #[inline]
    pub(super) fn is_private(&self) -> bool {
        // SAFETY: By the type invariants.
        unsafe { bindings::skb_cloned(self.as_raw()) == 0 }
    }

    /// Appends `len` bytes and returns their address; `None` if there is no room, or the buffer
    /// is not linear. What they hold is what was there: the caller writes them.
    pub(super) fn extend(&mut self, len: u32) -> Option<NonNull<u8>> {
        if !self.is_linear() {
            return None;
        }
        // SAFETY: By the type invariants; `tail` and `end` are offsets or pointers, of which
        // the function makes the difference.
        let room = unsafe { bindings::skb_tailroom(self.as_raw()) };
        if u32::try_from(room).ok()? < len {
            return None;
        }
        // SAFETY: There is room.
        NonNull::new(unsafe { bindings::skb_put(self.as_raw(), len) }.cast())
    }

    /// Appends a copy of `bytes`. Fails with `ENOMEM` if there is no room.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) -> Result {
        let len = u32::try_from(bytes.len()).map_err(|_| EMSGSIZE)?;
        let to = self.extend(len).ok_or(ENOMEM)?;
        // SAFETY: `to` is the start of as many bytes of an exclusive buffer.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// `ETH_P_IP`, `ETH_P_IPV6`, …: what the stack says that this is, in host order.
    #[inline]
    pub fn protocol(&self) -> u16 {
        // SAFETY: By the type invariants.
        unsafe { bindings::ovpn_shim_skb_protocol(self.as_raw()) }
    }

    /// Whether this is several packets in one.
    #[inline]
    pub fn is_gso(&self) -> bool {
        // SAFETY: By the type invariants.
        unsafe { bindings::skb_is_gso(self.as_raw()) }
    }

    /// How many packets this is, as far as its maker has said.
    pub fn segments(&self) -> u32 {
        // SAFETY: By the type invariants.
        unsafe { bindings::ovpn_shim_skb_segments(self.as_raw()) }
    }

    /// Cuts a buffer that [`is_gso`](Self::is_gso) into packets, with their checksums done.
    pub fn segment(self) -> Result<SkBuffList> {
        // SAFETY: By the type invariants.
        let segments =
            kernel::error::from_err_ptr(unsafe { bindings::ovpn_shim_skb_segment(self.as_raw()) })?;
        if segments.is_null() {
            return Err(EINVAL);
        }
        self.consume();
        // SAFETY: The segments are a list of buffers of which each has one reference.
        Ok(unsafe { SkBuffList::from_raw(segments) })
    }

    /// Gives back what the stack has attached to the packet, but for the socket that is charged.
    pub(super) fn scrub(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::skb_scrub_packet(self.as_raw(), true) };
    }

    /// Frees the buffer of a packet that has been delivered.
    pub fn consume(self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::consume_skb(self.into_raw()) };
    }

    /// Tells who waits for the bytes (zero-copy senders) that the packet was not sent.
    pub fn tx_error(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::skb_tx_error(self.as_raw()) };
    }

    /// The destination that the stack attached, for as long as `guard` lives.
    pub(super) fn dst(&self, _guard: &Guard) -> *const bindings::dst_entry {
        // SAFETY: By the type invariants; the guard makes a destination that is not counted
        // last.
        unsafe { bindings::skb_dst(self.as_raw()) }
    }

    /// The mark of the packet, for policy routing.
    pub(super) fn mark(&self) -> u32 {
        // SAFETY: By the type invariants.
        unsafe { bindings::ovpn_shim_skb_mark(self.as_raw()) }
    }

    /// Lets this buffer take the place of `from` in the accounting of the socket that sent it,
    /// so that the sender notices when it fills the device's queue.
    pub fn take_owner(&mut self, from: &mut SkBuff) {
        // SAFETY: By the type invariants.
        unsafe { bindings::ovpn_shim_skb_take_owner(self.as_raw(), from.as_raw()) };
    }

    /// Whether no socket is charged for this buffer, or one that does not care when just this one is freed.
    #[inline]
    pub fn owner_is_free(&self) -> bool {
        // SAFETY: By the type invariants.
        unsafe { bindings::ovpn_shim_skb_owner_is_free(self.as_raw()) }
    }

    /// Whether the same socket is charged for both.
    #[inline]
    pub fn has_owner_of(&self, other: &SkBuff) -> bool {
        // SAFETY: By the type invariants.
        unsafe { (*self.as_raw()).sk == (*other.as_raw()).sk }
    }

    /// The addresses of a packet that the UDP layer delivered: the data pointer is at its UDP
    /// header or behind it. `None` if it has no whole headers.
    pub fn udp_addresses(&self) -> Option<UdpAddresses> {
        // SAFETY: By the type invariants, offsets are within the buffer: the UDP layer has
        // validated and pulled both headers.
        unsafe {
            let skb = self.as_raw();
            let mut address = bindings::ovpn_udp_addresses::default();

            bindings::ovpn_shim_skb_udp_addresses(skb, &mut address);
            match address.version {
                4 => Some(UdpAddresses::V4 {
                    source: *address.source.first_chunk()?,
                    source_port: u16::from_be(address.port),
                    destination: *address.destination.first_chunk()?,
                }),
                6 => Some(UdpAddresses::V6 {
                    source: address.source,
                    source_port: u16::from_be(address.port),
                    destination: address.destination,
                    scope_id: address.scope_id,
                }),
                _ => None,
            }
        }
    }
}

impl Drop for SkBuff {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe {
            bindings::sk_skb_reason_drop(
                ptr::null_mut(),
                self.as_raw(),
                bindings::skb_drop_reason_SKB_DROP_REASON_NOT_SPECIFIED,
            )
        };
    }
}
