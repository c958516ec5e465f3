// SPDX-License-Identifier: GPL-2.0

//! Generic netlink.
//!
//! A [`Family`] is a static table of [`Operation`]s, each of which is a type that implements
//! [`Command`] and, if it can be dumped, [`DumpCommand`]. The core checks a request against the
//! policies of its command, strictly and whole, before the command sees it.
//!
//! C headers: [`include/net/genetlink.h`](srctree/include/net/genetlink.h),
//! [`include/net/netlink.h`](srctree/include/net/netlink.h)

use super::net::Net;
use crate::bindings;
use core::{
    marker::PhantomData,
    ptr::{self, NonNull},
    slice,
};
use kernel::{
    bindings::GFP_KERNEL,
    error::to_result,
    prelude::*,
    sync::atomic::{Acquire, Atomic, Full, Release},
    types::Opaque,
};

/// The payload of an attribute can not be longer: its length is a `u16` that counts the header.
const MAX_PAYLOAD: usize = u16::MAX as usize - size_of::<bindings::nlattr>();

/// What the caller of a refused command is told.
pub struct Failure {
    error: Error,
    message: &'static CStr,
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
const fn highest_type(policies: &[Policy]) -> usize {
    assert!(!policies.is_empty() && policies.len() <= u16::MAX as usize);
    policies.len() - 1
}

/// A command of a family. It needs `CAP_NET_ADMIN` in the initial user namespace.
pub trait Command {
    /// Its number.
    const NUMBER: u8;

    /// The policies of its top-level attributes, whose types are the indices. It is evaluated at
    /// compile time, and must not be empty.
    const POLICIES: &'static [Policy];

    /// Whether its requests hold secrets. The message is then wiped when the command is done.
    const SECRET: bool = false;

    /// Does what `request` asks for. Process context, may sleep; commands of one family do not
    /// run at the same time.
    fn run(request: &Request<'_>) -> Result<(), Failure>;
}

/// A command that can be dumped, too.
pub trait DumpCommand: Command {
    /// Adds messages to `dump`, from its cursor on, until there are no more (`Ok`) or one does not
    /// fit (the error of [`Dump::message`]): then it is called again, with the same request and
    /// cursor and an empty buffer. Any other error ends the dump, and stands in its last message.
    /// Process context, may sleep.
    fn dump(request: &Request<'_>, dump: &mut Dump<'_>) -> Result<(), Failure>;
}

/// An entry of a family's table of commands.
#[repr(transparent)]
pub struct Operation(bindings::genl_ops);

// SAFETY: Nothing changes an operation, and all it points to are functions and static policies.
unsafe impl Sync for Operation {}

impl Operation {
    /// The entry for a command that can not be dumped.
    pub const fn new<T: Command>() -> Self {
        // SAFETY: Null pointers, no functions and zeroes are valid.
        let mut operation: bindings::genl_ops = unsafe { core::mem::zeroed() };

        operation.cmd = T::NUMBER;
        operation.flags = bindings::GENL_ADMIN_PERM as u8;
        operation.policy = T::POLICIES.as_ptr().cast();
        operation.maxattr = highest_type(T::POLICIES) as u32;
        operation.doit = Some(doit::<T>);
        Self(operation)
    }

    /// The entry for a command that can be dumped.
    pub const fn with_dump<T: DumpCommand>() -> Self {
        let mut operation = Self::new::<T>();

        operation.0.dumpit = Some(dumpit::<T>);
        operation
    }
}

/// A multicast group of a family.
#[repr(transparent)]
pub struct Group(bindings::genl_multicast_group);

impl Group {
    /// `name` ends with a nul. For the initialiser of a static: one that is too long does not
    /// compile there.
    pub const fn new(name: &[u8]) -> Self {
        // SAFETY: Zeroes are valid.
        let mut group: bindings::genl_multicast_group = unsafe { core::mem::zeroed() };

        group.name = padded(name);
        Self(group)
    }
}

/// Fills a name up with nuls.
const fn padded<const N: usize>(name: &[u8]) -> [u8; N] {
    assert!(CStr::from_bytes_with_nul(name).is_ok());

    let mut padded = [0; N];
    let mut i = 0;
    while i < name.len() {
        padded[i] = name[i];
        i += 1;
    }
    padded
}

const UNREGISTERED: i32 = 0;
const REGISTERING: i32 = 1;
const REGISTERED: i32 = 2;
const GONE: i32 = 3;

/// A generic netlink family.
///
/// # Invariants
///
/// `family` has no header of its own, and its tables are static. While `state` is `UNREGISTERED`
/// nobody knows `family`; the one who changes it to `REGISTERING` may write to it, and nobody any
/// more once it is `REGISTERED` or `GONE`, which is for good.
pub struct Family {
    family: Opaque<bindings::genl_family>,
    state: Atomic<i32>,
}

// SAFETY: By the type invariants, `family` is written by one at a time, and its tables are `Sync`.
unsafe impl Sync for Family {}

impl Family {
    /// `name` ends with a nul; `highest_attribute` is for those who ask what the family has, as
    /// each command has policies of its own. For the initialiser of a static: a name or a table
    /// that is too long does not compile there.
    pub const fn new(
        name: &[u8],
        version: u32,
        highest_attribute: u32,
        operations: &'static [Operation],
        groups: &'static [Group],
    ) -> Self {
        assert!(operations.len() <= u8::MAX as usize && groups.len() <= u8::MAX as usize);

        // SAFETY: Null pointers, no functions and zeroes are valid.
        let mut family: bindings::genl_family = unsafe { core::mem::zeroed() };
        family.name = padded(name);
        family.version = version;
        family.maxattr = highest_attribute;
        family.ops = operations.as_ptr().cast();
        family.n_ops = operations.len() as u8;
        family.mcgrps = groups.as_ptr().cast();
        family.n_mcgrps = groups.len() as u8;

        // INVARIANT: `hdrsize` is 0, and the tables are static.
        Self {
            family: Opaque::new(family),
            state: Atomic::new(UNREGISTERED),
        }
    }

