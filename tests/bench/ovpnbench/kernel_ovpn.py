# SPDX-License-Identifier: GPL-2.0
"""The kernel's own driver: link kind `ovpn`, generic netlink family `ovpn`."""

from __future__ import annotations

import ipaddress
import socket
import struct
from enum import IntEnum

from ovpnlab.family import Key, KeyPair
from ovpnlab.namespace import Namespace
from ovpnlab.netlink import (
    CTRL_ATTR_FAMILY_ID,
    GenericSocket,
    attribute,
    nested,
    u32,
)

KIND = "ovpn"
NAME = "ovpn"


class Command(IntEnum):
    """The commands that are used here."""

    PEER_NEW = 1
    PEER_GET = 3
    KEY_NEW = 6


class Top(IntEnum):
    """The top-level attributes."""

    IFINDEX = 1
    PEER = 2
    KEYCONF = 3


class Peer(IntEnum):
    """Attributes of a peer."""

    ID = 1
    REMOTE_IPV4 = 2
    REMOTE_PORT = 5
    SOCKET = 6
    VPN_IPV4 = 8


class KeyConf(IntEnum):
    """Attributes of a key."""

    PEER_ID = 1
    SLOT = 2
    KEY_ID = 3
    CIPHER_ALG = 4
    ENCRYPT_DIR = 5
    DECRYPT_DIR = 6


def _direction(kind: int, key: Key) -> bytes:
    return nested(kind, attribute(1, key.cipher_key), attribute(2, key.nonce_tail))


class Control:
    """Sends requests about the `ovpn` interfaces of one namespace."""

    def __init__(self, namespace: Namespace) -> None:
        with namespace.entered():
            self.socket = GenericSocket()
        (self.family,) = struct.unpack("=H", self.socket.family(NAME)[CTRL_ATTR_FAMILY_ID])

    def close(self) -> None:
        """Close the netlink socket."""
        self.socket.close()

    def new_peer(
        self,
        index: int,
        peer_id: int,
        transport: socket.socket,
        remote: tuple[str, int] | None = None,
        ipv4: str | None = None,
    ) -> None:
        """Add a peer: `remote` over UDP only, `ipv4` in mode MP only."""
        nest = [u32(Peer.ID, peer_id), u32(Peer.SOCKET, transport.fileno())]
        if remote is not None:
            nest.append(attribute(Peer.REMOTE_IPV4, ipaddress.ip_address(remote[0]).packed))
            nest.append(attribute(Peer.REMOTE_PORT, struct.pack("!H", remote[1])))
        if ipv4 is not None:
            nest.append(attribute(Peer.VPN_IPV4, ipaddress.ip_address(ipv4).packed))
        self._send(Command.PEER_NEW, u32(Top.IFINDEX, index), nested(Top.PEER, *nest))

    def new_key(self, index: int, peer_id: int, keys: KeyPair) -> None:
        """Install a primary key."""
        nest = [
            u32(KeyConf.PEER_ID, peer_id),
            u32(KeyConf.SLOT, 0),
            u32(KeyConf.KEY_ID, keys.key_id),
            u32(KeyConf.CIPHER_ALG, keys.cipher),
            _direction(KeyConf.ENCRYPT_DIR, keys.encrypt),
            _direction(KeyConf.DECRYPT_DIR, keys.decrypt),
        ]
        self._send(Command.KEY_NEW, u32(Top.IFINDEX, index), nested(Top.KEYCONF, *nest))

    def _send(self, command: Command, *attributes: bytes) -> None:
        self.socket.command(self.family, command, b"".join(attributes))
