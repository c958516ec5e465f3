// SPDX-License-Identifier: GPL-2.0

//! The socket operations of a TCP connection that the kernel shares with a process.
//!
//! C headers: [`include/net/sock.h`](srctree/include/net/sock.h),
//! [`include/linux/net.h`](srctree/include/linux/net.h)

use super::{
    errno,
    rcu::{Guard, RcuArc, RcuRef},
    skb::SkBuff,
    tcp::{self, Stream},
    tcp_attach,
};
use crate::bindings;
use core::{marker::PhantomData, mem::MaybeUninit, ptr};
use kernel::{prelude::*, types::Opaque};

/// The two sets of operations that a socket has.
pub(super) struct Table {
    prot: MaybeUninit<bindings::proto>,
    ops: MaybeUninit<bindings::proto_ops>,
}

/// What sockets given to a `T` have in place of TCP's operations, in a static.
///
/// They are static, as a call may be on its way into them while the socket gets its own back.
pub struct Overrides<T> {
    ipv4: Opaque<Table>,
    ipv6: Opaque<Table>,
    _stream: PhantomData<T>,
}

// SAFETY: The tables are written once, by `fill`, before any socket has them.
unsafe impl<T> Sync for Overrides<T> {}

/// One table of a filled [`Overrides`].
#[derive(Clone, Copy)]
pub(super) struct Chosen(*mut Table);

impl Chosen {
    pub(super) fn prot(self) -> *mut bindings::proto {
        // SAFETY: The table is static.
        unsafe { (*self.0).prot.as_mut_ptr() }
    }

    pub(super) fn ops(self) -> *const bindings::proto_ops {
        // SAFETY: The table is static.
        unsafe { (*self.0).ops.as_ptr() }
    }
}

impl<T: Stream> Overrides<T> {
    /// Tables that are not filled yet.
    pub const fn new() -> Self {
        Self {
            ipv4: Opaque::uninit(),
            ipv6: Opaque::uninit(),
            _stream: PhantomData,
        }
    }

    /// Copies TCP's operations and replaces some. Called once, before any socket is attached.
    pub fn fill(&'static self) {
        // SAFETY: Nobody uses the tables yet, and the originals are constants of the kernel.
        unsafe {
            Self::fill_table(
                self.ipv4.get(),
                &raw const bindings::tcp_prot,
                &raw const bindings::inet_stream_ops,
            );
            Self::fill_table(
                self.ipv6.get(),
                &raw const bindings::tcpv6_prot,
                &raw const bindings::inet6_stream_ops,
            );
        }
    }

    /// # Safety
    ///
    /// `table` must be valid for writing, the others for reading.
    unsafe fn fill_table(
        table: *mut Table,
        prot: *const bindings::proto,
        ops: *const bindings::proto_ops,
    ) {
        // SAFETY: By the safety requirement.
        unsafe {
            let to = (*table).prot.as_mut_ptr();
            ptr::copy_nonoverlapping(prot, to, 1);
            (*to).recvmsg = Some(recvmsg::<T>);
            (*to).sendmsg = Some(sendmsg::<T>);
            (*to).close = Some(close::<T>);
            (*to).disconnect = Some(disconnect);

            let to = (*table).ops.as_mut_ptr();
            ptr::copy_nonoverlapping(ops, to, 1);
            (*to).poll = Some(poll::<T>);
            // It would take messages of the kernel out of the stream.
            (*to).splice_read = None;
            (*to).peek_len = Some(peek_len);
        }
    }

    /// The table for a socket whose operations are `prot`, if they are TCP's own.
    pub(super) fn table_for(&'static self, prot: *mut bindings::proto) -> Option<Chosen> {
        if ptr::eq(prot, &raw const bindings::tcp_prot) {
            Some(Chosen(self.ipv4.get()))
        } else if ptr::eq(prot, &raw const bindings::tcpv6_prot) {
            Some(Chosen(self.ipv6.get()))
        } else {
            None
        }
    }

    /// Whether `prot` is of one of the tables.
    #[inline]
    pub(super) fn has(&'static self, prot: *mut bindings::proto) -> bool {
        ptr::eq(prot, Chosen(self.ipv4.get()).prot())
            || ptr::eq(prot, Chosen(self.ipv6.get()).prot())
    }
}