    /// Makes the family known in every network namespace, until the registration is dropped.
    ///
    /// Process context, may sleep. Fails with `EBUSY` if it has been registered before, even if
    /// that has ended, and with `EEXIST` if another family has the name.
    pub fn register(&'static self, module: &'static ThisModule) -> Result<Registration> {
        if self.state.cmpxchg(UNREGISTERED, REGISTERING, Full).is_err() {
            return Err(EBUSY);
        }

        let family = self.family.get();
        // SAFETY: By the type invariants, `family` is ours alone until the call, and what it
        // points to is static.
        let result = to_result(unsafe {
            (*family).module = module.as_ptr().cast();
            (*family).set_netnsok(1);
            bindings::genl_register_family(family)
        });
        if let Err(error) = result {
            // INVARIANT: The core has forgotten `family` again.
            self.state.store(UNREGISTERED, Release);
            return Err(error);
        }
        self.state.store(REGISTERED, Release);

        // INVARIANT: It has just been registered.
        Ok(Registration(self))
    }

    /// Sends a message to the listeners of a group in the namespace `net`.
    ///
    /// `group` is its index in the family's table, `command` what the message says it is, `room`
    /// the bytes for its attributes, which `fill` adds. Process context, may sleep. Fails with
    /// `ESRCH` if nobody listens, with `ENODEV` if the family is not registered or has no such
    /// group, and with `ENOMEM`, `EMSGSIZE` or what `fill` fails with.
    pub fn multicast(
        &'static self,
        net: &Net,
        group: u32,
        command: u8,
        room: usize,
        fill: impl FnOnce(&mut Message<'_>) -> Result,
    ) -> Result {
        let family = self.family.get();

        // SAFETY: By the type invariants, nobody writes to `n_mcgrps` once it is registered.
        if self.state.load(Acquire) != REGISTERED || group >= unsafe { (*family).n_mcgrps }.into() {
            return Err(ENODEV);
        }

        let net = net.as_raw();
        // A namespace that ends gives up its generic netlink when nobody is left to listen.
        // SAFETY: `net` lives.
        if unsafe { (&raw const (*net).genl_sock).read_volatile() }.is_null() {
            return Err(ESRCH);
        }

        let buffer = Buffer::new(room)?;
        // SAFETY: `family` has been registered.
        unsafe { message(buffer.0, 0, 0, family, 0, command, fill) }?;
        let skb = buffer.into_raw();
        // SAFETY: `family` has been registered and has that group, `net` lives, and the buffer is
        // given away.
        to_result(unsafe {
            bindings::genlmsg_multicast_netns(family, net, skb, 0, group, GFP_KERNEL)
        })
    }
}

/// Keeps a [`Family`] registered. Dropping it waits for the commands that are running; after that
/// nothing is multicast any more.
///
/// # Invariants
///
/// The family is registered.
pub struct Registration(&'static Family);

impl Drop for Registration {
    fn drop(&mut self) {
        // The core gives the numbers of the groups to others.
        self.0.state.store(GONE, Release);
        // SAFETY: By the type invariants. It only fails for a family that is not registered.
        unsafe { bindings::genl_unregister_family(self.0.family.get()) };
    }
}

/// Where a refusal is explained to the caller.
///
/// # Invariants
///
/// Null, or valid for `'a`, during which only the task that handles the request uses it.
#[derive(Clone, Copy)]
struct Extack<'a>(*mut bindings::netlink_ext_ack, PhantomData<&'a ()>);

impl Extack<'_> {
    fn set_message(self, message: &'static CStr) {
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

/// A request that is being handled. Its attributes have passed the policies of its command.
///
/// # Invariants
///
/// `info` is valid for `'a` and describes a message of a [`Family`], which has a whole header and
/// ends where the header says. Nobody writes to either during `'a`.
pub struct Request<'a> {
    info: NonNull<bindings::genl_info>,
    _message: PhantomData<&'a ()>,
}

impl<'a> Request<'a> {
    /// # Safety
    ///
    /// `info` must be what the core has given a callback of an [`Operation`], and `'a` must end
    /// before that returns.
    unsafe fn from_raw(info: NonNull<bindings::genl_info>) -> Self {
        // INVARIANT: By the safety requirement, and as the core has checked the header's length
        // before it called.
        Self {
            info,
            _message: PhantomData,
        }
    }

