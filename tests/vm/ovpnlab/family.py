# SPDX-License-Identifier: GPL-2.0
"""The generic netlink family `ovpn-dco-v2`: numbers, requests, replies, notifications."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
import time
from dataclasses import dataclass
from enum import IntEnum

from .namespace import Namespace
from .netlink import (
    CTRL_ATTR_FAMILY_ID,
    CTRL_ATTR_MCAST_GROUPS,
    NLM_F_DUMP,
    GenericSocket,
    Message,
    attribute,
    nested,
    parse,
    u8,
    u16,
    u32,
    walk,
)

NAME = "ovpn-dco-v2"
GROUP = "peers"
PEER_ID_UNDEFINED = 0xFFFFFF


class Command(IntEnum):
    """The commands. Each but the first has its nest; see `Top`."""

    NEW_PEER = 1
    SET_PEER = 2
    DEL_PEER = 3
    NEW_KEY = 4
    SWAP_KEYS = 5
    DEL_KEY = 6
    GET_PEER = 7


class Top(IntEnum):
    """The top-level attributes."""

    IFINDEX = 1
    NEW_PEER = 2
    SET_PEER = 3
    DEL_PEER = 4
    NEW_KEY = 5
    SWAP_KEYS = 6
    DEL_KEY = 7
    GET_PEER = 8


NEST = {command: Top[command.name] for command in Command}


class NewPeer(IntEnum):
    """Attributes of NEW_PEER."""

    PEER_ID = 1
    SOCKADDR_REMOTE = 2
    SOCKET = 3
    IPV4 = 4
    IPV6 = 5
    LOCAL_IP = 6


class SetPeer(IntEnum):
    """Attributes of SET_PEER."""

    PEER_ID = 1
    KEEPALIVE_INTERVAL = 2
    KEEPALIVE_TIMEOUT = 3


class DelPeer(IntEnum):
    """Attributes of DEL_PEER, as a request and as a notification."""

    REASON = 1
    PEER_ID = 2


class NewKey(IntEnum):
    """Attributes of NEW_KEY."""

    PEER_ID = 1
    KEY_SLOT = 2
    KEY_ID = 3
    CIPHER_ALG = 4
    ENCRYPT_KEY = 5
    DECRYPT_KEY = 6


class KeyDirection(IntEnum):
    """Attributes of ENCRYPT_KEY and DECRYPT_KEY."""

    CIPHER_KEY = 1
    NONCE_TAIL = 2


class DelKey(IntEnum):
    """Attributes of DEL_KEY."""

    PEER_ID = 1
    KEY_SLOT = 2


class GetPeer(IntEnum):
    """Attributes of the reply to GET_PEER; the request has the first only."""

    PEER_ID = 1
    SOCKADDR_REMOTE = 2
    IPV4 = 3
    IPV6 = 4
    LOCAL_IP = 5
    LOCAL_PORT = 6
    KEEPALIVE_INTERVAL = 7
    KEEPALIVE_TIMEOUT = 8
    VPN_RX_BYTES = 9
    VPN_TX_BYTES = 10
    VPN_RX_PACKETS = 11
    VPN_TX_PACKETS = 12
    LINK_RX_BYTES = 13
    LINK_TX_BYTES = 14
    LINK_RX_PACKETS = 15
    LINK_TX_PACKETS = 16


class Slot(IntEnum):
    """The key slots."""

    PRIMARY = 0
    SECONDARY = 1


class Cipher(IntEnum):
    """The cipher algorithms."""

    NONE = 0
    AES_GCM = 1
    CHACHA20_POLY1305 = 2


class Reason(IntEnum):
    """Why a peer is gone."""

    TEARDOWN = 0
    USERSPACE = 1
    EXPIRED = 2
    TRANSPORT_ERROR = 3
    TRANSPORT_DISCONNECT = 4


# -- values -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Key:
    """The key of one direction."""

    cipher_key: bytes
    nonce_tail: bytes

    @classmethod
    def random(cls, size: int = 32) -> Key:
        """A fresh key."""
        return cls(os.urandom(size), os.urandom(8))


@dataclass(frozen=True)
class KeyPair:
    """What both ends of a tunnel agree on: a key for each direction."""

    encrypt: Key
    decrypt: Key
    key_id: int = 0
    cipher: Cipher = Cipher.AES_GCM

    @classmethod
    def random(cls, key_id: int = 0, cipher: Cipher = Cipher.AES_GCM, size: int = 32) -> KeyPair:
        """Fresh keys."""
        return cls(Key.random(size), Key.random(size), key_id, cipher)

    def flipped(self) -> KeyPair:
        """The same keys as the other end sees them."""
        return KeyPair(self.decrypt, self.encrypt, self.key_id, self.cipher)


@dataclass(frozen=True)
class Counters:
    """One of the four pairs of statistics of a peer."""

    packets: int
    bytes: int


@dataclass(frozen=True)
class Peer:
    """A peer as GET_PEER reports it."""

    peer_id: int
    remote: tuple[str, int] | None
    ipv4: str | None
    ipv6: str | None
    local_ip: str | None
    local_port: int
    keepalive_interval: int
    keepalive_timeout: int
    vpn_rx: Counters
    vpn_tx: Counters
    link_rx: Counters
    link_tx: Counters
    attributes: dict[int, bytes]


@dataclass(frozen=True)
class Removal:
    """A DEL_PEER notification."""

    index: int
    peer_id: int
    reason: int


def sockaddr(address: str, port: int) -> bytes:
    """A `struct sockaddr_in` or `struct sockaddr_in6`; fe80::1%3 has the scope id 3."""
    parsed = ipaddress.ip_address(address)
    if parsed.version == 4:
        return struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, parsed.packed)
    scope = struct.pack("=I", int(parsed.scope_id or 0))
    head = struct.pack("=H", socket.AF_INET6) + struct.pack("!HI16s", port, 0, parsed.packed)
    return head + scope


def parse_sockaddr(data: bytes) -> tuple[str, int]:
    """Address and port of a `struct sockaddr_in` or `struct sockaddr_in6`."""
    family = struct.unpack_from("=H", data)[0]
    port = struct.unpack_from("!H", data, 2)[0]
    if family == socket.AF_INET and len(data) == 16:
        return str(ipaddress.ip_address(data[4:8])), port
    if family == socket.AF_INET6 and len(data) == 28:
        (scope,) = struct.unpack_from("=I", data, 24)
        return str(ipaddress.ip_address(data[8:24])) + (f"%{scope}" if scope else ""), port
    raise ValueError(f"neither sockaddr_in nor sockaddr_in6: {data.hex()}")


def key_attributes(kind: int, key: Key) -> bytes:
    """The nest of one direction's key."""
    return nested(
        kind,
        attribute(KeyDirection.CIPHER_KEY, key.cipher_key),
        attribute(KeyDirection.NONCE_TAIL, key.nonce_tail),
    )


