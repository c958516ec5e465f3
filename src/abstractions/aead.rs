// SPDX-License-Identifier: GPL-2.0

//! Authenticated encryption with associated data.
//!
//! Only synchronous algorithms are used: one request a CPU then serves every packet, and a packet
//! is done when the call returns.
//!
//! C headers: [`include/crypto/aead.h`](srctree/include/crypto/aead.h),
//! [`include/linux/scatterlist.h`](srctree/include/linux/scatterlist.h)

use super::{
    memory,
    page_pool::PagePool,
    softirq::{BhDisabled, LockBh},
};
use crate::bindings;
use core::{ptr, ptr::NonNull};
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
/// [`NONCE_LEN`] bytes and makes tags of [`TAG_LEN`] bytes. Its requests have `request_size` bytes.
pub struct Aead {
    raw: NonNull<bindings::crypto_aead>,
    request_size: u32,
}

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
        let mut aead = Self {
            raw: NonNull::new(raw).ok_or(ENOENT)?,
            request_size: 0,
        };

        // SAFETY: The transform is ours alone until it is returned, and `key` has `len` bytes.
        unsafe {
            to_result(bindings::crypto_aead_setkey(raw, key.as_ptr(), len))?;
            to_result(bindings::crypto_aead_setauthsize(raw, TAG_LEN))?;
            if bindings::crypto_aead_ivsize(raw) as usize != NONCE_LEN {
                return Err(EINVAL);
            }
            aead.request_size = bindings::crypto_aead_reqsize(raw);
        }
        // INVARIANT: All of it has been checked.
        Ok(aead)
    }
}

impl Drop for Aead {
    fn drop(&mut self) {
        // SAFETY: By the type invariants. The crypto API wipes the key.
        unsafe { bindings::crypto_free_aead(self.raw.as_ptr()) };
    }
}

/// Bytes of a packet before what is encrypted: the associated data and the tag.
pub const HEAD: usize = AAD_LEN as usize + TAG_LEN as usize;

/// What one packet after the other is worked on with.
///
/// # Invariants
///
/// `request` is null or an owned allocation by `aead_request_alloc` for a transform whose
/// request size was `capacity`. The tables are initialised.
pub struct Workspace {
    request: *mut bindings::aead_request,
    capacity: u32,
    nonce: [u8; NONCE_LEN],
    /// Associated data, body, tag.
    source: [bindings::scatterlist; 3],
    /// Associated data, body.
    destination: [bindings::scatterlist; 2],
    /// Where an algorithm may put associated data that nobody wants.
    unused: [u8; AAD_LEN as usize],
    /// Memory for packets.
    pub pool: PagePool,
}

// SAFETY: The request is memory that is owned; the tables point to nothing between two calls.
unsafe impl Send for Workspace {}

impl Workspace {
    fn new() -> Result<Self> {
        let mut workspace = Self {
            request: ptr::null_mut(),
            capacity: 0,
            nonce: [0; NONCE_LEN],
            source: Default::default(),
            destination: Default::default(),
            unused: [0; AAD_LEN as usize],
            pool: PagePool::new()?,
        };
        // SAFETY: The tables have as many entries.
        unsafe {
            bindings::sg_init_table(workspace.source.as_mut_ptr(), 3);
            bindings::sg_init_table(workspace.destination.as_mut_ptr(), 2);
        }
        // INVARIANT: There is no request yet.
        Ok(workspace)
    }

    /// Seals or opens a packet.
    ///
    /// # Safety
    ///
    /// `packet` must be [`HEAD`] bytes and `len` more, in memory that has a page, which nobody else
    /// writes meanwhile; nobody else may read them either if `to` is null, and else `to` must be
    /// `len` such bytes apart from them.
    #[inline]
    unsafe fn run(
        &mut self,
        aead: &Aead,
        nonce: [u8; NONCE_LEN],
        job: &bindings::ovpn_aead_job,
    ) -> Result {
        if self.request.is_null() || aead.request_size > self.capacity {
            return Err(ENOMEM);
        }
        self.nonce = nonce;
        // SAFETY: By the type invariants the request is ours and large enough for the transform;
        // the call is synchronous, so that nothing of it is used afterwards.
        to_result(unsafe {
            bindings::ovpn_shim_aead_run(
                self.request,
                aead.raw.as_ptr(),
                self.nonce.as_mut_ptr(),
                self.source.as_mut_ptr(),
                self.destination.as_mut_ptr(),
                job,
            )
        })
    }