    /// The network namespace of the caller's socket.
    pub fn net(&self) -> &'a Net {
        // SAFETY: By the type invariants. The caller's socket keeps the namespace.
        unsafe { Net::from_raw(bindings::genl_info_net(self.info.as_ptr())) }
    }

    /// The top-level attributes.
    pub fn attributes(&self) -> Attributes<'a> {
        // SAFETY: By the type invariants, the message has that many bytes behind the header, which
        // stay and do not change for `'a`.
        // INVARIANT: The header has an aligned length.
        let stream = unsafe {
            let header = (*self.info.as_ptr()).genlhdr;
            let len = usize::try_from(bindings::genlmsg_len(header)).unwrap_or(0);
            slice::from_raw_parts(bindings::genlmsg_data(header).cast::<u8>(), len)
        };
        Attributes {
            stream,
            nest: ptr::null(),
            extack: self.extack(),
        }
    }

    /// Answers with a message. `command` is what it says it is, `room` the bytes for its
    /// attributes, which `fill` adds.
    ///
    /// Fails with `ENOMEM`, with `EMSGSIZE` or what `fill` fails with, or if the caller's socket is
    /// gone or full.
    pub fn reply(
        &self,
        command: u8,
        room: usize,
        fill: impl FnOnce(&mut Message<'_>) -> Result,
    ) -> Result {
        let info = self.info.as_ptr();
        let buffer = Buffer::new(room)?;

        // SAFETY: By the type invariants. The core only answers for families that are registered.
        unsafe {
            let (portid, sequence, family) = ((*info).snd_portid, (*info).snd_seq, (*info).family);
            message(buffer.0, portid, sequence, family, 0, command, fill)
        }?;
        // SAFETY: By the type invariants; the buffer is given away.
        to_result(unsafe { bindings::genlmsg_reply(buffer.into_raw(), info) })
    }

    fn extack(&self) -> Extack<'a> {
        // SAFETY: By the type invariants.
        // INVARIANT: The core keeps it until the command has returned.
        Extack(unsafe { (*self.info.as_ptr()).extack }, PhantomData)
    }

