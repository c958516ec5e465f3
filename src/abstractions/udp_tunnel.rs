// SPDX-License-Identifier: GPL-2.0

//! UDP sockets that carry a tunnel.
//!
//! C header: [`include/net/udp_tunnel.h`](srctree/include/net/udp_tunnel.h)

use super::{
    dst_cache::DstCache,
    errno,
    netdevice::NetDevice,
    rcu::{assumed_guard, Guard, RcuArc, RcuRef},
    skb::SkBuff,
    socket::{Kind, Locked, Sock, SockLock},
    softirq::BhDisabled,
};
use crate::bindings;
use core::{
    marker::PhantomData,
    ptr::{self, NonNull},
};
use kernel::{error::from_err_ptr, prelude::*, types::Opaque};

/// Who takes the packets of a UDP socket.
pub trait Receiver: Send + Sync + 'static {
    /// A packet came. Softirq context, under RCU.
    ///
    /// The data pointer is at the UDP header, whose checksum has been verified. Returns the
    /// packet if it is for the process that has the socket.
    fn receive(&self, skb: SkBuff, guard: &Guard, bh: &BhDisabled) -> Option<SkBuff>;

    /// Several packets of one sender came as one, at its IP header: the payload of the first begins
    /// `offset` bytes behind that, each is `size` bytes long but the last. Softirq context, under RCU.
    ///
    /// Returns the packet if it is to be taken apart, and each to be handed to
    /// [`receive`](Self::receive).
    fn receive_train(&self, skb: SkBuff, offset: u32, size: u16, guard: &Guard) -> Option<SkBuff>;

    /// The last file of the socket has been closed. Process context, the socket is not locked.
    fn closed(this: RcuArc<Self>)
    where
        Self: Sized;
}

/// Makes `receiver` take the packets of a socket.
///
/// Fails with `EBUSY` if the socket has a user already, in the kernel; with `EINVAL` if it is not
/// a UDP socket.
pub fn attach<T: Receiver>(lock: &SockLock<'_>, receiver: RcuArc<T>) -> Result {
    if lock.sock().kind() != Kind::Udp {
        return Err(EINVAL);
    }
    let sk = lock.sock().as_raw();
    // SAFETY: This is a locked UDP socket. It owns the reference until `detach`.
    unsafe {
        if bindings::ovpn_shim_udp_taken(sk) {
            return Err(EBUSY);
        }
        let data = RcuArc::into_raw(receiver);
        bindings::ovpn_shim_udp_attach(
            sk,
            data.as_ptr().cast(),
            Some(receive::<T>),
            Some(destroy::<T>),
        );
    }
    Ok(())
}

/// Gives the socket back to its process alone, if a `T` has it.
pub fn detach<T: Receiver>(lock: &SockLock<'_>) {
    let sk = lock.sock().as_raw();
    // SAFETY: The socket is locked, so what is found stays until it is taken.
    unsafe {
        if let Some(data) = user_data::<T>(sk) {
            bindings::ovpn_shim_udp_detach(sk);
            drop(RcuArc::from_raw(data));
        }
    }
}

/// Who takes the packets of a socket, if it is a `T`.
pub fn attached<'g, T: Receiver>(sock: &Sock, guard: &'g Guard) -> Option<RcuRef<'g, T>> {
    if sock.kind() != Kind::Udp {
        return None;
    }
    // SAFETY: `detach` gives the reference up, which is released after a grace period.
    unsafe { user_data::<T>(sock.as_raw()).map(|data| RcuRef::new(data, guard)) }
}

/// # Safety
///
/// `sk` must be a UDP socket. The result may be used under RCU or under the socket's lock.
unsafe fn user_data<T: Receiver>(sk: *mut bindings::sock) -> Option<NonNull<T>> {
    // SAFETY: By the safety requirement. The data is ours if the callback is.
    NonNull::new(unsafe { bindings::ovpn_shim_udp_user_data(sk, Some(receive::<T>)) }.cast())
}

extern "C" fn receive<T: Receiver>(sk: *mut bindings::sock, skb: *mut bindings::sk_buff) -> c_int {
    // SAFETY: The UDP layer calls this under RCU, in softirq context or with bottom halves disabled.
    let (guard, bh) = unsafe { (assumed_guard(), BhDisabled::assumed()) };

    let Some(raw) = NonNull::new(skb) else {
        return 0;
    };
    // SAFETY: The UDP layer calls this for a UDP socket.
    let Some(receiver) = (unsafe { user_data::<T>(sk) }) else {
        // It has just been detached: the process gets the packet.
        return 1;
    };
    // SAFETY: The receiver was found under `guard`.
    let receiver = unsafe { RcuRef::new(receiver, guard) };
    // SAFETY: The UDP layer hands the packet over unless the result is positive.
    let skb = unsafe { SkBuff::from_raw(raw) };

    match receiver.receive(skb, guard, bh) {
        None => 0,
        Some(skb) => {
            skb.into_raw();
            1
        }
    }
}

