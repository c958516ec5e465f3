// SPDX-License-Identifier: GPL-2.0

//! TCP sockets whose stream the kernel shares with a process.
//!
//! The kernel cuts the stream into messages and takes some for itself; the rest reaches the
//! process by its own socket calls. What both send is put into the stream message by message.
//!
//! C headers: [`include/net/strparser.h`](srctree/include/net/strparser.h),
//! [`include/net/sock.h`](srctree/include/net/sock.h)

use super::{
    rcu::{Guard, RcuArc, RcuRef},
    skb::{SkBuff, SkBuffList, SkBuffQueue},
    socket::{Kind, Sock, SockLock},
    softirq::BhDisabled,
    tcp_overrides::Overrides,
    workqueue::{DelayedWork, Run},
};
use crate::bindings;
use core::{
    marker::PhantomData,
    ptr::{self, NonNull},
};
use kernel::{
    error::to_result,
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Relaxed, Release},
        SpinLock,
    },
    types::Opaque,
};

/// Why a connection can not go on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The stream makes no sense, or sending failed.
    Error,
    /// The other end has closed or reset it.
    Disconnected,
}

/// How much of a message's beginning tells its length.
pub const PREFIX_LEN: usize = 2;

/// Messages that may wait for the connection to take them. More than a full send buffer holds
/// only makes the wait longer.
const QUEUE_MAX: u32 = 1024;
/// Messages of the process that may wait to be sent, and to be read by it.
const PROCESS_QUEUE_MAX: u32 = 64;
/// How many messages are sent before the socket's lock is given up for a moment, as what arrives
/// meanwhile has a limited place to wait in.
const BURST: u32 = 32;

/// An object that a TCP connection is given to.
pub trait Stream: Run<FLUSH> {
    /// Its connection.
    fn connection(&self) -> &Connection<Self>;

    /// What sockets with such an object have in place of their own operations.
    fn overrides() -> &'static Overrides<Self>;

    /// The length of the message whose first bytes are `available`, with its prefix; `None` if
    /// more bytes are needed to tell. An error ends the connection.
    fn frame(available: &[u8]) -> Result<Option<u32>>;

    /// A message came, with its prefix. Under RCU, the socket is locked; softirq or process
    /// context. Returns it if it is for the process.
    fn receive(&self, message: SkBuff, guard: &Guard) -> Option<SkBuff>;

    /// The connection failed. May be called more than once, in any context.
    fn failed(this: RcuArc<Self>, failure: Failure);

    /// The process closed the socket: [`detach`] it. Process context, the socket is not locked.
    fn closed(this: RcuArc<Self>);
}

/// The number of the work item that sends.
pub const FLUSH: u64 = 1;

/// What the socket had before it was attached.
pub(super) struct Saved {
    data_ready: Option<unsafe extern "C" fn(*mut bindings::sock)>,
    write_space: Option<unsafe extern "C" fn(*mut bindings::sock)>,
    state_change: Option<unsafe extern "C" fn(*mut bindings::sock)>,
    prot: *mut bindings::proto,
    pub(super) ops: *const bindings::proto_ops,
}

/// What waits to be sent.
struct Outgoing {
    /// The message that has been sent in part, and how many bytes of it.
    current: Option<(SkBuff, u32)>,
    /// Messages of the process, which go first.
    process: SkBuffList,
    process_len: u32,
    /// Messages of the kernel.
    kernel: SkBuffList,
    kernel_len: u32,
    /// The work item will run and look here again.
    scheduled: bool,
}

impl Outgoing {
    fn next(&mut self) -> Option<(SkBuff, u32)> {
        if let Some(current) = self.current.take() {
            return Some(current);
        }
        if let Some(skb) = self.process.pop() {
            self.process_len = self.process_len.saturating_sub(1);
            return Some((skb, 0));
        }
        let skb = self.kernel.pop()?;
        self.kernel_len = self.kernel_len.saturating_sub(1);
        Some((skb, 0))
    }

    fn is_empty(&self) -> bool {
        self.current.is_none() && self.process_len == 0 && self.kernel_len == 0
    }

    fn clear(&mut self) {
        while self.next().is_some() {}
    }
}

