/* SPDX-License-Identifier: (GPL-2.0-only WITH Linux-syscall-note) OR MIT */
/*
 * The control interface of the OpenVPN data channel module, ovpn-dco-v2.
 *
 * An interface is made and deleted over rtnetlink (kind "ovpn-dco"), and everything
 * else is said over generic netlink: the family is OVPN_NL_NAME, version 1. A request
 * names its interface in OVPN_ATTR_IFINDEX and carries its arguments in the nest that
 * has the command's name. All numbers are an ABI: none may ever change.
 *
 * Integers are in host byte order unless the comment says otherwise.
 */
#ifndef _UAPI_LINUX_OVPN_DCO_H_
#define _UAPI_LINUX_OVPN_DCO_H_

/* The generic netlink family. */
#define OVPN_NL_NAME "ovpn-dco-v2"

/* Its multicast group: hears of every peer that is gone (OVPN_CMD_DEL_PEER). */
#define OVPN_NL_MULTICAST_GROUP_PEERS "peers"

/**
 * enum ovpn_nl_commands - what can be asked; each needs CAP_NET_ADMIN
 *
 * @OVPN_CMD_UNSPEC: unused
 * @OVPN_CMD_NEW_PEER: add a peer and attach its socket
 * @OVPN_CMD_SET_PEER: set a peer's keepalive
 * @OVPN_CMD_DEL_PEER: remove a peer; as a notification: a peer is gone
 * @OVPN_CMD_NEW_KEY: put a key into a slot of a peer
 * @OVPN_CMD_SWAP_KEYS: let the primary and the secondary key change places
 * @OVPN_CMD_DEL_KEY: empty a slot
 * @OVPN_CMD_GET_PEER: what is known of one peer or, as a dump, of all
 */
enum ovpn_nl_commands {
	OVPN_CMD_UNSPEC = 0,
	OVPN_CMD_NEW_PEER = 1,
	OVPN_CMD_SET_PEER = 2,
	OVPN_CMD_DEL_PEER = 3,
	OVPN_CMD_NEW_KEY = 4,
	OVPN_CMD_SWAP_KEYS = 5,
	OVPN_CMD_DEL_KEY = 6,
	OVPN_CMD_GET_PEER = 7,
};

/**
 * enum ovpn_cipher_alg - what seals the packets
 *
 * @OVPN_CIPHER_ALG_NONE: nothing does; only a module built for debugging takes it
 * @OVPN_CIPHER_ALG_AES_GCM: AES-GCM with a key of 16, 24 or 32 bytes
 * @OVPN_CIPHER_ALG_CHACHA20_POLY1305: ChaCha20-Poly1305 with a key of 32 bytes
 */
enum ovpn_cipher_alg {
	OVPN_CIPHER_ALG_NONE = 0,
	OVPN_CIPHER_ALG_AES_GCM = 1,
	OVPN_CIPHER_ALG_CHACHA20_POLY1305 = 2,
};

/**
 * enum ovpn_del_peer_reason - why a peer is gone
 *
 * @OVPN_DEL_PEER_REASON_TEARDOWN: its interface went, or another peer took its place
 * @OVPN_DEL_PEER_REASON_USERSPACE: OVPN_CMD_DEL_PEER asked for it
 * @OVPN_DEL_PEER_REASON_EXPIRED: nothing was heard of it for the keepalive timeout
 * @OVPN_DEL_PEER_REASON_TRANSPORT_ERROR: its socket failed
 * @OVPN_DEL_PEER_REASON_TRANSPORT_DISCONNECT: its socket was closed, at either end
 */
enum ovpn_del_peer_reason {
	OVPN_DEL_PEER_REASON_TEARDOWN = 0,
	OVPN_DEL_PEER_REASON_USERSPACE = 1,
	OVPN_DEL_PEER_REASON_EXPIRED = 2,
	OVPN_DEL_PEER_REASON_TRANSPORT_ERROR = 3,
	OVPN_DEL_PEER_REASON_TRANSPORT_DISCONNECT = 4,

