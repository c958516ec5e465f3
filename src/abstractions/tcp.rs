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
    skb::SkBuff,
    skb_list::{SkBuffList, SkBuffQueue},
    socket::{Locked, Sock},
    softirq::{BhDisabled, LockBh},
    tcp_attach::Saved,
    tcp_overrides::Overrides,
    workqueue::{DelayedWork, Run, WorkClass},
};
use crate::bindings;
use core::{marker::PhantomData, num::NonZero};
use kernel::{
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Relaxed},
        SpinLock,
    },
    time::msecs_to_jiffies,
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
/// How much of the beginnings of messages is the same in a train.
pub const HEAD_LEN: usize = PREFIX_LEN + 4;

/// Packets that may wait for the connection to take them, but for the rest of a train. More than a
/// full send buffer holds only makes the wait longer.
const QUEUE_MAX: u32 = 1024;
/// Messages of the process that may wait to be sent, and to be read by it.
pub(super) const PROCESS_QUEUE_MAX: u32 = 64;
/// How many messages are sent before the socket's lock is given up for a moment, as what arrives
/// meanwhile has a limited place to wait in.
const BURST: u32 = 32;
/// How many milliseconds after there was no memory to send the next try is.
const RETRY_MS: u32 = 10;

/// An object that a TCP connection is given to.
pub trait Stream: Run<FLUSH> {
    /// Its connection.
    fn connection(&self) -> &Connection<Self>;

    /// Its socket.
    fn sock(&self) -> &Sock;

    /// What sockets with such an object have in place of their own operations.
    fn overrides() -> &'static Overrides<Self>;

    /// The length of the message whose first bytes are `available`, with its prefix; `None` if
    /// more bytes are needed to tell. An error ends the connection.
    fn frame(available: &[u8]) -> Result<Option<u32>>;

    /// Whether messages that all begin like this, prefix included, are taken as one train.
    fn is_for_train(head: &[u8; HEAD_LEN]) -> bool;

    /// Several messages came, `len` bytes from `offset` on, each `size` bytes long with its prefix, and
    /// all with a beginning [for a train](Self::is_for_train). Under RCU, the socket is locked; softirq
    /// or process context.
    fn receive_train(
        &self,
        train: &SkBuff,
        offset: u32,
        len: u32,
        size: NonZero<u32>,
        guard: &Guard,
    );

    /// A message came, with its prefix. Under RCU, the socket is locked; softirq or process
    /// context. Returns it if it is for the process.
    fn receive(&self, message: SkBuff, guard: &Guard) -> Option<SkBuff>;

    /// There was no memory for a message whose first byte is `first`. Whether it can be done without:
    /// that one is then counted as lost. Under RCU, the socket is locked.
    fn can_lose(&self, first: u8, guard: &Guard) -> bool;

    /// The connection failed. May be called more than once, in any context.
    fn failed(this: RcuArc<Self>, failure: Failure);

    /// The process closed the socket: [`detach`](super::tcp_attach::detach) it. Process context,
    /// the socket is not locked.
    fn closed(this: RcuArc<Self>);
}

/// The number of the work item that sends.
pub const FLUSH: u64 = 1;
static FLUSHING: WorkClass = WorkClass::new();

/// What waits to be sent.
pub(super) struct Outgoing {
    /// The message that has been sent in part, and how many bytes of it.
    current: Option<(SkBuff, u32)>,
    /// Messages of the process, which go first.
    process: SkBuffList,
    process_len: u32,
    /// Messages of the kernel, and of how many packets they are.
    kernel: SkBuffList,
    kernel_len: u32,
    /// The work item will run and look here again.
    pub(super) scheduled: bool,
}

impl Outgoing {
    fn next(&mut self) -> Option<(SkBuff, u32)> {
        if let Some(next) = self.next_that_must() {
            return Some(next);
        }
        let skb = self.kernel.pop()?;
        self.kernel_len = self.kernel_len.saturating_sub(skb.weight().packets);
        Some((skb, 0))
    }

    /// What must be sent whatever happens: the rest of a message, and messages of the process.
    pub(super) fn next_that_must(&mut self) -> Option<(SkBuff, u32)> {
        if let Some(current) = self.current.take() {
            return Some(current);
        }
        let skb = self.process.pop()?;
        self.process_len = self.process_len.saturating_sub(1);
        Some((skb, 0))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.current.is_none() && self.process_len == 0 && self.kernel_len == 0
    }

