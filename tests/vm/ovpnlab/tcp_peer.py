# SPDX-License-Identifier: GPL-2.0
"""Peers over TCP: the daemon's end of the connection, and an endpoint in user space."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass

from . import link, stream
from .family import KeyPair, Peer, Removals
from .interface import Interface
from .namespace import Namespace
from .stream import StreamEndpoint

SO_SNDBUFFORCE = 32
FAR = {4: "192.0.2.2", 6: "2001:db8::2"}


@dataclass
class TcpPeer:
    """A peer of an interface, over a connection whose near end a daemon would have."""

    end: Interface
    peer_id: int
    daemon: socket.socket
    far: StreamEndpoint
    keys: KeyPair

    @property
    def ipv4(self) -> str:
        """Its address in the tunnel."""
        return f"10.8.0.{self.peer_id + 1}"

    @property
    def ipv6(self) -> str:
        """Its address in the tunnel."""
        return f"fd00:8::{self.peer_id + 1}"

    @property
    def state(self) -> Peer:
        """What GET_PEER says."""
        return self.end.peer(self.peer_id)

    def add(self, daemon: socket.socket | None = None) -> None:
        """Hand the connection over."""
        self.end.control.new_peer(
            self.end.index, self.peer_id, daemon or self.daemon, None, self.ipv4, self.ipv6
        )
        self.end.add_key(self.peer_id, self.keys)

    def delete(self) -> None:
        """Take the connection back."""
        self.end.control.del_peer(self.end.index, self.peer_id)

    def ping(self, sequence: int = 1, timeout: float = 5) -> None:
        """The tunnel works: an echo request from the far end is answered."""
        self.far.echo(self.ipv4, "10.8.0.1", sequence, timeout)

    def flood(self, count: int, size: int) -> None:
        """Send so many datagrams to the far end; `BlockingIOError` if they are held up."""
        with self.end.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            # Those that wait for the connection count against the sender's buffer.
            sock.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 1 << 24)
            sock.setblocking(False)
            for _ in range(count):
                sock.sendto(bytes(size), (self.ipv4, 9))

    def close(self) -> None:
        """Close both ends."""
        self.daemon.close()
        self.far.close()


class TcpLab:
    """An interface in multi-peer mode (10.8.0.1, fd00:8::1) whose peers come over TCP."""

    def __init__(self, near: Namespace, far: Namespace) -> None:
        self.namespaces = near, far
        self._stack = contextlib.ExitStack()
        addresses = ("10.8.0.1/24", "fd00:8::1/64")
        self.end = Interface(near, None, *addresses, mode=link.MODE_MP)
        self._stack.callback(self.end.close)
        self.removals = Removals(near)
        self._stack.callback(self.removals.close)

    def __enter__(self) -> TcpLab:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def peer(
        self,
        version: int = 4,
        peer_id: int = 1,
        add: bool = True,
        send_buffer: int | None = None,
        receive_buffer: int | None = None,
        family: int | None = None,
    ) -> TcpPeer:
        """A connection, and the peer over it; with `add=False` it is not handed over yet."""
        near, far = self.namespaces
        daemon, other = stream.connect(near, far, FAR[version], send_buffer, receive_buffer, family)
        keys = KeyPair.random()
        endpoint = StreamEndpoint(other, peer_id, keys.flipped())
        made = TcpPeer(self.end, peer_id, daemon, endpoint, keys)
        self._stack.callback(made.close)
        if add:
            made.add()
        return made

    def removed(self, peer_id: int = 1, timeout: float = 10) -> int:
        """The reason for which the peer is gone, of which there must be one notification."""
        heard = self.removals.collect(1, timeout)
        assert [removal.peer_id for removal in heard] == [peer_id], (
            f"one notification that peer {peer_id} is gone was expected, not {heard}"
        )
        assert not self.end.has_peer(peer_id), f"peer {peer_id} is gone, and GET_PEER shows it"
        return heard[0].reason
