// SPDX-License-Identifier: GPL-2.0

//! ChaCha20-Poly1305 (RFC 8439), made of the two functions of the kernel's library.
//!
//! The crypto API makes the key of each packet's Poly1305 with code for any processor, and walks
//! lists of scattered memory. Here that key comes with the first blocks of the key stream, and the
//! packet lies in one piece.
//!
//! C headers: [`include/crypto/chacha.h`](srctree/include/crypto/chacha.h),
//! [`include/crypto/poly1305.h`](srctree/include/crypto/poly1305.h)

use super::{
    aead::{AAD_LEN, HEAD, NONCE_LEN, TAG_LEN},
    errno, memory,
};
use crate::bindings;
use core::{mem::MaybeUninit, ptr};
use kernel::prelude::*;

/// Bytes of a key.
pub const KEY_LEN: usize = 32;

/// `expand 32-byte k`, as the state begins.
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];
const ROUNDS: c_int = 20;
/// Bytes of a block of the key stream.
const BLOCK: usize = 64;
/// Bytes of a block of Poly1305.
const POLY_BLOCK: usize = 16;
/// How much of a body is done with the first block: together they are what the fastest code does at
/// once.
const HEAD_LEN: usize = 7 * BLOCK;

/// A key. Where it is moved to, the words stay where they are: nobody leaves a copy behind.
pub struct ChaCha20Poly1305(KBox<[u32; KEY_LEN / 4]>);

impl ChaCha20Poly1305 {
    /// Process context. Fails with `EINVAL` if the key has the wrong length, with `ENOMEM`.
    pub fn new(key: &[u8]) -> Result<Self> {
        if key.len() != KEY_LEN {
            return Err(EINVAL);
        }
        let mut words = KBox::new([0; KEY_LEN / 4], GFP_KERNEL)?;
        for (word, bytes) in words.iter_mut().zip(key.chunks_exact(4)) {
            *word = u32::from_le_bytes(*bytes.first_chunk().ok_or(EINVAL)?);
        }
        Ok(Self(words))
    }

    /// Encrypts a packet where it is: associated data, room for the tag, body. Softirq context, or
    /// bottom halves disabled. Fails with `EINVAL` if it is not as long.
    #[inline(never)]
    pub fn seal(&self, nonce: &[u8; NONCE_LEN], packet: &mut [u8]) -> Result {
        let (aad, tag, body) = parts_mut(packet)?;
        let mut stream = Stream::new(self, nonce);

        stream.begin(body);
        // SAFETY: The body is borrowed exclusively.
        unsafe { stream.end(body.as_mut_ptr(), body.as_ptr(), body.len()) };
        *tag = stream.tag(aad, body);
        Ok(())
    }

    /// Decrypts a packet where it is: associated data, tag, body. Fails with `EBADMSG` if the tag is
    /// not right, and leaves the packet as it was; with `EINVAL` if it is too short. Softirq context,
    /// or bottom halves disabled.
    #[inline(never)]
    pub fn open(&self, nonce: &[u8; NONCE_LEN], packet: &mut [u8]) -> Result {
        let (aad, tag, body) = parts_mut(packet)?;
        let mut stream = Stream::new(self, nonce);

        stream.begin(body);
        stream.check(aad, body, tag)?;
        // SAFETY: The body is borrowed exclusively.
        unsafe { stream.end(body.as_mut_ptr(), body.as_ptr(), body.len()) };
        Ok(())
    }

    /// As [`open`](Self::open), but leaves the packet as it is and puts the body into `to`, which
    /// is as long.
    #[inline(never)]
    pub fn open_to(&self, nonce: &[u8; NONCE_LEN], packet: &[u8], to: &mut [u8]) -> Result {
        let (aad, tag, body) = parts(packet)?;
        if to.len() != body.len() {
            return Err(EINVAL);
        }
        let mut stream = Stream::new(self, nonce);

        stream.begin(body);
        stream.check(aad, body, tag)?;
        // SAFETY: Both are borrowed, `to` exclusively, and are as long.
        unsafe { stream.end(to.as_mut_ptr(), body.as_ptr(), body.len()) };
        Ok(())
    }
}

impl Drop for ChaCha20Poly1305 {
    fn drop(&mut self) {
        for word in self.0.iter_mut() {
            // SAFETY: The word is valid for writing.
            unsafe { ptr::write_volatile(word, 0) };
        }
    }
}

type Aad = [u8; AAD_LEN as usize];
type Tag = [u8; TAG_LEN as usize];

#[inline]
fn parts(packet: &[u8]) -> Result<(&Aad, &Tag, &[u8])> {
    let (aad, rest) = packet.split_first_chunk().ok_or(EINVAL)?;
    let (tag, body) = rest.split_first_chunk().ok_or(EINVAL)?;
    if body.is_empty() {
        return Err(EINVAL);
    }
    Ok((aad, tag, body))
}

#[inline]
fn parts_mut(packet: &mut [u8]) -> Result<(&mut Aad, &mut Tag, &mut [u8])> {
    let (aad, rest) = packet.split_first_chunk_mut().ok_or(EINVAL)?;
    let (tag, body) = rest.split_first_chunk_mut().ok_or(EINVAL)?;
    if body.is_empty() {
        return Err(EINVAL);
    }
    Ok((aad, tag, body))
}

const _: () = assert!(HEAD == AAD_LEN as usize + TAG_LEN as usize);

/// What the first blocks of the key stream make.
#[repr(C)]
struct First {
    /// The first one itself, which begins with the key of Poly1305.
    block: [u8; BLOCK],
    /// The beginning of the body, as many bytes of it as are done.
    head: MaybeUninit<[u8; HEAD_LEN]>,
}

