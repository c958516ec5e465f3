# SPDX-License-Identifier: GPL-2.0
"""One stream of TCP: how fast it was, and its longest pause."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass

from .namespace import Namespace

STEP = 16384


@dataclass(frozen=True)
class Result:
    """What the receiver saw from the first byte on."""

    bytes: int
    seconds: float
    longest_pause: float

    @property
    def kbit_per_second(self) -> float:
        """The mean rate."""
        return self.bytes * 8 / self.seconds / 1000

    def __str__(self) -> str:
        return f"{self.kbit_per_second:.0f} kbit/s, longest pause {self.longest_pause:.2f} s"


class Flow:
    """Sends from one namespace to an address in the other, in threads, for some seconds."""

    def __init__(
        self, sender: Namespace, receiver: Namespace, address: str, seconds: float
    ) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._seconds = seconds
        self._result: Result | None = None
        with receiver.socket(family, socket.SOCK_STREAM) as listener:
            listener.bind((address, 0))
            listener.listen()
            self._out = sender.socket(family, socket.SOCK_STREAM)
            self._out.settimeout(10)
            self._out.connect(listener.getsockname())
            self._in = listener.accept()[0]
        self._threads = [
            threading.Thread(target=run, daemon=True) for run in (self._send, self._receive)
        ]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        end = time.monotonic() + self._seconds
        with contextlib.suppress(OSError):
            while (left := end - time.monotonic()) > 0:
                self._out.settimeout(left)
                self._out.send(bytes(STEP))

    def _receive(self) -> None:
        began = latest = time.monotonic()
        count, pause = 0, 0.0
        end = began + self._seconds
        with contextlib.suppress(TimeoutError):
            while (left := end - time.monotonic()) > 0:
                self._in.settimeout(left)
                part = len(self._in.recv(1 << 20))
                if not part:
                    break
                now = time.monotonic()
                count, pause, latest = count + part, max(pause, now - latest), now
        now = time.monotonic()
        self._result = Result(count, now - began, max(pause, now - latest))

    def result(self) -> Result:
        """Wait for the end."""
        for thread in self._threads:
            thread.join(self._seconds + 10)
        self._out.close()
        self._in.close()
        if self._result is None:
            raise TimeoutError("the stream did not end")
        return self._result