    #[inline]
    fn run_in_place(
        &mut self,
        aead: &Aead,
        nonce: [u8; NONCE_LEN],
        packet: &mut [u8],
        seal: bool,
    ) -> Result {
        let job = bindings::ovpn_aead_job {
            packet: packet.as_mut_ptr(),
            len: body_len(packet)?,
            to: ptr::null_mut(),
            seal,
        };
        // SAFETY: The packet is borrowed exclusively, and as long as that.
        unsafe { self.run(aead, nonce, &job) }
    }

    /// Encrypts a packet where it is: [`AAD_LEN`] bytes of associated data, room for the tag, and
    /// the body. Fails with `EINVAL` if it is not as long.
    #[inline]
    pub fn seal(&mut self, aead: &Aead, nonce: [u8; NONCE_LEN], packet: &mut [u8]) -> Result {
        self.run_in_place(aead, nonce, packet, true)
    }

    /// Decrypts a packet where it is: associated data, tag, body. Fails with `EBADMSG` if the tag
    /// is not right, with `EINVAL` if the packet is too short.
    #[inline]
    pub fn open(&mut self, aead: &Aead, nonce: [u8; NONCE_LEN], packet: &mut [u8]) -> Result {
        self.run_in_place(aead, nonce, packet, false)
    }

    /// As [`open`](Self::open), but leaves the packet as it is and puts the body into `to`, which
    /// is as long.
    #[inline]
    pub fn open_to(
        &mut self,
        aead: &Aead,
        nonce: [u8; NONCE_LEN],
        packet: &[u8],
        to: &mut [u8],
    ) -> Result {
        let len = body_len(packet)?;
        if to.len() != len as usize {
            return Err(EINVAL);
        }
        // Associated data that an algorithm may copy, and nobody wants.
        // SAFETY: The table has two entries, and the bytes are ours.
        unsafe {
            bindings::sg_set_buf(
                self.destination.as_mut_ptr(),
                self.unused.as_mut_ptr().cast(),
                AAD_LEN,
            )
        };
        let job = bindings::ovpn_aead_job {
            packet: packet.as_ptr().cast_mut(),
            len,
            to: to.as_mut_ptr(),
            seal: false,
        };
        // SAFETY: With a destination, the packet is only read.
        unsafe { self.run(aead, nonce, &job) }
    }
}

/// Bytes of a packet behind its head.
#[inline]
fn body_len(packet: &[u8]) -> Result<u32> {
    packet
        .len()
        .checked_sub(HEAD)
        .and_then(|len| u32::try_from(len).ok())
        .filter(|len| *len != 0)
        .ok_or(EINVAL)
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
                KBox::pin_init(new_spinlock!(Workspace::new()?), GFP_KERNEL)?,
                GFP_KERNEL,
            )?;
        }
        Ok(Self(all))
    }

    /// Makes every workspace large enough for `aead`. Process context; fails with `ENOMEM`.
    pub fn make_room(&self, aead: &Aead) -> Result {
        let capacity = aead.request_size;

        for workspace in &self.0 {
            let enough = {
                let now = workspace.lock_bh();
                !now.request.is_null() && now.capacity >= capacity
            };
            if enough {
                continue;
            }
            // SAFETY: By the invariants of `Aead`.
            let request = unsafe {
                bindings::aead_request_alloc(aead.raw.as_ptr(), kernel::bindings::GFP_KERNEL)
            };
            if request.is_null() {
                return Err(ENOMEM);
            }
            let mut spare = request;
            {
                let mut now = workspace.lock_bh();
                if now.request.is_null() || now.capacity < capacity {
                    // INVARIANT: The request is for a transform of this request size.
                    core::mem::swap(&mut now.request, &mut spare);
                    now.capacity = capacity;
                }
            }
            // SAFETY: What is not in the workspace is ours; null is allowed.
            unsafe { bindings::aead_request_free(spare) };
        }
        Ok(())
    }

    /// Runs `work` with the workspace of this CPU. Softirq context, or bottom halves disabled.
    ///
    /// `work` must not send what it makes: sending may come back here.
    #[inline]
    pub fn with<R>(&self, _bh: &BhDisabled, work: impl FnOnce(&mut Workspace) -> R) -> Option<R> {
        let mut workspace = self.0.get(CpuId::current().as_u32() as usize)?.lock();
        let result = work(&mut workspace);

        // Half of the nonce is as secret as the key.
        memory::wipe(&mut workspace.nonce);
        Some(result)
    }
}
