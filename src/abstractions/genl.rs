// SPDX-License-Identifier: GPL-2.0

//! Generic netlink.
//!
//! A [`Family`] is a static table of [`Operation`]s, each of which is a type that implements
//! [`Command`] and, if it can be dumped, [`DumpCommand`]. The core checks a request against the
//! policies of its command, strictly and whole, before the command sees it.
//!
//! C header: [`include/net/genetlink.h`](srctree/include/net/genetlink.h)

use super::{
    net::Net,
    netlink::{highest_type, Extack},
};
use crate::bindings;
use core::{marker::PhantomData, ptr::NonNull, slice};
use kernel::{
    bindings::GFP_KERNEL,
    error::to_result,
    prelude::*,
    sync::atomic::{Acquire, Atomic, Full, Release},
    types::Opaque,
};

pub use super::netlink::{may_log, Attribute, Attributes, Failure, Message, Policy};

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
        // The header has an aligned length.
        unsafe {
            let header = (*self.info.as_ptr()).genlhdr;
            let len = usize::try_from(bindings::genlmsg_len(header)).unwrap_or(0);
            let stream = slice::from_raw_parts(bindings::genlmsg_data(header).cast::<u8>(), len);
            Attributes::top_level(stream, self.extack())
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
        // SAFETY: By the type invariants. The core keeps it until the command has returned.
        unsafe { Extack::from_raw((*self.info.as_ptr()).extack) }
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

    // SAFETY: The header has just been added, and by the safety requirements.
    let result = fill(&mut unsafe { Message::from_raw(skb) });
    // SAFETY: `header` is that of the last message in the buffer.
    unsafe {
        match result {
            Ok(()) => bindings::genlmsg_end(raw, header),
            Err(_) => bindings::genlmsg_cancel(raw, header),
        }
    }
    result
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