    pub(super) fn clear(&mut self) {
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
    pub(super) strparser: Opaque<bindings::strparser>,
    pub(super) saved: Opaque<Saved>,
    #[pin]
    pub(super) outgoing: SpinLock<Outgoing>,
    /// Messages for the process to read.
    #[pin]
    pub(super) incoming: SkBuffQueue,
    pub(super) attached: Atomic<bool>,
    /// The stream is stopped, as the process does not read.
    pub(super) paused: Atomic<bool>,
    /// The process is closing the socket.
    pub(super) closing: Atomic<bool>,
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
            closing: Atomic::new(false),
            flush <- DelayedWork::new(&FLUSHING),
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
        self.outgoing.lock_bh().process_len < PROCESS_QUEUE_MAX
    }

    /// # Safety
    ///
    /// A socket must be attached.
    pub(super) unsafe fn saved(&self) -> &Saved {
        // SAFETY: By the type invariants and the safety requirement.
        unsafe { &*self.saved.get() }
    }

    /// The process will not read any more.
    pub(super) fn set_closing(&self) {
        self.closing.store(true, Relaxed);
    }

    /// Sees to it that all messages that have come are in `incoming`. Process context, the socket
    /// is not locked.
    pub(super) fn finish_parsing(&self, sock: &Sock) {
        // What has come is being taken in with the lock held, or is left to the work item, also if
        // the stream has just been resumed.
        drop(sock.lock());
        // SAFETY: The parser has been initialised, and is not freed before its work is done.
        unsafe { bindings::ovpn_shim_strp_finish_work(self.strparser.get()) };
    }

    /// The process has read a message: if the stream was stopped, it may go on. Process context,
    /// the socket is not locked.
    pub(super) fn resume(&self, sock: &Sock) {
        if !self.paused.load(Relaxed) || self.incoming.len() > PROCESS_QUEUE_MAX / 2 {
            return;
        }
        let _lock = sock.lock();
        if self.is_attached() {
            self.paused.store(false, Relaxed);
            // SAFETY: With the socket's lock held it is not given back, so the parser is
            // initialised.
            unsafe { bindings::strp_unpause(self.strparser.get()) };
        }
    }
}

/// Puts a message of the kernel, with its prefix, into the stream.
///
/// Softirq context or bottom halves disabled; does not wait: the message is sent when the
/// connection takes it. Fails with `ENOMEM` if too many wait already.
pub fn send<T: Stream>(this: RcuRef<'_, T>, mut message: SkBuff, bh: &BhDisabled) -> Result {
    // It may wait for long.
    message.scrub();
    let schedule = {
        let mut outgoing = this.connection().outgoing.lock();
        if outgoing.kernel_len >= QUEUE_MAX {
            return Err(ENOMEM);
        }
        outgoing.kernel_len = outgoing.kernel_len.wrapping_add(message.weight().packets);
        outgoing.kernel.push(message);
        !core::mem::replace(&mut outgoing.scheduled, true)
    };
    if !schedule {
        return Ok(());
    }
    match flush_idle(this.get(), bh) {
        Some(Flushed::Done) => wake_senders(this.sock()),
        Some(flushed) => {
            if let Some(this) = this.to_arc() {
                go_on(&this, flushed);
            }
        }
        None => schedule_flush(this, true),
    }
    Ok(())
}

/// Sends now what waits, if the connection is idle: whoever waits for the answer has it sooner.
/// While something is on its way, the work item puts what comes meanwhile into full segments.
fn flush_idle<T: Stream>(this: &T, bh: &BhDisabled) -> Option<Flushed> {
    // Tunnels over TCP within each other would pile up on one stack.
    // SAFETY: Bottom halves are disabled.
    if unsafe { bindings::ovpn_shim_xmit_is_nested() } {
        return None;
    }
    let lock = this.sock().try_lock(bh)?;
    // SAFETY: The socket is valid, and locked.
    let idle = unsafe { bindings::ovpn_shim_tcp_is_idle(lock.sock().as_raw()) };
    idle.then(|| flush_burst(this.connection(), &lock))
}

