// SPDX-License-Identifier: GPL-2.0

//! Sockets that processes opened.
//!
//! C headers: [`include/linux/net.h`](srctree/include/linux/net.h),
//! [`include/net/sock.h`](srctree/include/net/sock.h)

use super::{errno, net::Net, softirq::BhDisabled};
use crate::bindings;
use core::{marker::PhantomData, mem::ManuallyDrop, ptr::NonNull};
use kernel::prelude::*;

/// What kind of transport a socket is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UDP over IPv4 or IPv6.
    Udp,
    /// TCP over IPv4 or IPv6.
    Tcp,
    /// Anything else.
    Other,
}

/// A file of the calling process that is an open socket.
///
/// # Invariants
///
/// Points to a `struct socket` with a `struct sock`, of whose file a reference is owned.
pub struct SocketFile {
    socket: NonNull<bindings::socket>,
    sock: ManuallyDrop<Sock>,
}

impl SocketFile {
    /// The socket behind file descriptor `fd` of the calling process.
    ///
    /// Process context. Fails with `EBADF` or `ENOTSOCK`.
    pub fn lookup(fd: u32) -> Result<Self> {
        let fd = c_int::try_from(fd).map_err(|_| EBADF)?;
        let mut error = 0;
        // SAFETY: Any number may be looked up.
        let socket = NonNull::new(unsafe { bindings::sockfd_lookup(fd, &mut error) })
            .ok_or_else(|| Error::from_errno(error))?;
        // SAFETY: The lookup took a reference to the file, which keeps the socket.
        match NonNull::new(unsafe { (*socket.as_ptr()).sk }) {
            // INVARIANT: As above. The `Sock` borrows the reference that the socket has.
            Some(sk) => Ok(Self {
                socket,
                sock: ManuallyDrop::new(Sock(sk)),
            }),
            None => {
                // SAFETY: As above; the reference goes.
                unsafe { bindings::fput((*socket.as_ptr()).file) };
                Err(errno::enotsock())
            }
        }
    }

    /// The socket, which is open for as long as this value lives.
    pub fn sock(&self) -> &Sock {
        &self.sock
    }

    /// A reference that may outlive the file.
    pub fn reference(&self) -> Sock {
        // SAFETY: By the type invariants.
        unsafe { bindings::sock_hold(self.sock.as_raw()) };
        // INVARIANT: The reference has been taken.
        Sock(self.sock.0)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::fput((*self.socket.as_ptr()).file) };
    }
}

/// A counted reference to a `struct sock`.
///
/// It keeps the memory, not the socket: when its last file is closed, the socket closes.
///
/// # Invariants
///
/// Points to a valid `struct sock` of which a reference is owned.
pub struct Sock(NonNull<bindings::sock>);

// SAFETY: References to a `struct sock` may be held and dropped by any thread.
unsafe impl Send for Sock {}
// SAFETY: What is read without the lock is read once; the rest asks for a `SockLock`.
unsafe impl Sync for Sock {}

impl Sock {
    pub(super) fn as_raw(&self) -> *mut bindings::sock {
        self.0.as_ptr()
    }

    /// What kind of transport this is.
    pub fn kind(&self) -> Kind {
        // SAFETY: By the type invariants; these never change.
        let (family, kind, protocol) = unsafe {
            (
                bindings::ovpn_shim_sk_family(self.as_raw()) as u32,
                bindings::ovpn_shim_sk_type(self.as_raw()) as u32,
                bindings::ovpn_shim_sk_protocol(self.as_raw()) as u32,
            )
        };
        // A raw socket may have the protocol number of UDP and is nothing of the kind.
        if family != bindings::AF_INET && family != bindings::AF_INET6 {
            Kind::Other
        } else if kind == bindings::sock_type_SOCK_DGRAM && protocol == bindings::IPPROTO_UDP {
            Kind::Udp
        } else if kind == bindings::sock_type_SOCK_STREAM && protocol == bindings::IPPROTO_TCP {
            Kind::Tcp
        } else {
            Kind::Other
        }
    }

