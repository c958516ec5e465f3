// SPDX-License-Identifier: GPL-2.0

//! Authenticated encryption with associated data, on socket buffers.
//!
//! Only synchronous algorithms are used: one request a CPU then serves every packet, and a packet
//! is done when the call returns.
//!
//! C headers: [`include/crypto/aead.h`](srctree/include/crypto/aead.h),
//! [`include/linux/scatterlist.h`](srctree/include/linux/scatterlist.h)

use super::{skb::SkBuff, softirq::BhDisabled};
use crate::bindings;
use core::{mem::MaybeUninit, ptr, ptr::NonNull};
use kernel::{
    cpu::CpuId,
    error::{from_err_ptr, to_result},
    new_spinlock,
    prelude::*,
    str::CStr,
    sync::SpinLock,
};

/// Bytes of the tag, for every algorithm.
pub const TAG_LEN: u32 = 16;
/// Bytes of the nonce, for every algorithm.
pub const NONCE_LEN: usize = 12;
/// Bytes of the associated data, for every packet.
pub const AAD_LEN: u32 = 8;

/// A cipher with a key in it.
///
/// # Invariants
///
/// Points to a synchronous `crypto_aead` that is owned, has its key set, takes nonces of
/// [`NONCE_LEN`] bytes and makes tags of [`TAG_LEN`] bytes.
pub struct Aead(NonNull<bindings::crypto_aead>);

// SAFETY: A transform whose key is set may be used and freed by any thread.
unsafe impl Send for Aead {}
// SAFETY: As above.
unsafe impl Sync for Aead {}

impl Aead {
    /// Allocates the algorithm `name`, such as `gcm(aes)`, and gives it `key`.
    ///
    /// Process context, may sleep and load modules. Fails with `ENOENT` if the kernel has no such
    /// algorithm, with `EINVAL` if the key has the wrong length.
    pub fn new(name: &'static CStr, key: &[u8]) -> Result<Self> {
        let len = c_uint::try_from(key.len()).map_err(|_| EINVAL)?;
        // SAFETY: `name` is a C string; the mask asks for what is not asynchronous.
        let raw = from_err_ptr(unsafe {
            bindings::crypto_alloc_aead(name.as_char_ptr(), 0, bindings::CRYPTO_ALG_ASYNC)
        })?;
        let aead = Self(NonNull::new(raw).ok_or(ENOENT)?);

        // SAFETY: The transform is ours alone until it is returned, and `key` has `len` bytes.
        unsafe {
            to_result(bindings::crypto_aead_setkey(raw, key.as_ptr(), len))?;
            to_result(bindings::crypto_aead_setauthsize(raw, TAG_LEN))?;
            if bindings::crypto_aead_ivsize(raw) as usize != NONCE_LEN {
                return Err(EINVAL);
            }
        }
        // INVARIANT: All of it has been checked.
        Ok(aead)
    }

    fn request_size(&self) -> u32 {
        // SAFETY: By the type invariants.
        unsafe { bindings::crypto_aead_reqsize(self.0.as_ptr()) }
    }
}

impl Drop for Aead {
    fn drop(&mut self) {
        // SAFETY: By the type invariants. The crypto API wipes the key.
        unsafe { bindings::crypto_free_aead(self.0.as_ptr()) };
    }
}

/// The most entries that a packet needs: its header, its parts, its tag.
const ENTRIES: usize = bindings::MAX_SKB_FRAGS as usize + 3;

/// What one packet after the other is worked on with.
///
/// # Invariants
///
/// `request` is null or an owned allocation by `aead_request_alloc` for a transform whose
/// request size was `capacity`.
pub struct Workspace {
    request: *mut bindings::aead_request,
    capacity: u32,
    nonce: [u8; NONCE_LEN],
    source: [MaybeUninit<bindings::scatterlist>; ENTRIES],
    destination: [MaybeUninit<bindings::scatterlist>; 3],
}

// SAFETY: The request is memory that is owned.
unsafe impl Send for Workspace {}

/// The parts of a packet in memory: what is authenticated, the body, the tag.
struct Parts {
    aad: NonNull<u8>,
    body: NonNull<u8>,
    tag: NonNull<u8>,
    body_len: u32,
}

impl Workspace {
    const fn new() -> Self {
        Self {
            request: ptr::null_mut(),
            capacity: 0,
            nonce: [0; NONCE_LEN],
            source: [const { MaybeUninit::uninit() }; ENTRIES],
            destination: [const { MaybeUninit::uninit() }; 3],
        }
    }