/// The connection inside an object.
///
/// # Invariants
///
/// While a socket is attached, `strparser` is initialised for it and `saved` holds what it had;
/// neither changes before it has been detached.
#[pin_data]
pub struct Connection<T> {
    #[pin]
    strparser: Opaque<bindings::strparser>,
    saved: Opaque<Saved>,
    #[pin]
    outgoing: SpinLock<Outgoing>,
    /// Messages for the process to read.
    #[pin]
    pub(super) incoming: SkBuffQueue,
    attached: Atomic<bool>,
    /// The stream is stopped, as the process does not read.
    paused: Atomic<bool>,
    #[pin]
    flush: DelayedWork<T, FLUSH>,
    _owner: PhantomData<T>,
}

// SAFETY: The parser is used under the socket's lock; the rest locks for itself.
unsafe impl<T: Send + Sync> Send for Connection<T> {}
// SAFETY: As above; `saved` is only read while it can be found.
unsafe impl<T: Send + Sync> Sync for Connection<T> {}

impl<T: Stream> Connection<T> {
    /// No connection yet.
    pub fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            strparser: Opaque::uninit(),
            saved: Opaque::uninit(),
            outgoing <- new_spinlock!(Outgoing {
                current: None,
                process: SkBuffList::new(),
                process_len: 0,
                kernel: SkBuffList::new(),
                kernel_len: 0,
                scheduled: false,
            }),
            incoming <- SkBuffQueue::new(),
            attached: Atomic::new(false),
            paused: Atomic::new(false),
            flush <- DelayedWork::new(),
            _owner: PhantomData,
        })
    }

    /// The work item for [`Run::work`].
    pub fn work(&self) -> &DelayedWork<T, FLUSH> {
        &self.flush
    }

    pub(super) fn is_attached(&self) -> bool {
        self.attached.load(Acquire)
    }

    /// Whether something waits for the process to read it.
    pub fn has_incoming(&self) -> bool {
        !self.incoming.is_empty()
    }

    /// Whether the process may send another message now.
    pub(super) fn takes_process_message(&self) -> bool {
        let _bh = BhDisabled::new();
        self.outgoing.lock().process_len < PROCESS_QUEUE_MAX
    }

    /// # Safety
    ///
    /// A socket must be attached.
    pub(super) unsafe fn saved(&self) -> &Saved {
        // SAFETY: By the type invariants and the safety requirement.
        unsafe { &*self.saved.get() }
    }

    /// The process has read a message: if the stream was stopped, it may go on. Process context,
    /// the socket is not locked.
    ///
    /// # Safety
    ///
    /// `sk` must be the socket of the connection.
    pub(super) unsafe fn resume(&self, sk: *mut bindings::sock) {
        if !self.paused.load(Relaxed) || self.incoming.len() > PROCESS_QUEUE_MAX / 2 {
            return;
        }
        // SAFETY: The socket is valid. With its lock held it is not given back, so the parser is
        // initialised if it is attached.
        unsafe {
            bindings::lock_sock_nested(sk, 0);
            if self.is_attached() {
                self.paused.store(false, Relaxed);
                bindings::strp_unpause(self.strparser.get());
            }
            bindings::release_sock(sk);
        }
    }
}

/// Puts a message of the kernel, with its prefix, into the stream.
///
/// Softirq context or bottom halves disabled; does not wait: the message is sent when the
/// connection takes it. Fails with `ENOMEM` if too many wait already.
pub fn send<T: Stream>(this: RcuRef<'_, T>, message: SkBuff, _bh: &BhDisabled) -> Result {
    let schedule = {
        let mut outgoing = this.connection().outgoing.lock();
        if outgoing.kernel_len >= QUEUE_MAX {
            return Err(ENOMEM);
        }
        outgoing.kernel.push(message);
        outgoing.kernel_len = outgoing.kernel_len.wrapping_add(1);
        !core::mem::replace(&mut outgoing.scheduled, true)
    };
    schedule_flush(this, schedule);
    Ok(())
}

/// Puts a message of the process into the stream, before those of the kernel that wait.
pub(super) fn send_for_process<T: Stream>(this: &RcuArc<T>, message: SkBuff) {
    let schedule = {
        let _bh = BhDisabled::new();
        let mut outgoing = this.connection().outgoing.lock();
        outgoing.process.push(message);
        outgoing.process_len = outgoing.process_len.wrapping_add(1);
        !core::mem::replace(&mut outgoing.scheduled, true)
    };
    if schedule {
        DelayedWork::<T, FLUSH>::schedule(this, 0);
    }
}

