// SPDX-License-Identifier: GPL-2.0

//! Netlink messages: what is asked for, what may be in it, and what is answered.
//!
//! C header: [`include/net/netlink.h`](srctree/include/net/netlink.h)

use crate::bindings;
use core::{
    marker::PhantomData,
    ptr::{self, NonNull},
    slice,
};
use kernel::{error::to_result, prelude::*};

/// The payload of an attribute can not be longer: its length is a `u16` that counts the header.
const MAX_PAYLOAD: usize = u16::MAX as usize - size_of::<bindings::nlattr>();

/// What the caller of a refused command is told.
pub struct Failure {
    pub(super) error: Error,
    pub(super) message: &'static CStr,
}

impl Failure {
    /// `message` says in words what is wrong; it goes into the extended ACK.
    pub const fn new(error: Error, message: &'static CStr) -> Self {
        Self { error, message }
    }
}

/// What the core checks of one attribute before a command sees it.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub struct Policy(bindings::nla_policy);

// SAFETY: Nothing changes a policy, and all it points to are static policies.
unsafe impl Sync for Policy {}

impl Policy {
    /// Refuses the attribute (`EINVAL`).
    pub const REFUSED: Self = Self::of_type(bindings::NLA_UNSPEC);
    /// A `u8`.
    pub const U8: Self = Self::of_type(bindings::NLA_U8);
    /// A `u16`.
    pub const U16: Self = Self::of_type(bindings::NLA_U16);
    /// A `u32`.
    pub const U32: Self = Self::of_type(bindings::NLA_U32);

    const fn of_type(kind: u32) -> Self {
        Self(bindings::nla_policy {
            type_: kind as u8,
            validation_type: bindings::nla_policy_validation_NLA_VALIDATE_NONE as u8,
            len: 0,
            // The pointer is the longest member, so this leaves no byte of the union unset.
            __bindgen_anon_1: bindings::nla_policy__bindgen_ty_1 {
                nested_policy: ptr::null(),
            },
        })
    }

    const fn limited(kind: u32, validation: u32, min: u8, max: u8) -> Self {
        let mut policy = Self::of_type(kind);
        policy.0.validation_type = validation as u8;
        policy.0.__bindgen_anon_1.__bindgen_anon_1 =
            bindings::nla_policy__bindgen_ty_1__bindgen_ty_1 {
                min: min as i16,
                max: max as i16,
            };
        policy
    }

    /// A `u8` of at least `min` and at most `max`; else `ERANGE`.
    pub const fn u8_range(min: u8, max: u8) -> Self {
        let validation = bindings::nla_policy_validation_NLA_VALIDATE_RANGE;
        Self::limited(bindings::NLA_U8, validation, min, max)
    }

    /// `length` bytes; else `ERANGE`.
    pub const fn exact_length(length: u8) -> Self {
        let validation = bindings::nla_policy_validation_NLA_VALIDATE_RANGE;
        Self::limited(bindings::NLA_BINARY, validation, length, length)
    }

    /// At least `length` bytes; else `ERANGE`.
    pub const fn min_length(length: u8) -> Self {
        let validation = bindings::nla_policy_validation_NLA_VALIDATE_MIN;
        Self::limited(bindings::NLA_BINARY, validation, length, 0)
    }

    /// At most `length` bytes; else `ERANGE`.
    pub const fn max_length(length: u8) -> Self {
        let validation = bindings::nla_policy_validation_NLA_VALIDATE_MAX;
        Self::limited(bindings::NLA_BINARY, validation, 0, length)
    }

    /// A nest, whose attributes are checked against `policies`, their types being the indices.
    pub const fn nest(policies: &'static [Self]) -> Self {
        let mut policy = Self::of_type(bindings::NLA_NESTED);
        policy.0.len = highest_type(policies) as u16;
        policy.0.__bindgen_anon_1.nested_policy = policies.as_ptr().cast();
        policy
    }

    /// A table for [`Policy::nest`] or [`Command::POLICIES`]. What `entries` do not name is refused.
    ///
    /// For the initialiser of a static: an attribute type of `N` or above does not compile there.
    pub const fn table<const N: usize>(entries: &[(u32, Self)]) -> [Self; N] {
        let mut table = [Self::REFUSED; N];
        let mut i = 0;
        while i < entries.len() {
            table[entries[i].0 as usize] = entries[i].1;
            i += 1;
        }
        table
    }
}

/// The last index of a table of policies. An empty table does not compile: C reads the first
/// entry of any.
pub(super) const fn highest_type(policies: &[Policy]) -> usize {
    assert!(!policies.is_empty() && policies.len() <= u16::MAX as usize);
    policies.len() - 1
}

/// Where a refusal is explained to the caller.
///
/// # Invariants
///
/// Null, or valid for `'a`, during which only the task that handles the request uses it.
#[derive(Clone, Copy)]
pub(super) struct Extack<'a>(*mut bindings::netlink_ext_ack, PhantomData<&'a ()>);

