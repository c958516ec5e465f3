# SPDX-License-Identifier: GPL-2.0
"""WireGuard: link kind `wireguard`, generic netlink family `wireguard`."""

from __future__ import annotations

import base64
import ipaddress
import socket
import struct
from dataclasses import dataclass
from enum import IntEnum

from ovpnlab import command
from ovpnlab.family import sockaddr
from ovpnlab.namespace import Namespace
from ovpnlab.netlink import CTRL_ATTR_FAMILY_ID, GenericSocket, attribute, nested, u8, u16, u32

KIND = "wireguard"
NAME = "wireguard"
SET_DEVICE = 1
KEY_SIZE = 32


class Device(IntEnum):
    """Attributes of a device."""

    IFINDEX = 1
    PRIVATE_KEY = 3
    LISTEN_PORT = 6
    PEERS = 8


class Peer(IntEnum):
    """Attributes of a peer."""

    PUBLIC_KEY = 1
    ENDPOINT = 4
    ALLOWEDIPS = 9


class AllowedIp(IntEnum):
    """Attributes of an allowed address."""

    FAMILY = 1
    IPADDR = 2
    CIDR_MASK = 3


@dataclass(frozen=True)
class Identity:
    """The key pair of one end."""

    private: bytes
    public: bytes

    @classmethod
    def random(cls) -> Identity:
        """A fresh one, by openssl: the keys are the last bytes of their encodings."""
        private = command.run("openssl", "genpkey", "-algorithm", "X25519")
        public = command.run("openssl", "pkey", "-pubout", stdin=private)
        return cls(_last_bytes(private), _last_bytes(public))


def _last_bytes(pem: str) -> bytes:
    lines = [line for line in pem.splitlines() if not line.startswith("-")]
    return base64.b64decode("".join(lines))[-KEY_SIZE:]


def configure(
    namespace: Namespace,
    index: int,
    own: Identity,
    port: int,
    other: Identity,
    endpoint: tuple[str, int],
    allowed: str,
) -> None:
    """Give a device its key, its port and one peer."""
    network = ipaddress.ip_network(allowed)
    permitted = nested(
        0,
        u16(AllowedIp.FAMILY, socket.AF_INET),
        attribute(AllowedIp.IPADDR, network.network_address.packed),
        u8(AllowedIp.CIDR_MASK, network.prefixlen),
    )
    peer = nested(
        0,
        attribute(Peer.PUBLIC_KEY, other.public),
        attribute(Peer.ENDPOINT, sockaddr(*endpoint)),
        nested(Peer.ALLOWEDIPS, permitted),
    )
    request = (
        u32(Device.IFINDEX, index),
        attribute(Device.PRIVATE_KEY, own.private),
        u16(Device.LISTEN_PORT, port),
        nested(Device.PEERS, peer),
    )
    with namespace.entered():
        control = GenericSocket()
    with control:
        (family,) = struct.unpack("=H", control.family(NAME)[CTRL_ATTR_FAMILY_ID])
        control.command(family, SET_DEVICE, b"".join(request))
