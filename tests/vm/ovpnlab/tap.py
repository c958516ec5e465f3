# SPDX-License-Identifier: GPL-2.0
"""Packets as they pass an interface, and packets put there."""

from __future__ import annotations

import socket
import time

from .namespace import Namespace

ETH_ALL = 3
ETH_IPV4 = 0x0800
ETH_IPV6 = 0x86DD


class Tap:
    """Sees the IP packets that come in by an interface, from when it is made on.

    Frames of Ethernet are seen without their headers.
    """

    def __init__(self, namespace: Namespace, interface: str) -> None:
        self.interface = interface
        self.socket = namespace.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
        self.socket.bind((interface, ETH_ALL))

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, packet: bytes) -> None:
        """Let an IP packet go out by the interface, as it is."""
        protocol = ETH_IPV6 if packet[0] >> 4 == 6 else ETH_IPV4
        self.socket.sendto(packet, (self.interface, protocol))

    def receive(self, timeout: float = 5) -> bytes:
        """The next IP packet; `TimeoutError` if none comes."""
        deadline = time.monotonic() + timeout
        while True:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            packet, (_, protocol, direction, *_rest) = self.socket.recvfrom(65536)
            if direction != socket.PACKET_OUTGOING and protocol in (ETH_IPV4, ETH_IPV6):
                return packet

    def waiting(self) -> list[bytes]:
        """The packets that have come until now."""
        packets = []
        try:
            while True:
                packets.append(self.receive(0.001))
        except TimeoutError:
            return packets