	__OVPN_DEL_PEER_REASON_FIRST = OVPN_DEL_PEER_REASON_TEARDOWN,
	__OVPN_DEL_PEER_REASON_AFTER_LAST =
		OVPN_DEL_PEER_REASON_TRANSPORT_DISCONNECT + 1,
};

/**
 * enum ovpn_key_slot - the two places for a peer's keys
 *
 * @OVPN_KEY_SLOT_PRIMARY: its key seals what is sent, and opens what it fits
 * @OVPN_KEY_SLOT_SECONDARY: its key only opens
 */
enum ovpn_key_slot {
	OVPN_KEY_SLOT_PRIMARY = 0,
	OVPN_KEY_SLOT_SECONDARY = 1,

	__OVPN_KEY_SLOT_FIRST = OVPN_KEY_SLOT_PRIMARY,
	__OVPN_KEY_SLOT_AFTER_LAST = OVPN_KEY_SLOT_SECONDARY + 1,
};

/**
 * enum ovpn_netlink_attrs - the top level of every message
 *
 * @OVPN_ATTR_UNSPEC: unused
 * @OVPN_ATTR_IFINDEX: u32, the interface; every request must have it
 * @OVPN_ATTR_NEW_PEER: nest of &enum ovpn_netlink_new_peer_attrs
 * @OVPN_ATTR_SET_PEER: nest of &enum ovpn_netlink_set_peer_attrs
 * @OVPN_ATTR_DEL_PEER: nest of &enum ovpn_netlink_del_peer_attrs
 * @OVPN_ATTR_NEW_KEY: nest of &enum ovpn_netlink_new_key_attrs
 * @OVPN_ATTR_SWAP_KEYS: nest of &enum ovpn_netlink_swap_keys_attrs
 * @OVPN_ATTR_DEL_KEY: nest of &enum ovpn_netlink_del_key_attrs
 * @OVPN_ATTR_GET_PEER: nest of &enum ovpn_netlink_get_peer_attrs in a request, of
 *	&enum ovpn_netlink_get_peer_response_attrs in the answer
 */
enum ovpn_netlink_attrs {
	OVPN_ATTR_UNSPEC = 0,
	OVPN_ATTR_IFINDEX = 1,
	OVPN_ATTR_NEW_PEER = 2,
	OVPN_ATTR_SET_PEER = 3,
	OVPN_ATTR_DEL_PEER = 4,
	OVPN_ATTR_NEW_KEY = 5,
	OVPN_ATTR_SWAP_KEYS = 6,
	OVPN_ATTR_DEL_KEY = 7,
	OVPN_ATTR_GET_PEER = 8,

	OVPN_ATTR_MAX = OVPN_ATTR_GET_PEER,
	__OVPN_ATTR_AFTER_LAST = OVPN_ATTR_MAX + 1,
};

/**
 * enum ovpn_netlink_key_dir_attrs - the key material of one direction
 *
 * @OVPN_KEY_DIR_ATTR_UNSPEC: unused
 * @OVPN_KEY_DIR_ATTR_CIPHER_KEY: bytes, as many as the cipher takes
 * @OVPN_KEY_DIR_ATTR_NONCE_TAIL: 8 bytes that follow the packet id in the nonce
 */
enum ovpn_netlink_key_dir_attrs {
	OVPN_KEY_DIR_ATTR_UNSPEC = 0,
	OVPN_KEY_DIR_ATTR_CIPHER_KEY = 1,
	OVPN_KEY_DIR_ATTR_NONCE_TAIL = 2,

	OVPN_KEY_DIR_ATTR_MAX = OVPN_KEY_DIR_ATTR_NONCE_TAIL,
	__OVPN_KEY_DIR_ATTR_AFTER_LAST = OVPN_KEY_DIR_ATTR_MAX + 1,
};