/// Takes trains for the sockets of `T`, where the stack hands packets to this machine; the UDP
/// layer takes them apart before it hands them to a tunnel. As a netfilter hook it comes after
/// all rules.
///
/// There can be one for each `T`.
pub struct Trains<T: Receiver>(PhantomData<T>);

impl<T: Receiver> Trains<T> {
    const HOOK: bindings::nf_hook_ops = {
        // SAFETY: All zero is valid.
        let mut operations: bindings::nf_hook_ops = unsafe { core::mem::zeroed() };
        operations.hook = Some(hook::<T>);
        operations.pf = bindings::NFPROTO_INET as u8;
        operations.hooknum = bindings::nf_inet_hooks_NF_INET_LOCAL_IN;
        operations.priority = c_int::MAX;
        operations
    };

    /// Begins to take trains, in all network namespaces. Process context.
    pub fn register() -> Result<Self> {
        // SAFETY: The operations are a static; the structure is written before it is known to
        // anybody, by the only caller, as the module is loaded once.
        kernel::error::to_result(unsafe {
            let operations = NAMESPACES.0.get();
            (*operations).init = Some(enter::<T>);
            (*operations).exit = Some(leave::<T>);
            bindings::register_pernet_subsys(operations)
        })?;
        Ok(Self(PhantomData))
    }
}

impl<T: Receiver> Drop for Trains<T> {
    fn drop(&mut self) {
        // SAFETY: Registered in `register`. No hook runs any more after a grace period.
        unsafe {
            bindings::unregister_pernet_subsys(NAMESPACES.0.get());
            bindings::synchronize_net();
        }
    }
}

struct Namespaces(Opaque<bindings::pernet_operations>);

// SAFETY: Written once, before it is shared.
unsafe impl Sync for Namespaces {}

// SAFETY: All zero is valid.
static NAMESPACES: Namespaces = Namespaces(Opaque::new(unsafe { core::mem::zeroed() }));

extern "C" fn enter<T: Receiver>(net: *mut bindings::net) -> c_int {
    // SAFETY: The namespace is being made, or locked; the table is constant.
    unsafe { bindings::nf_register_net_hook(net, const { &Trains::<T>::HOOK }) }
}

extern "C" fn leave<T: Receiver>(net: *mut bindings::net) {
    // SAFETY: Registered in `enter`.
    unsafe { bindings::nf_unregister_net_hook(net, const { &Trains::<T>::HOOK }) };
}

extern "C" fn hook<T: Receiver>(
    _private: *mut c_void,
    skb: *mut bindings::sk_buff,
    state: *const bindings::nf_hook_state,
) -> c_uint {
    let (mut offset, mut size) = (0, 0);
    // SAFETY: Netfilter calls this with a packet for this machine, at its IP header, under RCU.
    let sk = unsafe { bindings::ovpn_shim_udp_train(skb, state, &mut offset, &mut size) };
    let (false, Some(raw)) = (sk.is_null(), NonNull::new(skb)) else {
        return bindings::NF_ACCEPT;
    };
    let guard = Guard::new();
    // SAFETY: This is a UDP socket, found under RCU.
    let Some(receiver) = (unsafe { user_data::<T>(sk) }) else {
        return bindings::NF_ACCEPT;
    };
    // SAFETY: The receiver was found under `guard`; netfilter gives the packet to a hook that
    // says that it has stolen it.
    let (receiver, skb) = unsafe { (RcuRef::new(receiver, &guard), SkBuff::from_raw(raw)) };

    match receiver.receive_train(skb, offset, size, &guard) {
        None => bindings::NF_STOLEN,
        Some(skb) => {
            skb.into_raw();
            bindings::NF_ACCEPT
        }
    }
}

extern "C" fn destroy<T: Receiver>(sk: *mut bindings::sock) {
    let receiver = {
        let guard = Guard::new();
        // SAFETY: The UDP layer calls this for a UDP socket; found under `guard`.
        unsafe { user_data::<T>(sk).and_then(|data| RcuRef::new(data, &guard).to_arc()) }
    };
    if let Some(receiver) = receiver {
        T::closed(receiver);
    }
}