impl Extack<'_> {
    /// # Safety
    ///
    /// `raw` must be null, or valid for the lifetime of the result, during which only the task that
    /// handles the request uses it.
    pub(super) unsafe fn from_raw(raw: *mut bindings::netlink_ext_ack) -> Self {
        // INVARIANT: By the safety requirement.
        Self(raw, PhantomData)
    }

    pub(super) fn set_message(self, message: &'static CStr) {
        if !self.0.is_null() {
            // SAFETY: By the type invariants. The message stays, as the module does until the
            // answer has been written.
            unsafe { (*self.0)._msg = message.as_ptr().cast() };
        }
    }

    fn set_bad(self, attribute: NonNull<bindings::nlattr>) {
        if !self.0.is_null() {
            // SAFETY: By the type invariants.
            unsafe { (*self.0).bad_attr = attribute.as_ptr() };
        }
    }

    /// `nest` is null for an attribute that is missing at the top level.
    fn set_missing(self, nest: *const bindings::nlattr, kind: u32) {
        if !self.0.is_null() {
            // SAFETY: By the type invariants.
            unsafe {
                (*self.0).miss_nest = nest;
                (*self.0).miss_type = kind as u16;
            }
        }
    }
}

/// The attributes of a message, or of a nest in one.
///
/// # Invariants
///
/// `stream` is aligned as attributes are. `nest` is null, or the attribute that holds `stream`.
#[derive(Clone, Copy)]
pub struct Attributes<'a> {
    stream: &'a [u8],
    nest: *const bindings::nlattr,
    extack: Extack<'a>,
}

impl<'a> Attributes<'a> {
    /// # Safety
    ///
    /// `stream` must be what stands behind the header of a message, and so be aligned.
    pub(super) unsafe fn top_level(stream: &'a [u8], extack: Extack<'a>) -> Self {
        // INVARIANT: By the safety requirement.
        Self {
            stream,
            nest: ptr::null(),
            extack,
        }
    }

    /// The attribute of type `kind`, if there is one. If there are several the last one counts, as
    /// it does with `nla_parse()`.
    pub fn get(&self, kind: u32) -> Option<Attribute<'a>> {
        let mut rest = self.stream;
        let mut found = None;

        while let Some((attribute, after)) = self.find(rest, kind) {
            rest = after;
            found = Some(attribute);
        }
        found
    }

    /// The attribute of type `kind`. Without it `message` and `EINVAL` refuse the request, and the
    /// caller is told where it should have been.
    pub fn require(&self, kind: u32, message: &'static CStr) -> Result<Attribute<'a>, Failure> {
        self.get(kind).ok_or_else(|| {
            self.extack.set_missing(self.nest, kind);
            Failure::new(EINVAL, message)
        })
    }

    /// The first attribute of type `kind` in `stream`, which is aligned, and what follows it.
    fn find(&self, stream: &'a [u8], kind: u32) -> Option<(Attribute<'a>, &'a [u8])> {
        let len = c_int::try_from(stream.len()).ok()?;
        let kind = c_int::try_from(kind).ok()?;
        // SAFETY: `stream` is aligned and has `len` bytes. Whatever they are, the function does not
        // look beyond them, and only returns an attribute that ends within them.
        let found = unsafe { bindings::nla_find(stream.as_ptr().cast(), len, kind) };
        let raw = NonNull::new(found)?;

        // SAFETY: The attribute is whole and part of `stream`, so its payload is valid for `'a`.
        let payload = unsafe {
            let len = usize::try_from(bindings::nla_len(found)).unwrap_or(0);
            slice::from_raw_parts(bindings::nla_data(found).cast::<u8>(), len)
        };

        // Attributes are aligned, and the last one may lack its padding.
        let end = payload.as_ptr_range().end.addr();
        let after = end
            .checked_sub(stream.as_ptr().addr())
            .and_then(|len| len.checked_next_multiple_of(bindings::NLA_ALIGNTO as usize))
            .and_then(|len| stream.get(len..))
            .unwrap_or(&[]);
        // INVARIANT: The attribute is part of `stream`.
        let attribute = Attribute {
            raw,
            payload,
            extack: self.extack,
        };
        Some((attribute, after))
    }
}

/// An attribute of a request.
///
/// # Invariants
///
/// `raw` is valid for `'a`, and `payload` is its payload.
pub struct Attribute<'a> {
    raw: NonNull<bindings::nlattr>,
    payload: &'a [u8],
    extack: Extack<'a>,
}