fn schedule_flush<T: Stream>(this: RcuRef<'_, T>, schedule: bool) {
    if schedule {
        if let Some(this) = this.to_arc() {
            DelayedWork::<T, FLUSH>::schedule(&this, 0);
        }
    }
}

/// Sends what waits, until it is done or the send buffer is full. For [`Run::run`].
pub fn flush<T: Stream>(this: &RcuArc<T>, sock: &Sock) {
    loop {
        let lock = sock.lock();
        match flush_burst(this.connection(), &lock) {
            Flushed::Burst => {}
            Flushed::Done => break,
            Flushed::Failed => {
                drop(lock);
                T::failed(this.clone(), Failure::Error);
                break;
            }
        }
    }
    wake_senders(sock);
}

enum Flushed {
    /// There may be more.
    Burst,
    /// Nothing is left that the connection takes.
    Done,
    /// The connection is broken.
    Failed,
}

fn flush_burst<T: Stream>(connection: &Connection<T>, lock: &SockLock<'_>) -> Flushed {
    for _ in 0..BURST {
        let next = {
            let _bh = BhDisabled::new();
            let mut outgoing = connection.outgoing.lock();
            let next = outgoing.next();
            if next.is_none() || !connection.is_attached() {
                outgoing.scheduled = false;
                return Flushed::Done;
            }
            next
        };
        let Some((skb, offset)) = next else {
            return Flushed::Done;
        };
        let left = skb.len().saturating_sub(offset);
        // SAFETY: The socket is locked, and the range is within the buffer.
        let sent = unsafe {
            bindings::skb_send_sock_locked(
                lock.sock().as_raw(),
                skb.as_raw(),
                offset as c_int,
                left as c_int,
            )
        };
        match u32::try_from(sent) {
            Ok(sent) if sent >= left => skb.consume(),
            Ok(sent) => {
                let _bh = BhDisabled::new();
                connection.outgoing.lock().current = Some((skb, offset.saturating_add(sent)));
            }
            Err(_) if sent == EAGAIN.to_errno() => {
                // The socket's lock is held: the news of free space comes after this.
                let _bh = BhDisabled::new();
                let mut outgoing = connection.outgoing.lock();
                outgoing.current = Some((skb, offset));
                outgoing.scheduled = false;
                return Flushed::Done;
            }
            Err(_) => {
                // `scheduled` stays set: nothing is tried again.
                let _bh = BhDisabled::new();
                connection.outgoing.lock().clear();
                return Flushed::Failed;
            }
        }
    }
    Flushed::Burst
}

/// Wakes a process that waits for [`Connection::takes_process_message`].
fn wake_senders(sock: &Sock) {
    // SAFETY: The socket is valid.
    unsafe { bindings::ovpn_shim_sk_wake_senders(sock.as_raw()) };
}

/// Gives the connection of a socket to `stream`.
///
/// Process context. Fails with `EINVAL` if it is not an ESTABLISHED TCP connection, with `EBUSY`
/// if somebody in the kernel has it, such as TLS.
pub fn attach<T: Stream>(lock: &SockLock<'_>, stream: &RcuArc<T>) -> Result {
    let sock = lock.sock();
    let sk = sock.as_raw();

    if sock.kind() != Kind::Tcp || !sock.is_established() {
        return Err(EINVAL);
    }
    // SAFETY: The socket is locked and open, so it has its `struct socket`.
    unsafe {
        let prot = (*sk).__sk_common.skc_prot;
        let table = T::overrides().table_for(prot).ok_or(EBUSY)?;
        if !(*sk).sk_user_data.is_null() || (*sk).sk_socket.is_null() {
            return Err(EBUSY);
        }

        let connection = stream.connection();
        let callbacks = bindings::strp_callbacks {
            parse_msg: Some(parse::<T>),
            rcv_msg: Some(received::<T>),
            abort_parser: Some(aborted::<T>),
            ..Default::default()
        };
        to_result(bindings::strp_init(
            connection.strparser.get(),
            sk,
            &callbacks,
        ))?;
        connection.saved.get().write(Saved {
            data_ready: (*sk).sk_data_ready,
            write_space: (*sk).sk_write_space,
            state_change: (*sk).sk_state_change,
            prot,
            ops: (*(*sk).sk_socket).ops,
        });
        // INVARIANT: The parser is initialised and the old state saved.
        connection.attached.store(true, Release);

        let data = RcuArc::into_raw(stream.clone());
        user_data_of(sk).store(data.as_ptr().cast(), Release);
        bindings::ovpn_shim_sk_lock_callbacks(sk);
        (*sk).sk_data_ready = Some(data_ready::<T>);
        (*sk).sk_write_space = Some(write_space::<T>);
        (*sk).sk_state_change = Some(state_change::<T>);
        (*sk).__sk_common.skc_prot = table.prot();
        (*(*sk).sk_socket).ops = table.ops();
        bindings::ovpn_shim_sk_unlock_callbacks(sk);

        // What came before the callbacks were there.
        bindings::strp_check_rcv(connection.strparser.get());
    }
    Ok(())
}