/// The socket has been given back to its process alone.
pub(super) struct Detached;

/// Puts a message of the process into the stream, before those of the kernel that wait. Process
/// context, the socket is not locked.
pub(super) fn send_for_process<T: Stream>(
    this: &RcuArc<T>,
    message: SkBuff,
) -> Result<(), Detached> {
    let connection = this.connection();
    let flushed = {
        let lock = this.sock().lock();
        if !connection.is_attached() {
            return Err(Detached);
        }
        {
            let mut outgoing = connection.outgoing.lock_bh();
            outgoing.process.push(message);
            outgoing.process_len = outgoing.process_len.wrapping_add(1);
        }
        // Now, so that it is sent before whatever the process does next: it may close the socket.
        flush_burst(connection, &lock)
    };
    go_on(this, flushed);
    Ok(())
}

/// Sees to it that what is left will be sent. Any context.
fn go_on<T: Stream>(this: &RcuArc<T>, flushed: Flushed) {
    match flushed {
        Flushed::Burst => DelayedWork::<T, FLUSH>::schedule(this, 0),
        Flushed::NoMemory => DelayedWork::<T, FLUSH>::schedule(this, msecs_to_jiffies(RETRY_MS)),
        Flushed::Done => {}
        Flushed::Failed => T::failed(this.clone(), Failure::Error),
    }
}

pub(super) fn schedule_flush<T: Stream>(this: RcuRef<'_, T>, schedule: bool) {
    if schedule {
        if let Some(this) = this.to_arc() {
            DelayedWork::<T, FLUSH>::schedule(&this, 0);
        }
    }
}

/// Sends what waits, until it is done or the send buffer is full. For [`Run::run`].
pub fn flush<T: Stream>(this: &RcuArc<T>) {
    let sock = this.sock();

    loop {
        let flushed = flush_burst(this.connection(), &sock.lock());
        if !matches!(flushed, Flushed::Burst) {
            go_on(this, flushed);
            break;
        }
    }
    wake_senders(sock);
}

enum Flushed {
    /// There may be more.
    Burst,
    /// Nothing is left that the connection takes.
    Done,
    /// There is more, and no news will come when it can be sent.
    NoMemory,
    /// The connection is broken.
    Failed,
}

/// The socket of the connection is locked.
fn flush_burst<T: Stream>(connection: &Connection<T>, lock: &impl Locked) -> Flushed {
    for _ in 0..BURST {
        let (next, more) = {
            let mut outgoing = connection.outgoing.lock_bh();
            let next = connection.is_attached().then(|| outgoing.next()).flatten();
            if next.is_none() {
                outgoing.scheduled = false;
            }
            (next, !outgoing.is_empty())
        };
        let Some((skb, offset)) = next else {
            return Flushed::Done;
        };
        let left = skb.len().saturating_sub(offset);
        // Small messages share a segment with those that wait behind them.
        let flags = bindings::MSG_NOSIGNAL | if more { bindings::MSG_MORE } else { 0 };
        // SAFETY: The socket is locked, and the range is within the buffer.
        let sent = unsafe {
            bindings::skb_send_sock_locked_with_flags(
                lock.sock().as_raw(),
                skb.as_raw(),
                offset as c_int,
                left as c_int,
                flags as c_int,
            )
        };
        match u32::try_from(sent) {
            Ok(sent) if sent >= left => skb.consume(),
            Ok(sent) => {
                connection.outgoing.lock_bh().current = Some((skb, offset.saturating_add(sent)));
            }
            Err(_) if sent == EAGAIN.to_errno() => {
                // The socket's lock is held: the news of free space comes after this. With nothing
                // on its way there is space, and will be no news.
                // SAFETY: The socket is valid, and locked.
                let idle = unsafe { bindings::ovpn_shim_tcp_is_idle(lock.sock().as_raw()) };
                let mut outgoing = connection.outgoing.lock_bh();
                outgoing.current = Some((skb, offset));
                outgoing.scheduled = idle;
                return if idle {
                    Flushed::NoMemory
                } else {
                    Flushed::Done
                };
            }
            Err(_) => {
                // `scheduled` stays set: nothing is tried again.
                connection.outgoing.lock_bh().clear();
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