/// The object that a socket has been given to, counted.
///
/// # Safety
///
/// `sk` must be a TCP socket.
unsafe fn stream<T: Stream>(sk: *mut bindings::sock) -> Option<RcuArc<T>> {
    let guard = Guard::new();
    // SAFETY: By the safety requirement.
    unsafe { tcp_attach::stream_of::<T>(sk, &guard) }.and_then(RcuRef::to_arc)
}

extern "C" fn recvmsg<T: Stream>(
    sk: *mut bindings::sock,
    msg: *mut bindings::msghdr,
    len: usize,
    flags: c_int,
) -> c_int {
    let non_blocking = flags & bindings::MSG_DONTWAIT as c_int;
    // Neither is in the stream.
    let elsewhere = flags & (bindings::MSG_ERRQUEUE | bindings::MSG_OOB) as c_int != 0;
    // SAFETY: The socket is valid for the call.
    let mut timeout = unsafe { bindings::sock_rcvtimeo(sk, non_blocking != 0) };
    let mut parsed = false;

    loop {
        // SAFETY: As above.
        let stream = unsafe { stream::<T>(sk) }.filter(|_| !elsewhere);
        let Some(stream) = stream else {
            // SAFETY: The socket has its own operations again, or this does not touch the stream;
            // both families have this one.
            return match unsafe { bindings::tcp_prot.recvmsg } {
                // SAFETY: As above.
                Some(original) => unsafe { original(sk, msg, len, flags) },
                None => errno::eopnotsupp().to_errno(),
            };
        };
        let connection = stream.connection();
        match read(&*stream, msg, len, flags) {
            Ok(Some(copied)) => {
                connection.resume(stream.sock());
                return copied as c_int;
            }
            Ok(None) => {}
            Err(error) => return error.to_errno(),
        }
        // SAFETY: As above.
        let disconnected = unsafe { bindings::ovpn_shim_sk_is_disconnected(sk) };
        if disconnected && !parsed {
            // The end is not read before what came before it.
            connection.finish_parsing(stream.sock());
            parsed = true;
            continue;
        }
        let mut error = 0;
        // SAFETY: The socket and the queue are valid; the latter is in `stream`. The wait ends
        // with a message, an error, a signal, the end of the stream, or when the socket is given
        // back, which wakes its readers.
        let ended = unsafe {
            if timeout == 0 && !disconnected {
                return match bindings::ovpn_shim_sock_error(sk) {
                    0 => EAGAIN.to_errno(),
                    error => error,
                };
            }
            let queue = connection.incoming.as_raw();
            bindings::__skb_wait_for_more_packets(
                sk,
                queue,
                &mut error,
                &mut timeout,
                queue.cast_const().cast(),
            )
        };
        if ended != 0 && (error != 0 || parsed) {
            return error;
        }
    }
}

/// Copies from the first message to the caller; what does not fit stays to be read next. `None` if
/// there is no message.
fn read<T: Stream>(
    stream: &T,
    msg: *mut bindings::msghdr,
    len: usize,
    flags: c_int,
) -> Result<Option<u32>> {
    let incoming = &stream.connection().incoming;
    // Other readers, and who gives the socket back, find the message either there or taken.
    let _lock = stream.sock().lock();
    let Some(mut skb) = incoming.pop() else {
        return Ok(None);
    };
    let copied = u32::try_from(len).unwrap_or(u32::MAX).min(skb.len());

    // SAFETY: `msg` is valid for the call, and `copied` bytes are in the buffer.
    let outcome = kernel::error::to_result(unsafe {
        bindings::skb_copy_datagram_iter(skb.as_raw(), 0, &raw mut (*msg).msg_iter, copied as c_int)
    });
    let stays = outcome.is_err() || flags & bindings::MSG_PEEK as c_int != 0;
    if stays || copied < skb.len() && skb.pull(copied) {
        incoming.push_front(skb);
    } else {
        skb.consume();
    }
    outcome.map(|()| Some(copied))
}

extern "C" fn sendmsg<T: Stream>(
    sk: *mut bindings::sock,
    msg: *mut bindings::msghdr,
    size: usize,
) -> c_int {
    // SAFETY: The socket is valid for the call.
    let Some(stream) = (unsafe { stream::<T>(sk) }) else {
        // SAFETY: The socket has its own operations again.
        return unsafe { bindings::tcp_sendmsg(sk, msg, size) };
    };
    match write(sk, &stream, msg, size) {
        Ok(Written::Whole) => size as c_int,
        // SAFETY: As above.
        Ok(Written::Detached) => unsafe { bindings::tcp_sendmsg(sk, msg, size) },
        Err(error) => error.to_errno(),
    }
}

