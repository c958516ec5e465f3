// SPDX-License-Identifier: GPL-2.0

//! How a TCP socket is given to an object and taken back, and what it calls in between.
//!
//! C headers: [`include/net/strparser.h`](srctree/include/net/strparser.h),
//! [`include/net/sock.h`](srctree/include/net/sock.h)

use super::{
    rcu::{Guard, RcuArc, RcuRef},
    skb::SkBuff,
    socket::{Kind, Locked, Sock, SockLock},
    softirq::LockBh,
    tcp::{
        schedule_flush, Connection, Failure, Stream, FLUSH, HEAD_LEN, PREFIX_LEN, PROCESS_QUEUE_MAX,
    },
    workqueue::DelayedWork,
};
use crate::bindings;
use core::{
    mem::ManuallyDrop,
    num::NonZero,
    ptr::{self, NonNull},
};
use kernel::{
    error::to_result,
    prelude::*,
    sync::atomic::{Acquire, Atomic, Full, Relaxed, Release},
};

/// The most bytes of messages that are taken as one.
const TRAIN_MAX: u32 = 1 << 16;

/// What the socket had before it was attached.
pub(super) struct Saved {
    data_ready: Option<unsafe extern "C" fn(*mut bindings::sock)>,
    write_space: Option<unsafe extern "C" fn(*mut bindings::sock)>,
    state_change: Option<unsafe extern "C" fn(*mut bindings::sock)>,
    prot: *mut bindings::proto,
    ops: *const bindings::proto_ops,
    nodelay: bool,
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
            // What is small is often awaited at the other end, whose answer brings the
            // acknowledgement: waiting for that would last until the next packet.
            nodelay: bindings::ovpn_shim_tcp_set_nodelay(sk, true),
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

/// Gives the socket back to its process alone, with what it has not read yet. Process context, the
/// socket is not locked; does nothing if it has been given back already.
pub fn detach<T: Stream>(sock: &Sock, stream: &T) {
    let sk = sock.as_raw();
    let connection = stream.connection();

    let data = {
        let lock = sock.lock();
        if !connection.attached.xchg(false, Full) {
            return;
        }
        finish_sending(connection, &lock);
        // SAFETY: The socket is locked, and was attached: what is undone here was done then.
        unsafe {
            let saved = connection.saved();
            bindings::strp_stop(connection.strparser.get());
            if !connection.closing.load(Relaxed) {
                put_back(connection, &lock);
            }
            bindings::ovpn_shim_sk_lock_callbacks(sk);
            (*sk).sk_data_ready = saved.data_ready;
            (*sk).sk_write_space = saved.write_space;
            (*sk).sk_state_change = saved.state_change;
            (*sk).__sk_common.skc_prot = saved.prot;
            if !(*sk).sk_socket.is_null() {
                (*(*sk).sk_socket).ops = saved.ops;
            }
            bindings::ovpn_shim_sk_unlock_callbacks(sk);
            bindings::ovpn_shim_tcp_set_nodelay(sk, saved.nodelay);
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
    connection.outgoing.lock_bh().clear();
    connection.incoming.clear();
    // SAFETY: The socket is valid, and has its own callback again, which wakes its readers.
    unsafe { bindings::ovpn_shim_sk_wake_readers(sk) };
}

/// Sends what the process has sent, and the rest of a message that was sent in part: the stream is
/// left as if the process had been alone with it. What the kernel would have sent is dropped.
fn finish_sending<T: Stream>(connection: &Connection<T>, lock: &SockLock<'_>) {
    let sk = lock.sock().as_raw();

    loop {
        let next = connection.outgoing.lock_bh().next_that_must();
        let Some((skb, offset)) = next else { break };
        // SAFETY: The socket is locked, and the offset is within the buffer.
        let sent = unsafe {
            if bindings::ovpn_shim_sk_is_shut_for_sending(sk) {
                break;
            }
            bindings::ovpn_shim_tcp_send_beyond_limit(sk, skb.as_raw(), offset as c_int)
        };
        if sent < 0 {
            break;
        }
        skb.consume();
    }
}

/// Makes what came and was not read what the process reads next.
fn put_back<T: Stream>(connection: &Connection<T>, lock: &SockLock<'_>) {
    let unread = |skb: SkBuff| {
        let raw = skb.into_raw();
        // SAFETY: The socket is locked, and the buffer is handed over, unless this fails.
        unsafe {
            if !bindings::ovpn_shim_tcp_unread(lock.sock().as_raw(), raw) {
                drop(NonNull::new(raw).map(|raw| SkBuff::from_raw(raw)));
            }
        }
    };

    if let Some(part) = incomplete_message(connection, lock) {
        unread(part);
    }
    loop {
        // SAFETY: The queue is valid, and what comes out is owned and on no list.
        let last = unsafe {
            NonNull::new(bindings::skb_dequeue_tail(connection.incoming.as_raw()))
                .map(|skb| SkBuff::from_raw(skb))
        };
        let Some(last) = last else { break };
        unread(last);
    }
}

/// A copy of what the parser has of a message that has not come completely.
fn incomplete_message<T: Stream>(
    connection: &Connection<T>,
    _lock: &SockLock<'_>,
) -> Option<SkBuff> {
    // SAFETY: The parser is initialised and stopped, and with the socket's lock held its message
    // stays; the parser's own data says where it is within the buffer.
    unsafe {
        let head = NonNull::new((*connection.strparser.get()).skb_head)?;
        let len = bindings::ovpn_shim_strp_accumulated(head.as_ptr());
        let offset = (*bindings::strp_msg(head.as_ptr())).offset as u32;
        let head = ManuallyDrop::new(SkBuff::from_raw(head));
        if len == 0 {
            None
        } else {
            head.copy_range(offset, len).ok()
        }
    }
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
        let mut outgoing = stream.connection().outgoing.lock_bh();
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
    strparser: *mut bindings::strparser,
    skb: *mut bindings::sk_buff,
) -> c_int {
    let mut prefix = [0; PREFIX_LEN];
    let Some(skb) = NonNull::new(skb) else {
        return EINVAL.to_errno();
    };
    // SAFETY: The parser gives a valid buffer with its own data in it; what is copied is within.
    let (available, offset) = unsafe {
        let raw = skb.as_ptr();
        let offset = (*bindings::strp_msg(raw)).offset;
        let available = (*raw)
            .len
            .saturating_sub(offset as u32)
            .min(PREFIX_LEN as u32);
        if bindings::skb_copy_bits(raw, offset, prefix.as_mut_ptr().cast(), available as c_int) != 0
        {
            return EINVAL.to_errno();
        }
        (available as usize, offset as u32)
    };
    match T::frame(prefix.get(..available).unwrap_or_default()) {
        Ok(None) => 0,
        Ok(Some(len)) => {
            // SAFETY: The buffer is valid while the parser calls this, and stays the parser's. Its
            // socket is valid.
            let (skb, most) = unsafe {
                let most = (&raw const (*(*strparser).sk).sk_rcvbuf).read_volatile();
                (ManuallyDrop::new(SkBuff::from_raw(skb)), most)
            };
            // What is longer than the receive buffer, the parser takes for a fault.
            let most = u32::try_from(most).unwrap_or(0).min(TRAIN_MAX);
            let len = train_len::<T>(&skb, offset, len, most).unwrap_or(len);
            c_int::try_from(len).unwrap_or(EMSGSIZE.to_errno())
        }
        Err(error) => error.to_errno(),
    }
}

/// The length of all messages that are there, begin like the first one, of `size` bytes, and are as
/// long, but not more than `most`; `None` if they do not make a train.
#[inline]
fn train_len<T: Stream>(skb: &SkBuff, offset: u32, size: u32, most: u32) -> Option<u32> {
    let rest = size.checked_sub(HEAD_LEN as u32)? as usize;
    let available = skb.len().checked_sub(offset)?.min(most);
    let mut reader = skb.reader(offset);
    let (mut first, mut next) = ([0; HEAD_LEN], [0; HEAD_LEN]);
    let mut len = size;

    reader.read(&mut first)?;
    if !T::is_for_train(&first) {
        return None;
    }
    while len.checked_add(size)? <= available {
        reader.skip(rest)?;
        reader.read(&mut next)?;
        if next != first {
            break;
        }
        len = len.checked_add(size)?;
    }
    Some(len)
}

/// The length of each message, if there are several.
#[inline]
fn train_size<T: Stream>(skb: &SkBuff, offset: u32, len: u32) -> Option<NonZero<u32>> {
    let mut prefix = [0; PREFIX_LEN];

    skb.reader(offset).read(&mut prefix)?;
    NonZero::new(T::frame(&prefix).ok()??).filter(|size| size.get() < len)
}

/// The first byte of the message that begins `offset` bytes into the buffer, behind its prefix.
fn first_byte(skb: &SkBuff, offset: u32) -> Option<u8> {
    let mut first = 0u8;
    let offset = c_int::try_from(offset)
        .ok()?
        .checked_add(PREFIX_LEN as c_int)?;
    // SAFETY: The buffer is valid, and one byte is copied, if it is within.
    let result =
        unsafe { bindings::skb_copy_bits(skb.as_raw(), offset, (&raw mut first).cast(), 1) };
    (result == 0).then_some(first)
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
    let (offset, len) = unsafe {
        let at = bindings::strp_msg(whole.as_raw());
        ((*at).offset as u32, (*at).full_len as u32)
    };
    if let Some(size) = train_size::<T>(&whole, offset, len) {
        stream.receive_train(&whole, offset, len, size, &guard);
        whole.consume();
        return;
    }
    let message = whole.copy_range(offset, len);
    let Ok(message) = message else {
        // A message of the process must not be lost: better lose the connection.
        let lost = first_byte(&whole, offset).is_some_and(|first| stream.can_lose(first, &guard));
        if !lost {
            if let Some(stream) = stream.to_arc() {
                T::failed(stream, Failure::Error);
            }
        }
        return;
    };
    whole.consume();
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