    /// Whether this is an IPv6 socket, which may carry IPv4 as well.
    pub fn is_ipv6(&self) -> bool {
        // SAFETY: By the type invariants.
        unsafe { bindings::ovpn_shim_sk_family(self.as_raw()) as u32 == bindings::AF_INET6 }
    }

    /// Whether this is a TCP socket in the state ESTABLISHED at this moment.
    pub fn is_established(&self) -> bool {
        // SAFETY: By the type invariants.
        unsafe { bindings::ovpn_shim_sk_state(self.as_raw()) as u32 == bindings::TCP_ESTABLISHED }
    }

    /// The local port, in host order; 0 if the socket is not bound.
    #[inline]
    pub fn local_port(&self) -> u16 {
        // SAFETY: By the type invariants: only Internet sockets are asked.
        unsafe { bindings::ovpn_shim_sk_port(self.as_raw()) }
    }

    /// `SO_MARK`.
    #[inline]
    pub fn mark(&self) -> u32 {
        // SAFETY: By the type invariants.
        unsafe { bindings::ovpn_shim_sk_mark(self.as_raw()) }
    }

    /// The namespace that the socket is in.
    #[inline]
    pub fn net(&self) -> &Net {
        // SAFETY: A socket of a process keeps its namespace for as long as it is not freed.
        unsafe { Net::from_raw(bindings::sock_net(self.as_raw())) }
    }

    /// Locks the socket. Process context, may sleep.
    pub fn lock(&self) -> SockLock<'_> {
        // SAFETY: By the type invariants; `SockLock` releases it.
        unsafe { bindings::lock_sock_nested(self.as_raw(), 0) };
        SockLock(self, PhantomData)
    }

    /// Locks the socket, if nobody else has it.
    pub fn try_lock<'a>(&'a self, _bh: &'a BhDisabled) -> Option<SockSpinLock<'a>> {
        let mut memory = bindings::ovpn_shim_sk_memory::default();
        // SAFETY: By the type invariants; bottom halves are disabled for as long as the result
        // lives, which releases it.
        let locked = unsafe { bindings::ovpn_shim_sk_trylock(self.as_raw(), &mut memory) };
        // Made only if it is: what is made unlocks.
        locked.then(|| SockSpinLock {
            sock: self,
            memory,
            _not_send: PhantomData,
        })
    }
}

impl Drop for Sock {
    fn drop(&mut self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::sock_put(self.as_raw()) };
    }
}

/// Shows that a socket is locked.
pub trait Locked {
    /// The socket.
    fn sock(&self) -> &Sock;
}

/// A socket is locked for a process, and unlocked when this goes.
pub struct SockLock<'a>(&'a Sock, PhantomData<*mut ()>);

impl Locked for SockLock<'_> {
    fn sock(&self) -> &Sock {
        self.0
    }
}

impl Drop for SockLock<'_> {
    fn drop(&mut self) {
        // SAFETY: By construction, this thread holds the lock.
        unsafe { bindings::release_sock(self.0.as_raw()) };
    }
}

/// A socket is locked as softirq context locks it, and unlocked when this goes. Must not sleep.
pub struct SockSpinLock<'a> {
    sock: &'a Sock,
    /// Where its memory came from before.
    memory: bindings::ovpn_shim_sk_memory,
    _not_send: PhantomData<*mut ()>,
}

impl Locked for SockSpinLock<'_> {
    fn sock(&self) -> &Sock {
        self.sock
    }
}

impl Drop for SockSpinLock<'_> {
    fn drop(&mut self) {
        // SAFETY: By construction, this thread holds the lock.
        unsafe { bindings::ovpn_shim_sk_unlock(self.sock.as_raw(), &self.memory) };
    }
}
