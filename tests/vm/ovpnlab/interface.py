# SPDX-License-Identifier: GPL-2.0
"""An `ovpn-dco` interface with its UDP socket and its control, without OpenVPN."""

from __future__ import annotations

import contextlib
import socket

from . import link
from .family import Control, KeyPair, Peer, Slot
from .namespace import Namespace
from .netlink import NetlinkError


class Interface:
    """An interface that is up, has addresses, and whose peers share one UDP socket.

    It takes IPv6 only if one of its addresses is IPv6: nothing but the tests'
    traffic goes out of it.
    """

    def __init__(
        self,
        namespace: Namespace,
        outer: str | None = None,
        *addresses: str,
        mode: int = link.MODE_P2P,
        name: str = "tun0",
        port: int = 0,
        mtu: int | None = None,
    ) -> None:
        self.namespace = namespace
        self.name = name
        self.index = link.create(namespace, name, mode, mtu=mtu)
        self.control = Control(namespace)
        self.socket: socket.socket | None = None
        namespace.sysctl(f"ipv6.conf.{name}.addr_gen_mode", 1)
        namespace.sysctl(f"ipv6.conf.{name}.router_solicitations", 0)
        if not any(":" in address for address in addresses):
            namespace.sysctl(f"ipv6.conf.{name}.disable_ipv6", 1)
        for address in addresses:
            link.add_address(namespace, name, address)
        link.set_up(namespace, name)
        if outer is not None:
            self.socket = udp_socket(namespace, outer, port)

    @property
    def address(self) -> tuple[str, int]:
        """The outer address and port."""
        host, port, *_ = self.transport.getsockname()
        return host, port

    @property
    def transport(self) -> socket.socket:
        """The outer socket."""
        assert self.socket is not None
        return self.socket

    def add_peer(
        self,
        peer_id: int,
        remote: tuple[str, int],
        keys: KeyPair | None = None,
        ipv4: str | None = None,
        ipv6: str | None = None,
        transport: socket.socket | None = None,
    ) -> None:
        """Add a peer, and its primary key."""
        sock = self.transport if transport is None else transport
        self.control.new_peer(self.index, peer_id, sock, remote, ipv4, ipv6)
        if keys is not None:
            self.add_key(peer_id, keys)

    def add_key(self, peer_id: int, keys: KeyPair, slot: int = Slot.PRIMARY) -> None:
        """Install a key."""
        self.control.new_key(self.index, peer_id, keys, slot)

    def peer(self, peer_id: int) -> Peer:
        """What GET_PEER says."""
        return self.control.peer(self.index, peer_id)

    def peers(self) -> list[Peer]:
        """What a GET_PEER dump says."""
        return self.control.peers(self.index)

    def has_peer(self, peer_id: int) -> bool:
        """Whether GET_PEER knows the peer."""
        return any(peer.peer_id == peer_id for peer in self.peers())

    def say(self, destination: str, data: bytes = b"x", port: int = 9, source: str = "") -> None:
        """Send a datagram from the interface's namespace."""
        family = socket.AF_INET6 if ":" in destination else socket.AF_INET
        with self.namespace.socket(family, socket.SOCK_DGRAM) as sender:
            if source:
                sender.bind((source, 0))
            sender.sendto(data, (destination, port))

    def close(self) -> None:
        """Delete the interface, if it is still there, and close the sockets."""
        with contextlib.suppress(NetlinkError):
            link.delete(self.namespace, self.name)
        self.control.close()
        if self.socket is not None:
            self.socket.close()


def udp_socket(namespace: Namespace, address: str, port: int = 0) -> socket.socket:
    """A bound UDP socket; a link-local address is given as fe80::1%eth0."""
    host, _, scope = address.partition("%")
    if ":" in host:
        made = namespace.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        made.bind((host, port, 0, namespace.index(scope) if scope else 0))
    else:
        made = namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((host, port))
    return made