/// Gives the socket back to its process alone. Process context, the socket is not locked; does
/// nothing if it has been given back already.
pub fn detach<T: Stream>(sock: &Sock, stream: &T) {
    let sk = sock.as_raw();
    let connection = stream.connection();

    let data = {
        let _lock = sock.lock();
        if !connection.attached.xchg(false, Full) {
            return;
        }
        // SAFETY: The socket is locked, and was attached: what is undone here was done then.
        unsafe {
            let saved = connection.saved();
            bindings::strp_stop(connection.strparser.get());
            bindings::ovpn_shim_sk_lock_callbacks(sk);
            (*sk).sk_data_ready = saved.data_ready;
            (*sk).sk_write_space = saved.write_space;
            (*sk).sk_state_change = saved.state_change;
            (*sk).__sk_common.skc_prot = saved.prot;
            if !(*sk).sk_socket.is_null() {
                (*(*sk).sk_socket).ops = saved.ops;
            }
            bindings::ovpn_shim_sk_unlock_callbacks(sk);
            user_data_of(sk).xchg(ptr::null_mut(), Full)
        }
    };
    // SAFETY: The parser has been stopped, and the socket is not locked.
    unsafe { bindings::strp_done(connection.strparser.get()) };
    // SAFETY: `attach` put a reference there, which has been taken out.
    let owner = NonNull::new(data.cast::<T>()).map(|data| unsafe { RcuArc::from_raw(data) });
    if let Some(owner) = &owner {
        DelayedWork::<T, FLUSH>::cancel(owner);
    }
    {
        let _bh = BhDisabled::new();
        connection.outgoing.lock().clear();
    }
    connection.incoming.clear();
    // SAFETY: The socket is valid, and has its own callback again, which wakes its readers.
    unsafe { bindings::ovpn_shim_sk_wake_readers(sk) };
}

/// `sk_user_data`.
///
/// # Safety
///
/// `sk` must be valid for as long as the result is used.
unsafe fn user_data_of<'a>(sk: *mut bindings::sock) -> &'a Atomic<*mut c_void> {
    // SAFETY: By the safety requirement; all accesses to the field are atomic.
    unsafe { Atomic::from_ptr(&raw mut (*sk).sk_user_data) }
}

/// The object that a socket has been given to.
///
/// # Safety
///
/// `sk` must be a TCP socket.
pub(super) unsafe fn stream_of<T: Stream>(
    sk: *mut bindings::sock,
    guard: &Guard,
) -> Option<RcuRef<'_, T>> {
    // SAFETY: By the safety requirement. The data is ours while the operations are: whoever
    // takes the socket after us finds them gone.
    unsafe {
        let prot: *const *mut bindings::proto = &raw const (*sk).__sk_common.skc_prot;
        if !T::overrides().has(prot.read_volatile()) {
            return None;
        }
        let data = user_data_of(sk).load(Acquire);
        if !T::overrides().has(prot.read_volatile()) {
            return None;
        }
        NonNull::new(data.cast::<T>()).map(|data| RcuRef::new(data, guard))
    }
}

extern "C" fn data_ready<T: Stream>(sk: *mut bindings::sock) {
    let guard = Guard::new();
    // SAFETY: Called for a TCP socket, locked for bottom halves; found under RCU.
    unsafe {
        if let Some(stream) = stream_of::<T>(sk, &guard) {
            bindings::strp_data_ready(stream.connection().strparser.get());
        }
    }
}