/**
 * enum ovpn_netlink_new_key_attrs - arguments of OVPN_CMD_NEW_KEY, all required
 *
 * @OVPN_NEW_KEY_ATTR_UNSPEC: unused
 * @OVPN_NEW_KEY_ATTR_PEER_ID: u32
 * @OVPN_NEW_KEY_ATTR_KEY_SLOT: u8, &enum ovpn_key_slot
 * @OVPN_NEW_KEY_ATTR_KEY_ID: u8, 0 to 7
 * @OVPN_NEW_KEY_ATTR_CIPHER_ALG: u16, &enum ovpn_cipher_alg
 * @OVPN_NEW_KEY_ATTR_ENCRYPT_KEY: nest of &enum ovpn_netlink_key_dir_attrs
 * @OVPN_NEW_KEY_ATTR_DECRYPT_KEY: nest of &enum ovpn_netlink_key_dir_attrs
 */
enum ovpn_netlink_new_key_attrs {
	OVPN_NEW_KEY_ATTR_UNSPEC = 0,
	OVPN_NEW_KEY_ATTR_PEER_ID = 1,
	OVPN_NEW_KEY_ATTR_KEY_SLOT = 2,
	OVPN_NEW_KEY_ATTR_KEY_ID = 3,
	OVPN_NEW_KEY_ATTR_CIPHER_ALG = 4,
	OVPN_NEW_KEY_ATTR_ENCRYPT_KEY = 5,
	OVPN_NEW_KEY_ATTR_DECRYPT_KEY = 6,

	OVPN_NEW_KEY_ATTR_MAX = OVPN_NEW_KEY_ATTR_DECRYPT_KEY,
	__OVPN_NEW_KEY_ATTR_AFTER_LAST = OVPN_NEW_KEY_ATTR_MAX + 1,
};

/**
 * enum ovpn_netlink_del_key_attrs - arguments of OVPN_CMD_DEL_KEY, all required
 *
 * @OVPN_DEL_KEY_ATTR_UNSPEC: unused
 * @OVPN_DEL_KEY_ATTR_PEER_ID: u32
 * @OVPN_DEL_KEY_ATTR_KEY_SLOT: u8, &enum ovpn_key_slot
 */
enum ovpn_netlink_del_key_attrs {
	OVPN_DEL_KEY_ATTR_UNSPEC = 0,
	OVPN_DEL_KEY_ATTR_PEER_ID = 1,
	OVPN_DEL_KEY_ATTR_KEY_SLOT = 2,

	OVPN_DEL_KEY_ATTR_MAX = OVPN_DEL_KEY_ATTR_KEY_SLOT,
	__OVPN_DEL_KEY_ATTR_AFTER_LAST = OVPN_DEL_KEY_ATTR_MAX + 1,
};

/**
 * enum ovpn_netlink_swap_keys_attrs - arguments of OVPN_CMD_SWAP_KEYS
 *
 * @OVPN_SWAP_KEYS_ATTR_UNSPEC: unused
 * @OVPN_SWAP_KEYS_ATTR_PEER_ID: u32, required
 */
enum ovpn_netlink_swap_keys_attrs {
	OVPN_SWAP_KEYS_ATTR_UNSPEC = 0,
	OVPN_SWAP_KEYS_ATTR_PEER_ID = 1,

	OVPN_SWAP_KEYS_ATTR_MAX = OVPN_SWAP_KEYS_ATTR_PEER_ID,
	__OVPN_SWAP_KEYS_ATTR_AFTER_LAST = OVPN_SWAP_KEYS_ATTR_MAX + 1,
};

/**
 * enum ovpn_netlink_new_peer_attrs - arguments of OVPN_CMD_NEW_PEER
 *
 * @OVPN_NEW_PEER_ATTR_UNSPEC: unused
 * @OVPN_NEW_PEER_ATTR_PEER_ID: u32 of at most 24 bits, required
 * @OVPN_NEW_PEER_ATTR_SOCKADDR_REMOTE: struct sockaddr_in or sockaddr_in6, where the
 *	peer is; required with a UDP socket
 * @OVPN_NEW_PEER_ATTR_SOCKET: u32, a file descriptor of the caller, required
 * @OVPN_NEW_PEER_ATTR_IPV4: 4 bytes in network order, the peer's address in the VPN
 * @OVPN_NEW_PEER_ATTR_IPV6: 16 bytes, the peer's address in the VPN
 * @OVPN_NEW_PEER_ATTR_LOCAL_IP: 4 or 16 bytes in network order, the address that the
 *	peer knows this host by
 *
 * In the mode OVPN_MODE_MP at least one address in the VPN is required.
 */
