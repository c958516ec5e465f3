// SPDX-License-Identifier: GPL-2.0

//! The bytes of a socket buffer where they are in memory.
//!
//! C header: [`include/linux/skbuff.h`](srctree/include/linux/skbuff.h)

use super::skb::SkBuff;
use crate::bindings;
use core::{marker::PhantomData, slice};
use kernel::prelude::*;

/// The parts of a buffer in memory.
///
/// # Invariants
///
/// `skb` is null, or valid for `'a`: the buffer itself, or one of its fragment list if `list` is set.
pub struct Parts<'a> {
    skb: *const bindings::sk_buff,
    next: NextPart,
    list: bool,
    skip: usize,
    broken: bool,
    _skb: PhantomData<&'a SkBuff>,
}

enum NextPart {
    Linear,
    Fragment(c_uint),
}

impl<'a> Parts<'a> {
    /// The parts of `skb` from `offset` on.
    pub(super) fn new(skb: &'a SkBuff, offset: u32) -> Self {
        // INVARIANT: The buffer is borrowed.
        Self {
            skb: skb.as_raw(),
            next: NextPart::Linear,
            list: false,
            skip: offset as usize,
            broken: false,
            _skb: PhantomData,
        }
    }

    /// Whether a part was left out, and all behind it, as it can not be read where it is.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// The next part with nothing skipped; it may be empty.
    fn step(&mut self) -> Option<&'a [u8]> {
        if self.skb.is_null() || self.broken {
            return None;
        }
        // SAFETY: By the type invariants, here and below.
        unsafe {
            match self.next {
                NextPart::Linear => {
                    let len = (*self.skb).len.wrapping_sub((*self.skb).data_len);
                    self.next = NextPart::Fragment(0);
                    return Some(slice::from_raw_parts((*self.skb).data, len as usize));
                }
                NextPart::Fragment(i) if i < bindings::ovpn_shim_skb_nr_frags(self.skb) => {
                    let mut len = 0;
                    let start = bindings::ovpn_shim_skb_frag(self.skb, i, &mut len);
                    self.next = NextPart::Fragment(i.wrapping_add(1));
                    if start.is_null() {
                        self.broken = true;
                        return None;
                    }
                    return Some(slice::from_raw_parts(start, len as usize));
                }
                NextPart::Fragment(_) => {}
            }
            let inner = bindings::ovpn_shim_skb_frag_list(self.skb);
            if self.list {
                // A list within a list is left to those who made it.
                self.broken = !inner.is_null();
                self.skb = (*self.skb).__bindgen_anon_1.__bindgen_anon_1.next;
            } else {
                self.list = true;
                self.skb = inner;
            }
        }
        self.next = NextPart::Linear;
        Some(&[])
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            let part = self.step()?;
            let skipped = self.skip.min(part.len());
            self.skip = self.skip.wrapping_sub(skipped);
            match part.get(skipped..) {
                Some(rest) if !rest.is_empty() => return Some(rest),
                _ => {}
            }
        }
    }
}

/// Reads a buffer from front to back.
pub struct Reader<'a> {
    parts: Parts<'a>,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Begins at the first of `parts`.
    pub(super) fn new(parts: Parts<'a>) -> Self {
        Self { parts, rest: &[] }
    }

    /// Copies the next bytes to `to`, which is filled; `None` if there are fewer, or they can not be
    /// read.
    #[inline]
    pub fn read(&mut self, mut to: &mut [u8]) -> Option<()> {
        while !to.is_empty() {
            self.fill()?;
            let some = to.len().min(self.rest.len());
            let (taken, rest) = self.rest.split_at_checked(some)?;
            let (now, later) = to.split_at_mut_checked(some)?;
            now.copy_from_slice(taken);
            (self.rest, to) = (rest, later);
        }
        Some(())
    }

    /// Leaves out `len` bytes; `None` if there are not so many.
    #[inline]
    pub fn skip(&mut self, mut len: usize) -> Option<()> {
        while len != 0 {
            self.fill()?;
            let some = len.min(self.rest.len());
            self.rest = self.rest.get(some..)?;
            len = len.checked_sub(some)?;
        }
        Some(())
    }

    /// Sees to it that `rest` is not empty.
    #[inline]
    fn fill(&mut self) -> Option<()> {
        if self.rest.is_empty() {
            self.rest = self.parts.next()?;
        }
        Some(())
    }
}
