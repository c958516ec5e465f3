# SPDX-License-Identifier: GPL-2.0
"""Network interfaces over rtnetlink, among them those of kind `ovpn-dco`."""

from __future__ import annotations

import ipaddress
import socket
import struct
from dataclasses import dataclass

from .namespace import Namespace
from .netlink import NLM_F_CREATE, NLM_F_EXCL, attribute, nested, parse, text, u8, u32, walk

KIND = "ovpn-dco"
MODE_P2P = 0
MODE_MP = 1

RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18

RTM_NEWADDR = 20
IFA_ADDRESS = 1
IFA_LOCAL = 2
IFA_F_NODAD = 0x02

IFLA_IFNAME = 3
IFLA_MTU = 4
IFLA_LINKINFO = 18
IFLA_STATS64 = 23
IFLA_NET_NS_FD = 28
IFLA_MIN_MTU = 50
IFLA_MAX_MTU = 51
IFLA_INFO_KIND = 1
IFLA_INFO_DATA = 2
IFLA_OVPN_MODE = 1

IFF_UP = 0x1
IFF_POINTOPOINT = 0x10
IFF_NOARP = 0x80
IFF_MULTICAST = 0x1000

ARPHRD_NONE = 0xFFFE

# The first fields of struct rtnl_link_stats64
_STATISTICS = (
    "rx_packets",
    "tx_packets",
    "rx_bytes",
    "tx_bytes",
    "rx_errors",
    "tx_errors",
    "rx_dropped",
    "tx_dropped",
)

_IFINFOMSG = struct.Struct("=BxHiII")


def _number(payload: bytes) -> int:
    number: int = struct.unpack("=I", payload)[0]
    return number


@dataclass(frozen=True)
class Link:
    """What rtnetlink says of an interface."""

    index: int
    name: str
    hardware: int
    flags: int
    mtu: int
    min_mtu: int
    max_mtu: int
    kind: str
    data: dict[int, bytes]
    statistics: dict[str, int]

    @property
    def mode(self) -> int | None:
        """The mode that an `ovpn-dco` interface reports."""
        mode = self.data.get(IFLA_OVPN_MODE)
        return None if mode is None else mode[0]


def request_head(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    """The `struct ifinfomsg` that a request begins with."""
    return _IFINFOMSG.pack(socket.AF_UNSPEC, 0, index, flags, change)


def create(
    namespace: Namespace,
    name: str,
    mode: int | None = None,
    data: bytes | None = None,
    mtu: int | None = None,
    kind: str = KIND,
) -> int:
    """Make an `ovpn-dco` interface, or one of another kind, and return its index.

    `data` replaces the whole content of IFLA_INFO_DATA, for malformed requests.
    """
    if data is None and mode is not None:
        data = u8(IFLA_OVPN_MODE, mode)
    info = text(IFLA_INFO_KIND, kind)
    if data is not None:
        info += nested(IFLA_INFO_DATA, data)
    request = request_head() + text(IFLA_IFNAME, name) + nested(IFLA_LINKINFO, info)
    if mtu is not None:
        request += u32(IFLA_MTU, mtu)
    with namespace.route_socket() as rtnl:
        rtnl.request(RTM_NEWLINK, request, NLM_F_CREATE | NLM_F_EXCL)
    return namespace.index(name)


def delete(namespace: Namespace, name: str) -> None:
    """Delete an interface."""
    with namespace.route_socket() as rtnl:
        rtnl.request(RTM_DELLINK, request_head() + text(IFLA_IFNAME, name))


def set_mtu(namespace: Namespace, name: str, mtu: int) -> None:
    """Set the MTU."""
    _change(namespace, name, u32(IFLA_MTU, mtu))


def move(namespace: Namespace, name: str, to: Namespace) -> None:
    """Move an interface into another namespace."""
    _change(namespace, name, u32(IFLA_NET_NS_FD, to.fd))


def add_address(namespace: Namespace, name: str, address: str) -> None:
    """Give an interface an address, such as 10.8.0.1/24."""
    parsed = ipaddress.ip_interface(address)
    family = socket.AF_INET if parsed.version == 4 else socket.AF_INET6
    head = struct.pack(
        "=BBBBI", family, parsed.network.prefixlen, IFA_F_NODAD, 0, namespace.index(name)
    )
    packed = parsed.ip.packed
    with namespace.route_socket() as rtnl:
        attributes = attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
        rtnl.request(RTM_NEWADDR, head + attributes, NLM_F_CREATE | NLM_F_EXCL)


def set_up(namespace: Namespace, name: str, up: bool = True) -> None:
    """Set an interface up or down."""
    with namespace.route_socket() as rtnl:
        request = request_head(flags=IFF_UP if up else 0, change=IFF_UP) + text(IFLA_IFNAME, name)
        rtnl.request(RTM_NEWLINK, request)


def _change(namespace: Namespace, name: str, attributes: bytes) -> None:
    with namespace.route_socket() as rtnl:
        rtnl.request(RTM_NEWLINK, request_head() + text(IFLA_IFNAME, name) + attributes)


def get(namespace: Namespace, name: str) -> Link:
    """What rtnetlink says of an interface."""
    with namespace.route_socket() as rtnl:
        (reply,) = rtnl.request(RTM_GETLINK, request_head() + text(IFLA_IFNAME, name))
    _family, hardware, index, flags, _change = _IFINFOMSG.unpack_from(reply.payload)
    # Some attributes of other kinds stand twice in a link message; these do not.
    found = dict(walk(reply.payload[_IFINFOMSG.size :]))
    info = parse(found.get(IFLA_LINKINFO, b""))
    return Link(
        index=index,
        name=found[IFLA_IFNAME].rstrip(b"\0").decode(),
        hardware=hardware,
        flags=flags,
        mtu=_number(found[IFLA_MTU]),
        min_mtu=_number(found[IFLA_MIN_MTU]),
        max_mtu=_number(found[IFLA_MAX_MTU]),
        kind=info.get(IFLA_INFO_KIND, b"").rstrip(b"\0").decode(),
        data=parse(info.get(IFLA_INFO_DATA, b"")),
        statistics=dict(zip(_STATISTICS, struct.unpack_from("=8Q", found[IFLA_STATS64]))),
    )
