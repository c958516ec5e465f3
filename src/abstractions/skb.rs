// SPDX-License-Identifier: GPL-2.0

//! Socket buffers.
//!
//! C header: [`include/linux/skbuff.h`](srctree/include/linux/skbuff.h)

use super::rcu::Guard;
use crate::bindings;
use core::{mem::ManuallyDrop, ptr, ptr::NonNull, slice};
use kernel::{prelude::*, types::Opaque};

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

    /// Moves all bytes to the linear part. Fails with `ENOMEM`.
    pub fn linearize(&mut self) -> Result {
        // SAFETY: By the type invariants.
        kernel::error::to_result(unsafe { bindings::skb_linearize(self.as_raw()) })
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

    /// Puts `bytes` before the data pointer. Fails with `ENOMEM` if there is no headroom.
    pub fn push(&mut self, bytes: &[u8]) -> Result {
        let len = u32::try_from(bytes.len()).map_err(|_| EMSGSIZE)?;
        // SAFETY: By the type invariants; `data` is not before `head`.
        unsafe {
            let skb = self.as_raw();
            let headroom = (*skb).data.offset_from((*skb).head);
            if headroom < isize::try_from(len).map_err(|_| EMSGSIZE)? {
                return Err(ENOMEM);
            }
            (*skb).len = (*skb).len.checked_add(len).ok_or(EMSGSIZE)?;
            (*skb).data = (*skb).data.wrapping_sub(len as usize);
            ptr::copy_nonoverlapping(bytes.as_ptr(), (*skb).data, bytes.len());
        }
        Ok(())
    }

    /// A new linear buffer with a copy of all bytes, and `room` bytes more than the usual headroom.
    #[cfg(ovpn_dco_debug)]
    pub fn copy_with_room(&self, room: u32) -> Result<Self> {
        let mut copy = Self::new(HEADROOM.saturating_add(room), self.len())?;
        copy.extend_from_range(self, 0, self.len())?;
        Ok(copy)
    }

    /// A new linear buffer with a copy of `len` bytes from `offset` on, and the usual headroom.
    pub(super) fn copy_range(&self, offset: u32, len: u32) -> Result<Self> {
        let mut copy = Self::new(HEADROOM, len)?;
        copy.extend_from_range(self, offset, len)?;
        Ok(copy)
    }

    /// Appends a copy of `len` bytes of `from`, from `offset` on.
    fn extend_from_range(&mut self, from: &SkBuff, offset: u32, len: u32) -> Result {
        let to = self.extend(len).ok_or(ENOMEM)?;
        // SAFETY: `to` has room for `len` bytes; the function fails if `from` has fewer.
        kernel::error::to_result(unsafe {
            bindings::skb_copy_bits(
                from.as_raw(),
                offset as c_int,
                to.as_ptr().cast(),
                len as c_int,
            )
        })
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

    /// Whether some bytes are in further socket buffers that hang off this one.
    pub(super) fn has_frag_list(&self) -> bool {
        // SAFETY: By the type invariants.
        unsafe { bindings::skb_has_frag_list(self.as_raw()) }
    }

    /// Writes the checksum that the stack left to the device, if it left one.
    pub fn complete_checksum(&mut self) -> Result {
        // SAFETY: By the type invariants.
        unsafe {
            if bindings::ovpn_shim_skb_ip_summed(self.as_raw()) != bindings::CHECKSUM_PARTIAL {
                return Ok(());
            }
            kernel::error::to_result(bindings::skb_checksum_help(self.as_raw()))
        }
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
        // INVARIANT: The segments are a list of buffers of which each has one reference.
        Ok(SkBuffList {
            first: segments,
            last: ptr::null_mut(),
        })
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

/// Socket buffers in a row.
///
/// # Invariants
///
/// `first` is null or the first of a list of owned buffers, linked by `next` and ended by null;
/// `last` is the last of them, or null where it is not known or there is none.
pub struct SkBuffList {
    first: *mut bindings::sk_buff,
    last: *mut bindings::sk_buff,
}

impl SkBuffList {
    /// An empty list.
    pub fn new() -> Self {
        Self {
            first: ptr::null_mut(),
            last: ptr::null_mut(),
        }
    }

    /// A list of one.
    pub fn of(skb: SkBuff) -> Self {
        let mut list = Self::new();
        list.push(skb);
        list
    }

    /// Takes the first buffer out.
    pub fn pop(&mut self) -> Option<SkBuff> {
        let first = NonNull::new(self.first)?;
        // SAFETY: By the type invariants; the buffer leaves the list.
        unsafe {
            let links = &mut (*first.as_ptr()).__bindgen_anon_1.__bindgen_anon_1;
            self.first = links.next;
            links.next = ptr::null_mut();
            if self.first.is_null() {
                self.last = ptr::null_mut();
            }
            Some(SkBuff::from_raw(first))
        }
    }

    /// Puts a buffer at the end.
    pub fn push(&mut self, skb: SkBuff) {
        let raw = skb.into_raw();

        // SAFETY: Both are valid, owned buffers, and `raw` is on no list.
        unsafe {
            (*raw).__bindgen_anon_1.__bindgen_anon_1.next = ptr::null_mut();
            if self.first.is_null() {
                self.first = raw;
            } else {
                if self.last.is_null() {
                    self.last = self.first;
                    loop {
                        let next = (*self.last).__bindgen_anon_1.__bindgen_anon_1.next;
                        if next.is_null() {
                            break;
                        }
                        self.last = next;
                    }
                }
                (*self.last).__bindgen_anon_1.__bindgen_anon_1.next = raw;
            }
        }
        self.last = raw;
    }
}

impl Drop for SkBuffList {
    fn drop(&mut self) {
        while let Some(skb) = self.pop() {
            drop(skb);
        }
    }
}

/// A queue of socket buffers that locks for itself. Any context.
///
/// # Invariants
///
/// Initialised; what is in it is owned by it, each with one reference.
#[pin_data(PinnedDrop)]
pub struct SkBuffQueue {
    #[pin]
    raw: Opaque<bindings::sk_buff_head>,
}

// SAFETY: The queue locks for itself.
unsafe impl Send for SkBuffQueue {}
// SAFETY: As above.
unsafe impl Sync for SkBuffQueue {}

impl SkBuffQueue {
    /// An empty queue.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            raw <- Opaque::ffi_init(|slot| {
                // SAFETY: `slot` is valid for initialisation.
                unsafe { bindings::ovpn_shim_skb_queue_init(slot) }
            }),
        })
    }

    pub(super) fn as_raw(&self) -> *mut bindings::sk_buff_head {
        self.raw.get()
    }

    /// How many buffers are in it at this moment.
    pub fn len(&self) -> u32 {
        // SAFETY: By the type invariants; the length is read once.
        unsafe { bindings::skb_queue_len_lockless(self.as_raw()) }
    }

    /// Whether there is nothing in it at this moment.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts a buffer at the end.
    pub fn push(&self, skb: SkBuff) {
        // SAFETY: By the type invariants of both.
        unsafe { bindings::skb_queue_tail(self.as_raw(), skb.into_raw()) };
    }

    /// Puts a buffer back to where [`pop`](Self::pop) takes it.
    pub fn push_front(&self, skb: SkBuff) {
        // SAFETY: By the type invariants of both.
        unsafe { bindings::skb_queue_head(self.as_raw(), skb.into_raw()) };
    }

    /// Takes the first buffer out.
    pub fn pop(&self) -> Option<SkBuff> {
        // SAFETY: By the type invariants, what comes out is owned and on no list.
        unsafe {
            NonNull::new(bindings::skb_dequeue(self.as_raw())).map(|skb| SkBuff::from_raw(skb))
        }
    }

    /// Frees all that is in it.
    pub fn clear(&self) {
        while self.pop().is_some() {}
    }
}

#[pinned_drop]
impl PinnedDrop for SkBuffQueue {
    fn drop(self: Pin<&mut Self>) {
        self.clear();
    }
}