extern "C" fn write_space<T: Stream>(sk: *mut bindings::sock) {
    let guard = Guard::new();
    // SAFETY: As in `data_ready`.
    let Some(stream) = (unsafe { stream_of::<T>(sk, &guard) }) else {
        return;
    };
    let schedule = {
        let _bh = BhDisabled::new();
        let mut outgoing = stream.connection().outgoing.lock();
        !outgoing.is_empty() && !core::mem::replace(&mut outgoing.scheduled, true)
    };
    schedule_flush(stream, schedule);
    // SAFETY: The connection has been attached, and is not freed under the guard.
    if let Some(original) = unsafe { stream.connection().saved() }.write_space {
        // SAFETY: This is what the socket would call itself.
        unsafe { original(sk) };
    }
}

extern "C" fn state_change<T: Stream>(sk: *mut bindings::sock) {
    let guard = Guard::new();
    // SAFETY: As in `data_ready`.
    let Some(stream) = (unsafe { stream_of::<T>(sk, &guard) }) else {
        return;
    };
    // SAFETY: As in `write_space`.
    unsafe {
        if let Some(original) = stream.connection().saved().state_change {
            original(sk);
        }
        if bindings::ovpn_shim_sk_is_disconnected(sk) {
            if let Some(stream) = stream.to_arc() {
                T::failed(stream, Failure::Disconnected);
            }
        }
    }
}

extern "C" fn parse<T: Stream>(
    _strparser: *mut bindings::strparser,
    skb: *mut bindings::sk_buff,
) -> c_int {
    let mut prefix = [0; PREFIX_LEN];
    // SAFETY: The parser gives a valid buffer with its own data in it; what is copied is within.
    let available = unsafe {
        let offset = (*bindings::strp_msg(skb)).offset;
        let available = (*skb)
            .len
            .saturating_sub(offset as u32)
            .min(PREFIX_LEN as u32);
        if bindings::skb_copy_bits(skb, offset, prefix.as_mut_ptr().cast(), available as c_int) != 0
        {
            return EINVAL.to_errno();
        }
        available as usize
    };
    match T::frame(prefix.get(..available).unwrap_or_default()) {
        Ok(None) => 0,
        Ok(Some(len)) => c_int::try_from(len).unwrap_or(EMSGSIZE.to_errno()),
        Err(error) => error.to_errno(),
    }
}

extern "C" fn received<T: Stream>(
    strparser: *mut bindings::strparser,
    skb: *mut bindings::sk_buff,
) {
    let guard = Guard::new();
    // SAFETY: The parser hands the buffer over; it runs under the lock of its socket.
    let (sk, whole, stream) = unsafe {
        let Some(skb) = NonNull::new(skb) else { return };
        let sk = (*strparser).sk;
        (sk, SkBuff::from_raw(skb), stream_of::<T>(sk, &guard))
    };
    let Some(stream) = stream else { return };

    // SAFETY: The parser's own data says where the message is, within the buffer.
    let message = unsafe {
        let at = bindings::strp_msg(whole.as_raw());
        whole.copy_range((*at).offset as u32, (*at).full_len as u32)
    };
    whole.consume();
    let Ok(message) = message else {
        // A message of the process must not be lost: better lose the connection.
        if let Some(stream) = stream.to_arc() {
            T::failed(stream, Failure::Error);
        }
        return;
    };
    let Some(message) = stream.receive(message, &guard) else {
        return;
    };
    let connection = stream.connection();
    connection.incoming.push(message);
    // SAFETY: The socket is locked, and attached.
    unsafe {
        if connection.incoming.len() >= PROCESS_QUEUE_MAX {
            // The stream stops, and with it the sender, until the process has read.
            connection.paused.store(true, Relaxed);
            bindings::ovpn_shim_strp_pause(strparser);
        }
        if let Some(original) = connection.saved().data_ready {
            original(sk);
        }
    }
}

extern "C" fn aborted<T: Stream>(strparser: *mut bindings::strparser, _error: c_int) {
    let guard = Guard::new();
    // SAFETY: The parser runs under the lock of its socket. What it has cut so far stays; it
    // takes no more.
    unsafe {
        (*strparser).stopped = 1;
        if let Some(stream) = stream_of::<T>((*strparser).sk, &guard).and_then(RcuRef::to_arc) {
            T::failed(stream, Failure::Error);
        }
    }
}