/// What became of a message of the process.
enum Written {
    /// It is in the stream, or will be.
    Whole,
    /// Nothing, as the socket has its own operations again.
    Detached,
}

/// Takes a message from the process whole: part of one must not stand in the stream before one
/// of the kernel's.
fn write<T: Stream>(
    sk: *mut bindings::sock,
    stream: &RcuArc<T>,
    msg: *mut bindings::msghdr,
    size: usize,
) -> Result<Written> {
    const ACCEPTED: u32 =
        bindings::MSG_DONTWAIT | bindings::MSG_NOSIGNAL | bindings::MSG_MORE | bindings::MSG_EOR;
    const LARGEST: usize = tcp::PREFIX_LEN + u16::MAX as usize;

    // SAFETY: `msg` and the socket are valid for the call.
    unsafe {
        if (*msg).msg_flags & !ACCEPTED != 0 {
            return Err(errno::eopnotsupp());
        }
        kernel::error::to_result(bindings::ovpn_shim_sock_error(sk))?;
        if bindings::ovpn_shim_sk_is_shut_for_sending(sk) {
            return Err(EPIPE);
        }
    }
    if size == 0 {
        return Ok(Written::Whole);
    }
    if size > LARGEST {
        return Err(EMSGSIZE);
    }
    if !stream.connection().takes_process_message() {
        return Err(EAGAIN);
    }
    let len = u32::try_from(size).map_err(|_| EMSGSIZE)?;
    let mut skb = SkBuff::new(0, len)?;
    skb.extend(len).ok_or(ENOMEM)?;
    // SAFETY: The buffer has `len` bytes to write to, and `msg` is valid for the call.
    kernel::error::to_result(unsafe {
        bindings::skb_copy_datagram_from_iter(
            skb.as_raw(),
            0,
            &raw mut (*msg).msg_iter,
            len as c_int,
        )
    })?;
    Ok(match tcp::send_for_process(stream, skb) {
        Ok(()) => Written::Whole,
        Err(tcp::Detached) => {
            // SAFETY: `msg` is valid for the call, and `len` bytes have been taken from it.
            unsafe { bindings::iov_iter_revert(&raw mut (*msg).msg_iter, size) };
            Written::Detached
        }
    })
}

extern "C" fn close<T: Stream>(sk: *mut bindings::sock, timeout: c_long) {
    // SAFETY: The socket is valid for the call.
    if let Some(stream) = unsafe { stream::<T>(sk) } {
        stream.connection().set_closing();
        T::closed(stream);
    }
    // SAFETY: As above; both families close so.
    unsafe { bindings::tcp_close(sk, timeout) };
}

/// The parser would wait for the rest of a message to be in the socket's buffer, which may be too
/// small for that: let it take all that is there.
extern "C" fn peek_len(_: *mut bindings::socket) -> c_int {
    c_int::MAX
}

extern "C" fn disconnect(_: *mut bindings::sock, _: c_int) -> c_int {
    EBUSY.to_errno()
}

extern "C" fn poll<T: Stream>(
    file: *mut bindings::file,
    socket: *mut bindings::socket,
    wait: *mut bindings::poll_table_struct,
) -> bindings::__poll_t {
    const IN: bindings::__poll_t = bindings::ovpn_const_POLL_IN;
    const OUT: bindings::__poll_t = bindings::ovpn_const_POLL_OUT;
    const ENDED: bindings::__poll_t = bindings::ovpn_const_POLL_ENDED;

    // SAFETY: All are valid for the call; TCP's own function looks at the stream, of which the
    // process sees only what has been taken out for it.
    unsafe {
        let mask = bindings::tcp_poll(file, socket, wait);
        let Some(stream) = stream::<T>((*socket).sk) else {
            return mask;
        };
        let connection = stream.connection();
        let readable = connection.has_incoming() || mask & ENDED != 0;
        let writable = mask & OUT != 0 && connection.takes_process_message();
        mask & !(IN | OUT) | if readable { IN } else { 0 } | if writable { OUT } else { 0 }
    }
}