    /// Fills `destination` with the three parts.
    ///
    /// # Safety
    ///
    /// The parts must be valid for their lengths until the request is done.
    unsafe fn map_parts(&mut self, parts: &Parts) -> *mut bindings::scatterlist {
        let sg = self
            .destination
            .as_mut_ptr()
            .cast::<bindings::scatterlist>();

        // SAFETY: There are three entries, and the caller vouches for what they point to.
        unsafe {
            bindings::sg_init_table(sg, 3);
            bindings::sg_set_buf(sg, parts.aad.as_ptr().cast(), AAD_LEN);
            bindings::sg_set_buf(sg.add(1), parts.body.as_ptr().cast(), parts.body_len);
            bindings::sg_set_buf(sg.add(2), parts.tag.as_ptr().cast(), TAG_LEN);
        }
        sg
    }

    /// Fills `source` with the associated data, then `len` bytes of `skb` from `offset` on, then
    /// the tag if there is one.
    ///
    /// # Safety
    ///
    /// `aad` and `tag` must be valid for their lengths until the request is done.
    unsafe fn map_skb(
        &mut self,
        aad: NonNull<u8>,
        skb: &SkBuff,
        offset: u32,
        len: u32,
        tag: Option<NonNull<u8>>,
    ) -> Result<*mut bindings::scatterlist> {
        let sg = self.source.as_mut_ptr().cast::<bindings::scatterlist>();

        // SAFETY: The table has an entry for each fragment that an skb without a fragment list
        // can have, for its linear part, and two more. `offset` and `len` are within the skb, or
        // the function fails.
        unsafe {
            bindings::sg_init_table(sg, ENTRIES as c_uint);
            bindings::sg_set_buf(sg, aad.as_ptr().cast(), AAD_LEN);
            let parts = if len == 0 {
                0
            } else if skb.is_linear() {
                let data = (*skb.as_raw()).data.wrapping_add(offset as usize);
                bindings::sg_set_buf(sg.add(1), data.cast(), len);
                1
            } else {
                let parts = bindings::skb_to_sgvec_nomark(
                    skb.as_raw(),
                    sg.add(1),
                    offset as c_int,
                    len as c_int,
                );
                usize::try_from(parts).map_err(|_| Error::from_errno(parts))?
            };
            let last = match tag {
                Some(tag) => {
                    bindings::sg_set_buf(sg.add(parts + 1), tag.as_ptr().cast(), TAG_LEN);
                    parts + 1
                }
                None => parts,
            };
            bindings::sg_mark_end(sg.add(last));
        }
        Ok(sg)
    }

    /// The request, filled in.
    ///
    /// # Safety
    ///
    /// The scatterlists must describe valid memory: `AAD_LEN` bytes, then `len` bytes, and the
    /// tag where the operation has one.
    unsafe fn request(
        &mut self,
        aead: &Aead,
        nonce: [u8; NONCE_LEN],
        source: *mut bindings::scatterlist,
        destination: *mut bindings::scatterlist,
        len: u32,
    ) -> Result<*mut bindings::aead_request> {
        if self.request.is_null() || aead.request_size() > self.capacity {
            return Err(ENOMEM);
        }
        self.nonce = nonce;
        // SAFETY: By the type invariants the request is ours and large enough for the transform.
        unsafe {
            let request = self.request;
            bindings::aead_request_set_tfm(request, aead.0.as_ptr());
            bindings::aead_request_set_callback(request, 0, None, ptr::null_mut());
            (*request).assoclen = AAD_LEN;
            (*request).cryptlen = len;
            (*request).iv = self.nonce.as_mut_ptr();
            (*request).src = source;
            (*request).dst = destination;
            Ok(request)
        }
    }

    /// Encrypts the whole of `inner` into a new packet: `header`, tag, ciphertext.
    ///
    /// `header` is what is authenticated besides; `headroom` bytes are left free before it.
    /// `inner` is only read.
    pub fn seal(
        &mut self,
        aead: &Aead,
        nonce: [u8; NONCE_LEN],
        header: &[u8; AAD_LEN as usize],
        inner: &mut SkBuff,
        headroom: u32,
    ) -> Result<SkBuff> {
        if inner.has_frag_list() {
            inner.linearize()?;
        }
        let len = inner.len();
        let room = (AAD_LEN + TAG_LEN).checked_add(len).ok_or(EMSGSIZE)?;
        let mut outer = SkBuff::new(headroom, room)?;

        let aad = outer.extend(AAD_LEN).ok_or(ENOMEM)?;
        let tag = outer.extend(TAG_LEN).ok_or(ENOMEM)?;
        let body = outer.extend(len).ok_or(ENOMEM)?;
        // SAFETY: `aad` is the start of as many bytes of a new buffer.
        unsafe { ptr::copy_nonoverlapping(header.as_ptr(), aad.as_ptr(), header.len()) };

        // SAFETY: All parts are in `outer` and `inner`, which outlive the request.
        let error = unsafe {
            let source = self.map_skb(aad, inner, 0, len, None)?;
            let destination = self.map_parts(&Parts {
                aad,
                body,
                tag,
                body_len: len,
            });
            let request = self.request(aead, nonce, source, destination, len)?;
            bindings::crypto_aead_encrypt(request)
        };
        to_result(error)?;
        Ok(outer)
    }