/// Sends `skb` from `sock` to `remote`, port in host order.
///
/// `local` is the source address, or all zero to take the one that the socket is bound to, or the
/// route's; one that is no longer the host's is ignored. Fails with what routing fails with, and
/// with `ELOOP` if the route leads into `dev`, the tunnel itself.
pub fn send_ipv4(
    sock: &Sock,
    cache: &DstCache,
    dev: &NetDevice,
    (local, remote, port): ([u8; 4], [u8; 4], u16),
    mut skb: SkBuff,
    bh: &BhDisabled,
) -> Result {
    let sk = sock.as_raw();
    let mark = sock.mark();
    let source_port = sock.local_port().to_be();
    let mut source = u32::from_ne_bytes(local);
    let remote = u32::from_ne_bytes(remote);

    cache.check_mark(mark);
    // SAFETY: The socket is valid, and bottom halves are disabled. The route that is found or
    // looked up is a reference, which goes with the packet.
    unsafe {
        let mut route = bindings::dst_cache_get_ip4(cache.as_raw(bh), &mut source);
        if route.is_null() {
            source = u32::from_ne_bytes(local);
            route = from_err_ptr(bindings::ovpn_shim_route4(
                sock.net().as_raw(),
                sk,
                &mut source,
                remote,
                source_port,
                port.to_be(),
                mark,
            ))?;
            bindings::dst_cache_set_ip4(cache.as_raw(bh), &raw mut (*route).dst, source);
        }
        let dst = &raw mut (*route).dst;
        if bindings::ovpn_shim_dst_is_over(dst, dev.as_raw()) {
            bindings::dst_release(dst);
            return Err(errno::eloop());
        }
        // Left to the function below, this would take the socket's mark away again.
        if !ptr::eq(sock.net().as_raw(), bindings::dev_net(dev.as_raw())) {
            skb.scrub();
        }
        bindings::ovpn_shim_skb_prepare_encap(skb.as_raw(), mark);
        bindings::udp_tunnel_xmit_skb(
            route,
            sk,
            skb.into_raw(),
            source,
            remote,
            0,
            bindings::ip4_dst_hoplimit(dst) as u8,
            0,
            source_port,
            port.to_be(),
            false,
            bindings::ovpn_shim_sk_no_check_tx(sk, false),
            0,
        );
    }
    Ok(())
}

/// As [`send_ipv4`], for IPv6; `scope_id` is the interface of a link-local `remote`, or 0.
pub fn send_ipv6(
    sock: &Sock,
    cache: &DstCache,
    dev: &NetDevice,
    (local, remote, port, scope_id): (&[u8; 16], &[u8; 16], u16, u32),
    mut skb: SkBuff,
    bh: &BhDisabled,
) -> Result {
    let sk = sock.as_raw();
    let mark = sock.mark();
    let source_port = sock.local_port().to_be();
    let mut source = *local;

    cache.check_mark(mark);
    // SAFETY: As in `send_ipv4`; `struct in6_addr` is 16 bytes with the alignment of a u32 at
    // most on the shim's side, which copies whole ones.
    unsafe {
        let mut address = bindings::in6_addr::default();
        let mut dst = bindings::dst_cache_get_ip6(cache.as_raw(bh), &mut address);
        if dst.is_null() {
            dst = from_err_ptr(bindings::ovpn_shim_route6(
                sock.net().as_raw(),
                sk,
                source.as_mut_ptr(),
                remote.as_ptr(),
                source_port,
                port.to_be(),
                mark,
                scope_id,
            ))?;
            address = ptr::read_unaligned(source.as_ptr().cast());
            bindings::dst_cache_set_ip6(cache.as_raw(bh), dst, &address);
        }
        if bindings::ovpn_shim_dst_is_over(dst, dev.as_raw()) {
            bindings::dst_release(dst);
            return Err(errno::eloop());
        }
        let remote: bindings::in6_addr = ptr::read_unaligned(remote.as_ptr().cast());
        // Its route, for one, would be lost. IPv4's function does this itself.
        skb.scrub();
        bindings::ovpn_shim_skb_prepare_encap(skb.as_raw(), mark);
        bindings::udp_tunnel6_xmit_skb(
            dst,
            sk,
            skb.into_raw(),
            ptr::null_mut(),
            &address,
            &remote,
            0,
            bindings::ip6_dst_hoplimit(dst) as u8,
            0,
            source_port,
            port.to_be(),
            bindings::ovpn_shim_sk_no_check_tx(sk, true),
            0,
        );
    }
    Ok(())
}