enum ovpn_netlink_new_peer_attrs {
	OVPN_NEW_PEER_ATTR_UNSPEC = 0,
	OVPN_NEW_PEER_ATTR_PEER_ID = 1,
	OVPN_NEW_PEER_ATTR_SOCKADDR_REMOTE = 2,
	OVPN_NEW_PEER_ATTR_SOCKET = 3,
	OVPN_NEW_PEER_ATTR_IPV4 = 4,
	OVPN_NEW_PEER_ATTR_IPV6 = 5,
	OVPN_NEW_PEER_ATTR_LOCAL_IP = 6,

	OVPN_NEW_PEER_ATTR_MAX = OVPN_NEW_PEER_ATTR_LOCAL_IP,
	__OVPN_NEW_PEER_ATTR_AFTER_LAST = OVPN_NEW_PEER_ATTR_MAX + 1,
};

/**
 * enum ovpn_netlink_set_peer_attrs - arguments of OVPN_CMD_SET_PEER
 *
 * @OVPN_SET_PEER_ATTR_UNSPEC: unused
 * @OVPN_SET_PEER_ATTR_PEER_ID: u32, required
 * @OVPN_SET_PEER_ATTR_KEEPALIVE_INTERVAL: u32 seconds of silence after which a
 *	keepalive is sent; 0: none is
 * @OVPN_SET_PEER_ATTR_KEEPALIVE_TIMEOUT: u32 seconds without a word from the peer
 *	after which it is gone; 0: it never is
 *
 * One keepalive value without the other sets neither.
 */
enum ovpn_netlink_set_peer_attrs {
	OVPN_SET_PEER_ATTR_UNSPEC = 0,
	OVPN_SET_PEER_ATTR_PEER_ID = 1,
	OVPN_SET_PEER_ATTR_KEEPALIVE_INTERVAL = 2,
	OVPN_SET_PEER_ATTR_KEEPALIVE_TIMEOUT = 3,

	OVPN_SET_PEER_ATTR_MAX = OVPN_SET_PEER_ATTR_KEEPALIVE_TIMEOUT,
	__OVPN_SET_PEER_ATTR_AFTER_LAST = OVPN_SET_PEER_ATTR_MAX + 1,
};

/**
 * enum ovpn_netlink_del_peer_attrs - arguments of OVPN_CMD_DEL_PEER, and what its
 *	notification says
 *
 * @OVPN_DEL_PEER_ATTR_UNSPEC: unused
 * @OVPN_DEL_PEER_ATTR_REASON: u8, &enum ovpn_del_peer_reason; says nothing in a request
 * @OVPN_DEL_PEER_ATTR_PEER_ID: u32, required
 */
enum ovpn_netlink_del_peer_attrs {
	OVPN_DEL_PEER_ATTR_UNSPEC = 0,
	OVPN_DEL_PEER_ATTR_REASON = 1,
	OVPN_DEL_PEER_ATTR_PEER_ID = 2,

	OVPN_DEL_PEER_ATTR_MAX = OVPN_DEL_PEER_ATTR_PEER_ID,
	__OVPN_DEL_PEER_ATTR_AFTER_LAST = OVPN_DEL_PEER_ATTR_MAX + 1,
};

/**
 * enum ovpn_netlink_get_peer_attrs - arguments of OVPN_CMD_GET_PEER
 *
 * @OVPN_GET_PEER_ATTR_UNSPEC: unused
 * @OVPN_GET_PEER_ATTR_PEER_ID: u32, required unless the request is a dump
 */
enum ovpn_netlink_get_peer_attrs {
	OVPN_GET_PEER_ATTR_UNSPEC = 0,
	OVPN_GET_PEER_ATTR_PEER_ID = 1,

