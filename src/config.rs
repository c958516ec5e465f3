// SPDX-License-Identifier: GPL-2.0

//! What a request says, once it has been checked, and what an answer says.

use crate::{
    bindings,
    proto::{
        nonce::NONCE_TAIL_LEN,
        packet::{KeyId, PeerId},
    },
};

/// A peer to be added.
pub(crate) struct NewPeer {
    /// Its name towards user space, and the one in the packets to this host.
    pub(crate) id: PeerId,
    /// A file descriptor of the calling process.
    pub(crate) socket: u32,
    /// Where the peer is. Only a UDP socket needs it.
    pub(crate) remote: Option<SocketAddress>,
    /// The address of this host that the peer sends to, of the same family as `remote`, if the
    /// caller knows it.
    pub(crate) local: Option<IpAddress>,
    /// The peer's address in the VPN, in network order, never 0.0.0.0.
    pub(crate) vpn_ipv4: Option<[u8; 4]>,
    /// As `vpn_ipv4`, never ::.
    pub(crate) vpn_ipv6: Option<[u8; 16]>,
}

/// An address and a port. An IPv4 address that is mapped into IPv6 is [`SocketAddress::V4`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketAddress {
    /// Of `struct sockaddr_in`.
    V4 {
        /// In network order.
        address: [u8; 4],
        /// In host order.
        port: u16,
    },
    /// Of `struct sockaddr_in6`, but for the flow information, which nothing uses.
    V6 {
        /// In network order.
        address: [u8; 16],
        /// In host order.
        port: u16,
        /// The interface that a link-local address belongs to, else 0. In host order.
        scope_id: u32,
    },
}

/// An address, in network order. An IPv4 address that is mapped into IPv6 is [`IpAddress::V4`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IpAddress {
    /// IPv4.
    V4([u8; 4]),
    /// IPv6.
    V6([u8; 16]),
}

/// One of the two places for a peer's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Its key seals, and opens what it fits.
    Primary,
    /// Its key only opens.
    Secondary,
}

/// What seals the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cipher {
    /// Nothing does: for debugging.
    #[cfg(ovpn_dco_debug)]
    None,
    /// AES-GCM.
    AesGcm,
    /// ChaCha20-Poly1305.
    ChaCha20Poly1305,
}

impl Cipher {
    /// Whether the cipher takes a key of `length` bytes.
    pub(crate) fn takes_key_of(self, length: usize) -> bool {
        match self {
            #[cfg(ovpn_dco_debug)]
            Self::None => true,
            Self::AesGcm => matches!(length, 16 | 24 | 32),
            Self::ChaCha20Poly1305 => length == 32,
        }
    }
}

/// A key to be installed.
pub(crate) struct NewKey<'a> {
    /// Its name in the packets that it seals.
    pub(crate) key_id: KeyId,
    /// For both directions.
    pub(crate) cipher: Cipher,
    /// For the packets to the peer.
    pub(crate) encrypt: KeyDirection<'a>,
    /// For the packets from the peer.
    pub(crate) decrypt: KeyDirection<'a>,
}

/// The key material of one direction.
pub(crate) struct KeyDirection<'a> {
    /// Of a length that the cipher takes. The request, where it stands, is wiped afterwards.
    pub(crate) key: &'a [u8],
    /// What follows the packet id in the nonce. It stands in the request, too.
    pub(crate) nonce_tail: &'a [u8; NONCE_TAIL_LEN],
}

/// What is known of a peer.
pub(crate) struct PeerInfo {
    /// Its name towards user space, and the one in the packets to this host.
    pub(crate) id: PeerId,
    /// Where it was last heard from; not over TCP.
    pub(crate) remote: Option<SocketAddress>,
    /// The address of this host that it sends to, of the same family as `remote`.
    pub(crate) local: Option<IpAddress>,
    /// The port of this host that it sends to, in host order.
    pub(crate) local_port: u16,
    /// Its address in the VPN, in network order.
    pub(crate) vpn_ipv4: Option<[u8; 4]>,
    /// As `vpn_ipv4`.
    pub(crate) vpn_ipv6: Option<[u8; 16]>,
    /// Seconds; 0: off.
    pub(crate) keepalive_interval: u32,
    /// Seconds; 0: off.
    pub(crate) keepalive_timeout: u32,
    /// The IP packets inside.
    pub(crate) vpn: Traffic,
    /// The payload of the transport.
    pub(crate) link: Traffic,
}

/// What came from a peer (`rx`) and went to it (`tx`).
#[derive(Clone, Copy, Default)]
pub(crate) struct Traffic {
    /// Bytes from the peer.
    pub(crate) rx_bytes: u64,
    /// Bytes to the peer.
    pub(crate) tx_bytes: u64,
    /// Packets from the peer.
    pub(crate) rx_packets: u64,
    /// Packets to the peer.
    pub(crate) tx_packets: u64,
}

/// Why a peer is gone. The numbers are those of the uapi header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reason {
    /// Its interface went, or another peer took its place.
    Teardown = bindings::ovpn_del_peer_reason_OVPN_DEL_PEER_REASON_TEARDOWN as u8,
    /// User space asked for it.
    Userspace = bindings::ovpn_del_peer_reason_OVPN_DEL_PEER_REASON_USERSPACE as u8,
    /// Nothing was heard of it for the keepalive timeout.
    Expired = bindings::ovpn_del_peer_reason_OVPN_DEL_PEER_REASON_EXPIRED as u8,
    /// Its socket failed.
    TransportError = bindings::ovpn_del_peer_reason_OVPN_DEL_PEER_REASON_TRANSPORT_ERROR as u8,
    /// Its socket was closed, at either end.
    TransportDisconnected =
        bindings::ovpn_del_peer_reason_OVPN_DEL_PEER_REASON_TRANSPORT_DISCONNECT as u8,
}
