# SPDX-License-Identifier: GPL-2.0
"""Two namespaces joined by a cable: where each tunnel is measured."""

from __future__ import annotations

import socket

from ovpnlab.namespace import Namespace
from ovpnlab.network import cable

LEFT, RIGHT = "192.0.2.1", "192.0.2.2"
INNER_LEFT, INNER_RIGHT = "10.8.0.1", "10.8.0.2"
MTU = 1400
PORT = 1194


class Site:
    """The namespaces `left` and `right`; every tunnel gets fresh ones."""

    def __init__(self) -> None:
        self.left = Namespace("left")
        self.right = Namespace("right")
        cable(self.left, "eth0", (f"{LEFT}/24",), self.right, "eth0", (f"{RIGHT}/24",))

    @property
    def ends(self) -> tuple[tuple[Namespace, str, str, str], tuple[Namespace, str, str, str]]:
        """Both ends: namespace, outer address, inner address, and the other's outer address."""
        return (
            (self.left, LEFT, INNER_LEFT, RIGHT),
            (self.right, RIGHT, INNER_RIGHT, LEFT),
        )

    def udp_pair(self) -> tuple[socket.socket, socket.socket]:
        """A bound UDP socket at each end."""
        made = []
        for namespace, outer, _, _ in self.ends:
            sock = namespace.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((outer, PORT))
            made.append(sock)
        return made[0], made[1]

    def tcp_pair(self) -> tuple[socket.socket, socket.socket]:
        """The two ends of a TCP connection over the cable."""
        with self.left.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            listener.bind((LEFT, PORT))
            listener.listen(1)
            client = self.right.socket(socket.AF_INET, socket.SOCK_STREAM)
            client.settimeout(10)
            client.connect((LEFT, PORT))
            server, _ = listener.accept()
        client.settimeout(None)
        return server, client

    def close(self) -> None:
        """Delete both namespaces."""
        self.left.close()
        self.right.close()