    /// Decrypts `outer`, a packet of header, tag and ciphertext from its data pointer on, and
    /// returns the inner packet. Fails with `EBADMSG` if the tag is not right.
    pub fn open(
        &mut self,
        aead: &Aead,
        nonce: [u8; NONCE_LEN],
        mut outer: SkBuff,
    ) -> Result<SkBuff> {
        const HEAD: u32 = AAD_LEN + TAG_LEN;

        if !outer.may_pull(HEAD) {
            return Err(EINVAL);
        }
        let len = outer.len().wrapping_sub(HEAD);
        let crypt_len = len.checked_add(TAG_LEN).ok_or(EMSGSIZE)?;
        if outer.has_frag_list() {
            outer.linearize()?;
        }
        // SAFETY: `HEAD` bytes are in the linear part.
        let (aad, tag, body) = unsafe {
            let data = NonNull::new((*outer.as_raw()).data).ok_or(EINVAL)?;
            (data, data.add(AAD_LEN as usize), data.add(HEAD as usize))
        };

        if outer.is_linear() && outer.is_private() {
            // SAFETY: All parts are in `outer`, which nobody else reads or writes.
            let error = unsafe {
                let sg = self.map_parts(&Parts {
                    aad,
                    body,
                    tag,
                    body_len: len,
                });
                let request = self.request(aead, nonce, sg, sg, crypt_len)?;
                bindings::crypto_aead_decrypt(request)
            };
            to_result(error)?;
            if !outer.pull(HEAD) {
                return Err(EINVAL);
            }
            return Ok(outer);
        }

        // Somebody else has a view of these bytes: leave them as they are.
        let mut inner = SkBuff::new(super::skb::HEADROOM, len.max(1))?;
        let plain = inner.extend(len).ok_or(ENOMEM)?;
        // SAFETY: All parts are in `outer` and `inner`. The tag of the destination is not
        // written when decrypting.
        let error = unsafe {
            let source = self.map_skb(aad, &outer, HEAD, len, Some(tag))?;
            let destination = self.map_parts(&Parts {
                aad,
                body: plain,
                tag,
                body_len: len,
            });
            let request = self.request(aead, nonce, source, destination, crypt_len)?;
            bindings::crypto_aead_decrypt(request)
        };
        to_result(error)?;
        outer.consume();
        Ok(inner)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // SAFETY: By the type invariants; null is allowed.
        unsafe { bindings::aead_request_free(self.request) };
    }
}

/// A [`Workspace`] for each CPU.
///
/// Each has a lock that nobody contends for, unless a CPU is taken away in mid-packet.
pub struct Workspaces(KVec<Pin<KBox<SpinLock<Workspace>>>>);

impl Workspaces {
    /// Workspaces without requests in them. Process context; fails with `ENOMEM`.
    pub fn new() -> Result<Self> {
        let cpus = kernel::cpu::nr_cpu_ids();
        let mut all = KVec::with_capacity(cpus as usize, GFP_KERNEL)?;

        for _ in 0..cpus {
            all.push(
                KBox::pin_init(new_spinlock!(Workspace::new()), GFP_KERNEL)?,
                GFP_KERNEL,
            )?;
        }
        Ok(Self(all))
    }

    /// Makes every workspace large enough for `aead`. Process context; fails with `ENOMEM`.
    pub fn make_room(&self, aead: &Aead) -> Result {
        let capacity = aead.request_size();

        for workspace in &self.0 {
            let enough = {
                let _bh = BhDisabled::new();
                let now = workspace.lock();
                !now.request.is_null() && now.capacity >= capacity
            };
            if enough {
                continue;
            }
            // SAFETY: By the invariants of `Aead`.
            let request = unsafe {
                bindings::aead_request_alloc(aead.0.as_ptr(), kernel::bindings::GFP_KERNEL)
            };
            if request.is_null() {
                return Err(ENOMEM);
            }
            let mut new = Workspace::new();
            new.request = request;
            new.capacity = capacity;
            let _bh = BhDisabled::new();
            let mut old = workspace.lock();
            if old.request.is_null() || old.capacity < capacity {
                core::mem::swap(&mut old.request, &mut new.request);
                core::mem::swap(&mut old.capacity, &mut new.capacity);
            }
            drop(old);
        }
        Ok(())
    }

    /// Runs `work` with the workspace of this CPU. Softirq context, or bottom halves disabled.
    ///
    /// `work` must not send what it makes: sending may come back here.
    #[inline]
    pub fn with<R>(&self, _bh: &BhDisabled, work: impl FnOnce(&mut Workspace) -> R) -> Option<R> {
        let workspace = self.0.get(CpuId::current().as_u32() as usize)?;
        Some(work(&mut workspace.lock()))
    }
}
