# SPDX-License-Identifier: GPL-2.0
"""Many requests to the family `ovpn-dco-v2` in one system call."""

from __future__ import annotations

import time

from .family import Control
from .namespace import Namespace
from .netlink import NLM_F_REQUEST, NLMSG_ERROR, Message, message, outcome

# A datagram must fit into the socket's send buffer.
_MOST = 200


class Batch(Control):
    """Collects requests until `flush`, so that time is spent in the kernel and not here."""

    def __init__(self, namespace: Namespace) -> None:
        super().__init__(namespace)
        self._collected: list[bytes] = []

    def send(self, command: int, *attributes: bytes, flags: int = 0) -> list[Message]:
        """Collect any command with any attributes; there is no answer yet."""
        payload = bytes((command, 1, 0, 0)) + b"".join(attributes)
        sequence = len(self._collected) + 1
        self._collected.append(message(self.family, NLM_F_REQUEST | flags, sequence, payload))
        return []

    def flush(self) -> float:
        """Send what was collected; the seconds that the kernel took. `NetlinkError` if it refused.

        The kernel has worked on a datagram when the call returns, and answers refusals only.
        """
        collected, self._collected = self._collected, []
        seconds = 0.0
        for first in range(0, len(collected), _MOST):
            datagram = b"".join(collected[first : first + _MOST])
            began = time.perf_counter()
            self.socket.socket.send(datagram)
            seconds += time.perf_counter() - began
            self._check()
        return seconds

    def _check(self) -> None:
        try:
            for answer in self.socket.receive(timeout=0):
                if answer.kind == NLMSG_ERROR:
                    outcome(answer)
        except BlockingIOError:
            return