	OVPN_GET_PEER_ATTR_MAX = OVPN_GET_PEER_ATTR_PEER_ID,
	__OVPN_GET_PEER_ATTR_AFTER_LAST = OVPN_GET_PEER_ATTR_MAX + 1,
};

/**
 * enum ovpn_netlink_get_peer_response_attrs - what OVPN_CMD_GET_PEER answers
 *
 * @OVPN_GET_PEER_RESP_ATTR_UNSPEC: unused, and the type of what aligns the u64s
 * @OVPN_GET_PEER_RESP_ATTR_PEER_ID: u32
 * @OVPN_GET_PEER_RESP_ATTR_SOCKADDR_REMOTE: struct sockaddr_in or sockaddr_in6, where
 *	the peer was last heard from; not over TCP
 * @OVPN_GET_PEER_RESP_ATTR_IPV4: 4 bytes in network order, if it has that address
 * @OVPN_GET_PEER_RESP_ATTR_IPV6: 16 bytes, if it has that address
 * @OVPN_GET_PEER_RESP_ATTR_LOCAL_IP: 4 or 16 bytes in network order, this host's
 *	address towards the peer
 * @OVPN_GET_PEER_RESP_ATTR_LOCAL_PORT: u16 in network order
 * @OVPN_GET_PEER_RESP_ATTR_KEEPALIVE_INTERVAL: u32 seconds
 * @OVPN_GET_PEER_RESP_ATTR_KEEPALIVE_TIMEOUT: u32 seconds
 * @OVPN_GET_PEER_RESP_ATTR_VPN_RX_BYTES: u64, IP packets that came from the peer
 * @OVPN_GET_PEER_RESP_ATTR_VPN_TX_BYTES: u64, IP packets that went to the peer
 * @OVPN_GET_PEER_RESP_ATTR_VPN_RX_PACKETS: u32, wraps around
 * @OVPN_GET_PEER_RESP_ATTR_VPN_TX_PACKETS: u32, wraps around
 * @OVPN_GET_PEER_RESP_ATTR_LINK_RX_BYTES: u64, payload that came over the transport
 * @OVPN_GET_PEER_RESP_ATTR_LINK_TX_BYTES: u64, payload that went over the transport
 * @OVPN_GET_PEER_RESP_ATTR_LINK_RX_PACKETS: u32, wraps around
 * @OVPN_GET_PEER_RESP_ATTR_LINK_TX_PACKETS: u32, wraps around
 */
enum ovpn_netlink_get_peer_response_attrs {
	OVPN_GET_PEER_RESP_ATTR_UNSPEC = 0,
	OVPN_GET_PEER_RESP_ATTR_PEER_ID = 1,
	OVPN_GET_PEER_RESP_ATTR_SOCKADDR_REMOTE = 2,
	OVPN_GET_PEER_RESP_ATTR_IPV4 = 3,
	OVPN_GET_PEER_RESP_ATTR_IPV6 = 4,
	OVPN_GET_PEER_RESP_ATTR_LOCAL_IP = 5,
	OVPN_GET_PEER_RESP_ATTR_LOCAL_PORT = 6,
	OVPN_GET_PEER_RESP_ATTR_KEEPALIVE_INTERVAL = 7,
	OVPN_GET_PEER_RESP_ATTR_KEEPALIVE_TIMEOUT = 8,
	OVPN_GET_PEER_RESP_ATTR_VPN_RX_BYTES = 9,
	OVPN_GET_PEER_RESP_ATTR_VPN_TX_BYTES = 10,
	OVPN_GET_PEER_RESP_ATTR_VPN_RX_PACKETS = 11,
	OVPN_GET_PEER_RESP_ATTR_VPN_TX_PACKETS = 12,
	OVPN_GET_PEER_RESP_ATTR_LINK_RX_BYTES = 13,
	OVPN_GET_PEER_RESP_ATTR_LINK_TX_BYTES = 14,
	OVPN_GET_PEER_RESP_ATTR_LINK_RX_PACKETS = 15,
	OVPN_GET_PEER_RESP_ATTR_LINK_TX_PACKETS = 16,

