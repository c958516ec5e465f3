# SPDX-License-Identifier: GPL-2.0
"""Many netlink requests in few datagrams, so that the time is the kernel's and not Python's."""

from __future__ import annotations

import time

from ovpnlab.family import Control
from ovpnlab.namespace import Namespace
from ovpnlab.netlink import (
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    GenericSocket,
    Message,
    NetlinkError,
)

from . import kernel_ovpn

DATAGRAM = 32768
_HEADER = 16


class Batch(GenericSocket):
    """Takes the place of a control's socket: requests pile up until `flush`."""

    def __init__(self, namespace: Namespace, control: Control | kernel_ovpn.Control) -> None:
        with namespace.entered():
            super().__init__()
        self._pending = bytearray()
        self._datagrams: list[bytes] = []
        control.socket.close()
        control.socket = self

    def request(self, kind: int, payload: bytes, flags: int = 0) -> list[Message]:
        """Remember a request; nothing is known of its outcome yet."""
        length = _HEADER + len(payload)
        head = length.to_bytes(4, "little") + kind.to_bytes(2, "little")
        head += (NLM_F_REQUEST | flags).to_bytes(2, "little") + bytes(8)
        if len(self._pending) + length > DATAGRAM:
            self._datagrams.append(bytes(self._pending))
            self._pending.clear()
        self._pending += head + payload
        return []

    def flush(self) -> float:
        """Send all that was remembered; how many seconds the kernel took.

        Without a demand for an answer the kernel answers refusals only.
        """
        datagrams = [*self._datagrams, bytes(self._pending)]
        self._datagrams.clear()
        self._pending.clear()
        began = time.monotonic()
        for datagram in datagrams:
            self.socket.send(datagram)
        took = time.monotonic() - began
        self.socket.setblocking(False)
        try:
            answer = self.socket.recv(1 << 16)
        except BlockingIOError:
            return took
        raise NetlinkError(-int.from_bytes(answer[16:20], "little", signed=True), "in a batch")


def dump(namespace: Namespace, family: int, command: int, request: bytes) -> tuple[int, float]:
    """Dump; how many messages came, and how many seconds it took to get them."""
    with namespace.entered():
        sock = GenericSocket()
    with sock:
        sock.socket.settimeout(60)
        header = bytes((command, 1, 0, 0))
        datagrams = []
        began = time.monotonic()
        sock.send(family, NLM_F_REQUEST | NLM_F_DUMP, header + request)
        while not datagrams or _kinds(datagrams[-1])[-1] not in (NLMSG_DONE, NLMSG_ERROR):
            datagrams.append(sock.socket.recv(1 << 18))
        took = time.monotonic() - began
    return sum(kind == family for each in datagrams for kind in _kinds(each)), took


def _kinds(datagram: bytes) -> list[int]:
    kinds = []
    position = 0
    while position + _HEADER <= len(datagram):
        length = int.from_bytes(datagram[position : position + 4], "little")
        kinds.append(int.from_bytes(datagram[position + 4 : position + 6], "little"))
        position += (length + 3) & ~3
    return kinds
