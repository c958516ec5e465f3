// SPDX-License-Identifier: GPL-2.0-only

//! The numbers of `uapi/linux/ovpn_dco.h`, under the names that they have there.

/// The generic netlink family.
pub(crate) const FAMILY: &str = "ovpn-dco-v2";
/// Its version.
pub(crate) const VERSION: u8 = 1;
/// Its multicast group.
pub(crate) const GROUP_PEERS: &str = "peers";
/// The kind of its links.
pub(crate) const LINK_KIND: &str = "ovpn-dco";

/// `enum ovpn_nl_commands`
pub(crate) mod command {
    pub(crate) const NEW_PEER: u8 = 1;
    pub(crate) const SET_PEER: u8 = 2;
    pub(crate) const DEL_PEER: u8 = 3;
    pub(crate) const NEW_KEY: u8 = 4;
    pub(crate) const SWAP_KEYS: u8 = 5;
    pub(crate) const DEL_KEY: u8 = 6;
    pub(crate) const GET_PEER: u8 = 7;
}

/// `enum ovpn_netlink_attrs`
pub(crate) mod attribute {
    pub(crate) const IFINDEX: u16 = 1;
    pub(crate) const NEW_PEER: u16 = 2;
    pub(crate) const SET_PEER: u16 = 3;
    pub(crate) const DEL_PEER: u16 = 4;
    pub(crate) const NEW_KEY: u16 = 5;
    pub(crate) const SWAP_KEYS: u16 = 6;
    pub(crate) const DEL_KEY: u16 = 7;
    pub(crate) const GET_PEER: u16 = 8;
}

/// `enum ovpn_netlink_new_peer_attrs`
pub(crate) mod new_peer {
    pub(crate) const PEER_ID: u16 = 1;
    pub(crate) const SOCKADDR_REMOTE: u16 = 2;
    pub(crate) const SOCKET: u16 = 3;
    pub(crate) const IPV4: u16 = 4;
    pub(crate) const IPV6: u16 = 5;
    pub(crate) const LOCAL_IP: u16 = 6;
}

/// `enum ovpn_netlink_set_peer_attrs`
pub(crate) mod set_peer {
    pub(crate) const PEER_ID: u16 = 1;
    pub(crate) const KEEPALIVE_INTERVAL: u16 = 2;
    pub(crate) const KEEPALIVE_TIMEOUT: u16 = 3;
}

/// `enum ovpn_netlink_del_peer_attrs`
pub(crate) mod del_peer {
    pub(crate) const REASON: u16 = 1;
    pub(crate) const PEER_ID: u16 = 2;
}

/// `enum ovpn_netlink_new_key_attrs`
pub(crate) mod new_key {
    pub(crate) const PEER_ID: u16 = 1;
    pub(crate) const KEY_SLOT: u16 = 2;
    pub(crate) const KEY_ID: u16 = 3;
    pub(crate) const CIPHER_ALG: u16 = 4;
    pub(crate) const ENCRYPT_KEY: u16 = 5;
    pub(crate) const DECRYPT_KEY: u16 = 6;
}

/// `enum ovpn_netlink_key_dir_attrs`
pub(crate) mod key_dir {
    pub(crate) const CIPHER_KEY: u16 = 1;
    pub(crate) const NONCE_TAIL: u16 = 2;
}

/// `enum ovpn_netlink_swap_keys_attrs`
pub(crate) mod swap_keys {
    pub(crate) const PEER_ID: u16 = 1;
}

/// `enum ovpn_netlink_del_key_attrs`
pub(crate) mod del_key {
    pub(crate) const PEER_ID: u16 = 1;
    pub(crate) const KEY_SLOT: u16 = 2;
}

/// `enum ovpn_netlink_get_peer_attrs`
pub(crate) mod get_peer {
    pub(crate) const PEER_ID: u16 = 1;
}

/// `enum ovpn_netlink_get_peer_response_attrs`
pub(crate) mod get_peer_response {
    pub(crate) const PEER_ID: u16 = 1;
    pub(crate) const SOCKADDR_REMOTE: u16 = 2;
    pub(crate) const IPV4: u16 = 3;
    pub(crate) const IPV6: u16 = 4;
    pub(crate) const LOCAL_IP: u16 = 5;
    pub(crate) const LOCAL_PORT: u16 = 6;
    pub(crate) const KEEPALIVE_INTERVAL: u16 = 7;
    pub(crate) const KEEPALIVE_TIMEOUT: u16 = 8;
    pub(crate) const VPN_RX_BYTES: u16 = 9;
    pub(crate) const VPN_TX_BYTES: u16 = 10;
    pub(crate) const VPN_RX_PACKETS: u16 = 11;
    pub(crate) const VPN_TX_PACKETS: u16 = 12;
    pub(crate) const LINK_RX_BYTES: u16 = 13;
    pub(crate) const LINK_TX_BYTES: u16 = 14;
    pub(crate) const LINK_RX_PACKETS: u16 = 15;
    pub(crate) const LINK_TX_PACKETS: u16 = 16;
}

/// `enum ovpn_ifla_attrs`
pub(crate) mod ifla {
    pub(crate) const MODE: u16 = 1;
}

/// Why a peer is gone, in words: `enum ovpn_del_peer_reason`.
pub(crate) fn reason(number: u8) -> String {
    match number {
        0 => "torn down: its interface is gone or another peer took its place".into(),
        1 => "deleted by userspace".into(),
        2 => "expired: nothing was heard of it for the keepalive timeout".into(),
        3 => "transport error: its socket failed".into(),
        4 => "transport disconnected: its socket was closed".into(),
        unknown => format!("unknown reason {unknown}"),
    }
}