impl<'a> Attribute<'a> {
    /// The payload.
    pub fn bytes(&self) -> &'a [u8] {
        self.payload
    }

    /// The payload, if it has `N` bytes; else refuses the request with `EINVAL`.
    pub fn array<const N: usize>(&self) -> Result<[u8; N], Failure> {
        self.array_ref().copied()
    }

    /// As [`Attribute::array`], where the payload stands: no copy is made.
    pub fn array_ref<const N: usize>(&self) -> Result<&'a [u8; N], Failure> {
        self.payload
            .try_into()
            .map_err(|_| self.refuse(EINVAL, c"an attribute has a wrong length"))
    }

    /// The payload as a `u8`, if it has the length of one; else refuses the request with `EINVAL`.
    pub fn u8(&self) -> Result<u8, Failure> {
        self.array().map(u8::from_ne_bytes)
    }

    /// As [`Attribute::u8`], for a `u16` in host byte order.
    pub fn u16(&self) -> Result<u16, Failure> {
        self.array().map(u16::from_ne_bytes)
    }

    /// As [`Attribute::u8`], for a `u32` in host byte order.
    pub fn u32(&self) -> Result<u32, Failure> {
        self.array().map(u32::from_ne_bytes)
    }

    /// The attributes in it, which is to be one that has passed a [`Policy::nest`].
    pub fn nest(&self) -> Attributes<'a> {
        // INVARIANT: The header of an attribute has an aligned length.
        Attributes {
            stream: self.payload,
            nest: self.raw.as_ptr(),
            extack: self.extack,
        }
    }

    /// A refusal that is about this attribute: the caller is told where it stands.
    pub fn refuse(&self, error: Error, message: &'static CStr) -> Failure {
        self.extack.set_bad(self.raw);
        Failure::new(error, message)
    }
}

/// A message that is being written. Each method fails with `EMSGSIZE` if the buffer is full.
///
/// # Invariants
///
/// `skb` is a netlink buffer that nobody else uses during `'a`, and ends with the beginning of a
/// message.
pub struct Message<'a> {
    skb: NonNull<bindings::sk_buff>,
    _buffer: PhantomData<&'a mut ()>,
}

impl Message<'_> {
    /// # Safety
    ///
    /// `skb` must be as the type invariants say, for the lifetime of the result.
    pub(super) unsafe fn from_raw(skb: NonNull<bindings::sk_buff>) -> Self {
        // INVARIANT: By the safety requirement.
        Self {
            skb,
            _buffer: PhantomData,
        }
    }

    /// Adds an attribute of type `kind` with `payload`.
    pub fn put(&mut self, kind: u32, payload: &[u8]) -> Result {
        if payload.len() > MAX_PAYLOAD {
            return Err(EMSGSIZE);
        }
        // SAFETY: By the type invariants, and `payload` has that many bytes.
        to_result(unsafe {
            bindings::nla_put(
                self.skb.as_ptr(),
                kind as c_int,
                payload.len() as c_int,
                payload.as_ptr().cast(),
            )
        })
    }

    /// Adds a `u8`.
    pub fn put_u8(&mut self, kind: u32, value: u8) -> Result {
        self.put(kind, &[value])
    }

    /// Adds a `u16` in network byte order, and says so in the attribute's header.
    pub fn put_net16(&mut self, kind: u32, value: u16) -> Result {
        self.put(kind | bindings::NLA_F_NET_BYTEORDER, &value.to_be_bytes())
    }

    /// Adds a `u32` in host byte order.
    pub fn put_u32(&mut self, kind: u32, value: u32) -> Result {
        self.put(kind, &value.to_ne_bytes())
    }

    /// Adds a `u64` in host byte order. Where the architecture wants it aligned, an empty attribute
    /// of type `pad` goes before it.
    pub fn put_u64(&mut self, kind: u32, value: u64, pad: u32) -> Result {
        // SAFETY: By the type invariants.
        to_result(unsafe {
            bindings::nla_put_u64_64bit(self.skb.as_ptr(), kind as c_int, value, pad as c_int)
        })
    }

    /// Adds a nest, to which `fill` adds what it holds; if that fails, so does this, and the nest
    /// is taken away again.
    pub fn put_nest(&mut self, kind: u32, fill: impl FnOnce(&mut Self) -> Result) -> Result {
        let skb = self.skb.as_ptr();
        // SAFETY: By the type invariants.
        let nest = unsafe { bindings::nla_nest_start(skb, kind as c_int) };
        if nest.is_null() {
            return Err(EMSGSIZE);
        }

        let result = fill(self);
        // SAFETY: `nest` is the last nest in the buffer that has not ended.
        unsafe {
            match result {
                Ok(()) => {
                    bindings::nla_nest_end(skb, nest);
                }
                Err(_) => bindings::nla_nest_cancel(skb, nest),
            }
        }
        result
    }
}

/// Whether one more line may go to the kernel log: lines about the network are rationed.
pub fn may_log() -> bool {
    // SAFETY: Always safe to call.
    unsafe { bindings::net_ratelimit() != 0 }
}