def _address(data: bytes | None) -> str | None:
    return None if data is None else str(ipaddress.ip_address(data))


def _unsigned(data: bytes, size: int) -> int:
    if len(data) != size:
        raise ValueError(f"{len(data)} bytes where {size} belong")
    return int.from_bytes(data, "little" if struct.pack("=H", 1)[0] else "big")


def parse_peer(message: Message) -> Peer:
    """The peer in a GET_PEER reply; the attributes must be of exactly the right widths."""
    top = parse(message.payload)
    nest = parse(top[Top.GET_PEER])

    def counters(packets: GetPeer, octets: GetPeer) -> Counters:
        return Counters(_unsigned(nest[packets], 4), _unsigned(nest[octets], 8))

    remote = nest.get(GetPeer.SOCKADDR_REMOTE)
    return Peer(
        peer_id=_unsigned(nest[GetPeer.PEER_ID], 4),
        remote=None if remote is None else parse_sockaddr(remote),
        ipv4=_address(nest.get(GetPeer.IPV4)),
        ipv6=_address(nest.get(GetPeer.IPV6)),
        local_ip=_address(nest.get(GetPeer.LOCAL_IP)),
        local_port=struct.unpack("!H", nest[GetPeer.LOCAL_PORT])[0],
        keepalive_interval=_unsigned(nest[GetPeer.KEEPALIVE_INTERVAL], 4),
        keepalive_timeout=_unsigned(nest[GetPeer.KEEPALIVE_TIMEOUT], 4),
        vpn_rx=counters(GetPeer.VPN_RX_PACKETS, GetPeer.VPN_RX_BYTES),
        vpn_tx=counters(GetPeer.VPN_TX_PACKETS, GetPeer.VPN_TX_BYTES),
        link_rx=counters(GetPeer.LINK_RX_PACKETS, GetPeer.LINK_RX_BYTES),
        link_tx=counters(GetPeer.LINK_TX_PACKETS, GetPeer.LINK_TX_BYTES),
        attributes=nest,
    )


# -- requests -----------------------------------------------------------------------------