/// The key stream for one packet.
struct Stream {
    state: bindings::chacha_state,
    first: First,
    /// How many bytes of the body are in `first`.
    done: usize,
}

impl Stream {
    #[inline]
    fn new(key: &ChaCha20Poly1305, nonce: &[u8; NONCE_LEN]) -> Self {
        let [c0, c1, c2, c3] = CONSTANTS;
        let [k0, k1, k2, k3, k4, k5, k6, k7] = *key.0;
        let [n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, n10, n11] = *nonce;
        let x = [
            c0,
            c1,
            c2,
            c3,
            k0,
            k1,
            k2,
            k3,
            k4,
            k5,
            k6,
            k7,
            0,
            u32::from_le_bytes([n0, n1, n2, n3]),
            u32::from_le_bytes([n4, n5, n6, n7]),
            u32::from_le_bytes([n8, n9, n10, n11]),
        ];
        Self {
            state: bindings::chacha_state { x },
            first: First {
                block: [0; BLOCK],
                head: MaybeUninit::uninit(),
            },
            done: 0,
        }
    }

    /// Makes the key of Poly1305, and in the same go encrypts or decrypts the beginning of `body`: the
    /// library has code for the processor only for more than one block.
    #[inline]
    fn begin(&mut self, body: &[u8]) {
        self.done = match body.len() {
            len @ ..=HEAD_LEN => len,
            // Not so much that a single block would be left.
            len if len <= const { HEAD_LEN + BLOCK } => BLOCK,
            _ => HEAD_LEN,
        };
        let first = (&raw mut self.first).cast::<u8>();
        // SAFETY: `first` has room for a block and `done` bytes more, and the body as many.
        unsafe {
            ptr::copy_nonoverlapping(body.as_ptr(), first.add(BLOCK), self.done);
            self.crypt(first, first, BLOCK.wrapping_add(self.done));
        }
    }

    /// Puts the encrypted or decrypted body into `to`.
    ///
    /// # Safety
    ///
    /// `from` must be the `len` bytes that [`begin`](Self::begin) was given; `to` must be valid for as
    /// many, and either the same or apart from them.
    #[inline]
    unsafe fn end(&mut self, to: *mut u8, from: *const u8, len: usize) {
        // SAFETY: By the safety requirement; `done` is not above `len`.
        unsafe {
            ptr::copy_nonoverlapping(self.first.head.as_ptr().cast(), to, self.done);
            let left = len.wrapping_sub(self.done);
            if left != 0 {
                self.crypt(to.add(self.done), from.add(self.done), left);
            }
        }
    }

    /// # Safety
    ///
    /// Both must be valid for `len` bytes, and the same or apart from each other.
    #[inline]
    unsafe fn crypt(&mut self, to: *mut u8, from: *const u8, len: usize) {
        // SAFETY: By the safety requirement. The state is that of a stream; the next call goes on
        // where this one ends, as all but the last are of whole blocks.
        unsafe { bindings::chacha_crypt(&mut self.state, to, from, len as c_uint, ROUNDS) };
    }

    /// The tag of the encrypted `body`.
    #[inline]
    fn tag(&self, aad: &Aad, body: &[u8]) -> Tag {
        let mut begin = [0; POLY_BLOCK];
        let mut end = [0; 2 * POLY_BLOCK];
        let mut tag = [0; TAG_LEN as usize];
        let mut poly = MaybeUninit::uninit();
        let poly: *mut bindings::poly1305_desc_ctx = poly.as_mut_ptr();

        // All is padded to whole blocks; the lengths make the last.
        let odd = body.len() % POLY_BLOCK;
        let whole = body.len().wrapping_sub(odd);
        let padded = if odd == 0 { 0 } else { POLY_BLOCK };
        // SAFETY: The first block of the stream has the bytes of a key; all lengths are those of what is
        // read, `padded` and 16 not above that of `end`, `odd` below 16; the context is initialised
        // first, and wiped last.
        unsafe {
            ptr::copy_nonoverlapping(aad.as_ptr(), begin.as_mut_ptr(), aad.len());
            bindings::poly1305_init(poly, self.first.block.as_ptr());
            bindings::poly1305_update(poly, begin.as_ptr(), POLY_BLOCK as c_uint);
            bindings::poly1305_update(poly, body.as_ptr(), whole as c_uint);

            let rest = body.as_ptr().add(whole);
            let lengths = end.as_mut_ptr().add(padded).cast::<[u64; 2]>();
            ptr::copy_nonoverlapping(rest, end.as_mut_ptr(), odd);
            lengths.write_unaligned([u64::from(AAD_LEN).to_le(), (body.len() as u64).to_le()]);
            let len = padded.wrapping_add(POLY_BLOCK);
            bindings::poly1305_update(poly, end.as_ptr(), len as c_uint);
            bindings::poly1305_final(poly, tag.as_mut_ptr());
        }
        tag
    }

    /// Fails with `EBADMSG` if `tag` is not that of the encrypted `body`. Takes as long for any.
    #[inline]
    fn check(&self, aad: &Aad, body: &[u8], tag: &Tag) -> Result {
        let right = self.tag(aad, body);
        // SAFETY: Both are as long.
        let differ = unsafe {
            bindings::crypto_memneq(right.as_ptr().cast(), tag.as_ptr().cast(), right.len())
        };
        if differ != 0 {
            return Err(errno::ebadmsg());
        }
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // The keys, and the rest of the block that nobody else sees.
        for secret in &mut self.state.x {
            // SAFETY: The word is valid for writing.
            unsafe { ptr::write_volatile(secret, 0) };
        }
        memory::wipe(&mut self.first.block);
    }
}
