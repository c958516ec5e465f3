# SPDX-License-Identifier: GPL-2.0
"""Pings and their figures."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .command import CommandFailed
from .namespace import Namespace


@dataclass(frozen=True)
class Ping:
    """What came of a series of pings."""

    sent: int
    received: int
    average_ms: float
    output: str

    @property
    def complete(self) -> bool:
        """Every ping was answered."""
        return self.sent == self.received and self.sent > 0

    def __str__(self) -> str:
        return f"{self.received}/{self.sent}, {self.average_ms:.1f} ms"


def ping(
    namespace: Namespace,
    to: str,
    count: int = 3,
    size: int = 56,
    interval: float = 0.1,
    wait: float = 5,
    source: str | None = None,
    fragment: bool = True,
    attempts: int = 1,
) -> Ping:
    """Ping an address; no answer is a result, not an error.

    `attempts` repeats the whole series until one is complete, for a path that may
    still be coming up.
    """
    argv = ["ping", "-n", "-c", str(count), "-s", str(size), "-i", str(interval)]
    argv += ["-W", str(wait)]
    if source:
        argv += ["-I", source]
    if not fragment:
        argv += ["-M", "do"]
    for _ in range(attempts):
        output = namespace.run(*argv, to, timeout=count * interval + wait + 15, check=False)
        result = _parse(argv, output)
        if result.complete:
            break
    return result


def _parse(argv: list[str], output: str) -> Ping:
    totals = re.search(r"(\d+) packets transmitted, (\d+) received", output)
    if not totals:
        raise CommandFailed(argv, 2, output)
    average = re.search(r"= [\d.]+/([\d.]+)/", output)
    return Ping(
        sent=int(totals[1]),
        received=int(totals[2]),
        average_ms=float(average[1]) if average else 0.0,
        output=output,
    )