class Control:
    """Sends requests about the interfaces of one namespace."""

    def __init__(self, namespace: Namespace) -> None:
        with namespace.entered():
            self.socket = GenericSocket()
        self.family = _unsigned(self.socket.family(NAME)[CTRL_ATTR_FAMILY_ID], 2)

    def close(self) -> None:
        """Close the netlink socket."""
        self.socket.close()

    def send(self, command: int, *attributes: bytes, flags: int = 0) -> list[Message]:
        """Send any command with any attributes."""
        return self.socket.command(self.family, command, b"".join(attributes), flags)

    def request(
        self, command: Command, index: int, *attributes: bytes, flags: int = 0
    ) -> list[Message]:
        """Send a command about an interface, with the attributes in the command's nest."""
        return self.send(
            command, u32(Top.IFINDEX, index), nested(NEST[command], *attributes), flags=flags
        )

    def new_peer(
        self,
        index: int,
        peer_id: int,
        transport: socket.socket | int,
        remote: tuple[str, int] | None = None,
        ipv4: str | None = None,
        ipv6: str | None = None,
        local_ip: str | None = None,
    ) -> None:
        """Add a peer."""
        descriptor = transport if isinstance(transport, int) else transport.fileno()
        attributes = [u32(NewPeer.PEER_ID, peer_id), u32(NewPeer.SOCKET, descriptor)]
        if remote is not None:
            attributes.append(attribute(NewPeer.SOCKADDR_REMOTE, sockaddr(*remote)))
        for kind, address in (
            (NewPeer.IPV4, ipv4),
            (NewPeer.IPV6, ipv6),
            (NewPeer.LOCAL_IP, local_ip),
        ):
            if address is not None:
                attributes.append(attribute(kind, ipaddress.ip_address(address).packed))
        self.request(Command.NEW_PEER, index, *attributes)

    def set_peer(self, index: int, peer_id: int, interval: int, timeout: int) -> None:
        """Set a peer's keepalive."""
        self.request(
            Command.SET_PEER,
            index,
            u32(SetPeer.PEER_ID, peer_id),
            u32(SetPeer.KEEPALIVE_INTERVAL, interval),
            u32(SetPeer.KEEPALIVE_TIMEOUT, timeout),
        )

    def del_peer(self, index: int, peer_id: int) -> None:
        """Remove a peer, as OpenVPN asks for it."""
        self.request(Command.DEL_PEER, index, u32(DelPeer.PEER_ID, peer_id))

    def new_key(self, index: int, peer_id: int, keys: KeyPair, slot: int = Slot.PRIMARY) -> None:
        """Install a key."""
        self.request(
            Command.NEW_KEY,
            index,
            u32(NewKey.PEER_ID, peer_id),
            u8(NewKey.KEY_SLOT, slot),
            u8(NewKey.KEY_ID, keys.key_id),
            u16(NewKey.CIPHER_ALG, keys.cipher),
            key_attributes(NewKey.ENCRYPT_KEY, keys.encrypt),
            key_attributes(NewKey.DECRYPT_KEY, keys.decrypt),
        )

    def swap_keys(self, index: int, peer_id: int) -> None:
        """Let primary and secondary key change places."""
        self.request(Command.SWAP_KEYS, index, u32(1, peer_id))

    def del_key(self, index: int, peer_id: int, slot: int) -> None:
        """Empty a key slot."""
        self.request(
            Command.DEL_KEY, index, u32(DelKey.PEER_ID, peer_id), u8(DelKey.KEY_SLOT, slot)
        )

    def peer(self, index: int, peer_id: int) -> Peer:
        """One peer."""
        (reply,) = self.request(Command.GET_PEER, index, u32(GetPeer.PEER_ID, peer_id))
        return parse_peer(reply)

    def peers(self, index: int) -> list[Peer]:
        """All peers, in the order of the dump."""
        replies = self.send(Command.GET_PEER, u32(Top.IFINDEX, index), flags=NLM_F_DUMP)
        return [parse_peer(reply) for reply in replies]


class Removals:
    """Hears the DEL_PEER notifications of one namespace."""

    def __init__(self, namespace: Namespace) -> None:
        with namespace.entered():
            self.socket = GenericSocket()
        groups = parse(self.socket.family(NAME)[CTRL_ATTR_MCAST_GROUPS])
        numbers = {}
        for group in groups.values():
            found = parse(group)
            numbers[found[1].rstrip(b"\0").decode()] = _unsigned(found[2], 4)
        self.socket.join(numbers[GROUP])

    def close(self) -> None:
        """Stop listening."""
        self.socket.close()

    def next(self, timeout: float = 5) -> Removal:
        """The next notification; `TimeoutError` if none comes."""
        (removal,) = self._receive(timeout)
        return removal

    def collect(self, count: int, timeout: float = 5, quiet: float = 0.3) -> list[Removal]:
        """`count` notifications, and any further ones that come in the `quiet` time after."""
        deadline = time.monotonic() + timeout
        found: list[Removal] = []
        while len(found) < count and (left := deadline - time.monotonic()) > 0:
            found += self._try(left)
        while more := self._try(quiet):
            found += more
        return found

    def _try(self, timeout: float) -> list[Removal]:
        try:
            return self._receive(max(timeout, 0.001))
        except TimeoutError:
            return []

    def _receive(self, timeout: float) -> list[Removal]:
        removals = []
        for command, attributes in self.socket.heard(timeout):
            top = dict(walk(attributes))
            if command != Command.DEL_PEER or set(top) != {Top.IFINDEX, Top.DEL_PEER}:
                raise ValueError(f"not a DEL_PEER notification: {command}, {attributes.hex()}")
            nest = parse(top[Top.DEL_PEER])
            removals.append(
                Removal(
                    index=_unsigned(top[Top.IFINDEX], 4),
                    peer_id=_unsigned(nest[DelPeer.PEER_ID], 4),
                    reason=_unsigned(nest[DelPeer.REASON], 1),
                )
            )
        return removals