    /// Explains a refusal to the caller and returns the error number for the core.
    fn finish(&self, outcome: Result<(), Failure>) -> c_int {
        match outcome {
            Ok(()) => 0,
            Err(failure) => {
                self.extack().set_message(failure.message);
                failure.error.to_errno()
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

/// A buffer for one message.
///
/// # Invariants
///
/// Owns the socket buffer.
struct Buffer(NonNull<bindings::sk_buff>);

impl Buffer {
    /// With `room` bytes for attributes. Process context, may sleep.
    fn new(room: usize) -> Result<Self> {
        // SAFETY: Always safe to call.
        let skb = unsafe { bindings::genlmsg_new(room, GFP_KERNEL) };

        // INVARIANT: It is new.
        NonNull::new(skb).map(Self).ok_or(ENOMEM)
    }

    fn into_raw(self) -> *mut bindings::sk_buff {
        core::mem::ManuallyDrop::new(self).0.as_ptr()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::nlmsg_free(self.0.as_ptr()) };
    }
}

/// Adds a message to a buffer: all of it, or nothing if it fails.
///
/// # Safety
///
/// `skb` must be a netlink buffer that nobody else uses during the call, and `family` must have
/// been registered.
unsafe fn message(
    skb: NonNull<bindings::sk_buff>,
    portid: u32,
    sequence: u32,
    family: *const bindings::genl_family,
    flags: u32,
    command: u8,
    fill: impl FnOnce(&mut Message<'_>) -> Result,
) -> Result {
    let raw = skb.as_ptr();
    // SAFETY: By the safety requirements.
    let header =
        unsafe { bindings::genlmsg_put(raw, portid, sequence, family, flags as c_int, command) };
    if header.is_null() {
        return Err(EMSGSIZE);
    }

    // INVARIANT: The header has just been added.
    let result = fill(&mut Message {
        skb,
        _buffer: PhantomData,
    });
    // SAFETY: `header` is that of the last message in the buffer.
    unsafe {
        match result {
            Ok(()) => bindings::genlmsg_end(raw, header),
            Err(_) => bindings::genlmsg_cancel(raw, header),
        }
    }
    result
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

/// Where a dump puts its messages.
///
/// # Invariants
///
/// `callback` is that of a dump that is running, `skb` the buffer that it fills, and nobody else
/// uses either during `'a`.
pub struct Dump<'a> {
    skb: NonNull<bindings::sk_buff>,
    callback: NonNull<bindings::netlink_callback>,
    _buffer: PhantomData<&'a mut ()>,
}

impl Dump<'_> {
    /// Where to go on: what [`Dump::set_cursor`] has set last, in this call or an earlier one, and
    /// 0 at first.
    pub fn cursor(&self) -> u32 {
        // SAFETY: By the type invariants. Any bytes are valid, and the core has cleared them.
        let context = unsafe { &(*self.callback.as_ptr()).__bindgen_anon_1.ctx };

        context
            .first_chunk()
            .map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    }

    /// Remembers where to go on.
    pub fn set_cursor(&mut self, cursor: u32) {
        // SAFETY: By the type invariants. Any bytes are valid.
        let context = unsafe { &mut (*self.callback.as_ptr()).__bindgen_anon_1.ctx };

        if let Some(bytes) = context.first_chunk_mut() {
            *bytes = cursor.to_ne_bytes();
        }
    }

    /// Adds a message. `command` is what it says it is; `fill` adds its attributes.
    ///
    /// Fails with `EMSGSIZE` if the buffer is full, or with what `fill` fails with. The buffer is
    /// then as it was before.
    pub fn message(
        &mut self,
        command: u8,
        fill: impl FnOnce(&mut Message<'_>) -> Result,
    ) -> Result {
        // SAFETY: By the type invariants. The family of a request is registered.
        unsafe {
            let info = bindings::genl_info_dump(self.callback.as_ptr());
            let (portid, sequence, family) = ((*info).snd_portid, (*info).snd_seq, (*info).family);
            message(
                self.skb,
                portid,
                sequence,
                family,
                bindings::NLM_F_MULTI,
                command,
                fill,
            )
        }
    }
}

/// Whether one more line may go to the kernel log: lines about the network are rationed.
pub fn may_log() -> bool {
    // SAFETY: Always safe to call.
    unsafe { bindings::net_ratelimit() != 0 }
}

/// # Safety
///
/// To be called by the core only, as the `doit` of an [`Operation`].
unsafe extern "C" fn doit<T: Command>(
    _skb: *mut bindings::sk_buff,
    info: *mut bindings::genl_info,
) -> c_int {
    let Some(info) = NonNull::new(info) else {
        return EINVAL.to_errno();
    };
    // SAFETY: `request` does not leave this function.
    let request = unsafe { Request::from_raw(info) };
    let result = request.finish(T::run(&request));

    if T::SECRET {
        // SAFETY: The message is valid until this returns, and what was borrowed from it is not in
        // use any more. The core needs its headers only from here on.
        unsafe {
            let header = (*info.as_ptr()).genlhdr;
            let len = usize::try_from(bindings::genlmsg_len(header)).unwrap_or(0);
            bindings::memzero_explicit(bindings::genlmsg_data(header), len);
        }
    }
    result
}

/// # Safety
///
/// To be called by the core only, as the `dumpit` of an [`Operation`].
unsafe extern "C" fn dumpit<T: DumpCommand>(
    skb: *mut bindings::sk_buff,
    callback: *mut bindings::netlink_callback,
) -> c_int {
    // SAFETY: The core passes the callback of a dump.
    let info = unsafe { bindings::genl_info_dump(callback) };
    let (Some(skb), Some(callback), Some(info)) = (
        NonNull::new(skb),
        NonNull::new(callback),
        NonNull::new(info.cast_mut()),
    ) else {
        return EINVAL.to_errno();
    };
    // SAFETY: `request` does not leave this function.
    let request = unsafe { Request::from_raw(info) };
    // INVARIANT: As the core passes them.
    let mut dump = Dump {
        skb,
        callback,
        _buffer: PhantomData,
    };

    // With `EMSGSIZE` and something in the buffer the core sends that and calls again; with 0 the
    // dump is over.
    request.finish(T::dump(&request, &mut dump))
}