	OVPN_GET_PEER_RESP_ATTR_MAX = OVPN_GET_PEER_RESP_ATTR_LINK_TX_PACKETS,
	__OVPN_GET_PEER_RESP_ATTR_AFTER_LAST = OVPN_GET_PEER_RESP_ATTR_MAX + 1,
};

/*
 * No message carries the attributes of the next three enums. Their names are kept for
 * the programs that mention them.
 */

enum ovpn_netlink_peer_stats_attrs {
	OVPN_PEER_STATS_ATTR_UNSPEC = 0,
	OVPN_PEER_STATS_BYTES = 1,
	OVPN_PEER_STATS_PACKETS = 2,

	OVPN_PEER_STATS_ATTR_MAX = OVPN_PEER_STATS_PACKETS,
	__OVPN_PEER_STATS_ATTR_AFTER_LAST = OVPN_PEER_STATS_ATTR_MAX + 1,
};

enum ovpn_netlink_peer_attrs {
	OVPN_PEER_ATTR_UNSPEC = 0,
	OVPN_PEER_ATTR_PEER_ID = 1,
	OVPN_PEER_ATTR_SOCKADDR_REMOTE = 2,
	OVPN_PEER_ATTR_IPV4 = 3,
	OVPN_PEER_ATTR_IPV6 = 4,
	OVPN_PEER_ATTR_LOCAL_IP = 5,
	OVPN_PEER_ATTR_KEEPALIVE_INTERVAL = 6,
	OVPN_PEER_ATTR_KEEPALIVE_TIMEOUT = 7,
	OVPN_PEER_ATTR_ENCRYPT_KEY = 8,
	OVPN_PEER_ATTR_DECRYPT_KEY = 9,
	OVPN_PEER_ATTR_RX_STATS = 10,
	OVPN_PEER_ATTR_TX_STATS = 11,

	OVPN_PEER_ATTR_MAX = OVPN_PEER_ATTR_TX_STATS,
	__OVPN_PEER_ATTR_AFTER_LAST = OVPN_PEER_ATTR_MAX + 1,
};

enum ovpn_netlink_packet_attrs {
	OVPN_PACKET_ATTR_UNSPEC = 0,
	OVPN_PACKET_ATTR_PACKET = 1,
	OVPN_PACKET_ATTR_PEER_ID = 2,

	OVPN_PACKET_ATTR_MAX = OVPN_PACKET_ATTR_PEER_ID,
	__OVPN_PACKET_ATTR_AFTER_LAST = OVPN_PACKET_ATTR_MAX + 1,
};

/*
 * The link's own attributes (IFLA_INFO_DATA) have, from Linux 6.16 on, the same names
 * and numbers in <linux/if_link.h>, whose definitions go before these. Include it
 * first where both are needed.
 */
#ifndef IFLA_OVPN_MAX

/**
 * enum ovpn_ifla_attrs - what IFLA_INFO_DATA of the kind "ovpn-dco" holds
 *
 * @IFLA_OVPN_UNSPEC: unused
 * @IFLA_OVPN_MODE: u8, &enum ovpn_mode
 */
enum ovpn_ifla_attrs {
	IFLA_OVPN_UNSPEC = 0,
	IFLA_OVPN_MODE = 1,

	__IFLA_OVPN_AFTER_LAST = IFLA_OVPN_MODE + 1,
};

#define IFLA_OVPN_MAX (__IFLA_OVPN_AFTER_LAST - 1)

/**
 * enum ovpn_mode - how many peers an interface has
 *
 * @OVPN_MODE_P2P: one, and everything goes to it
 * @OVPN_MODE_MP: many, and routes say which of them a packet goes to
 */
enum ovpn_mode {
	OVPN_MODE_P2P = 0,
	OVPN_MODE_MP = 1,

	__OVPN_MODE_FIRST = OVPN_MODE_P2P,
	__OVPN_MODE_AFTER_LAST = OVPN_MODE_MP + 1,
};

#endif /* IFLA_OVPN_MAX */

#endif /* _UAPI_LINUX_OVPN_DCO_H_ */
