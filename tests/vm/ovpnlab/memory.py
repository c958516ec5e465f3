# SPDX-License-Identifier: GPL-2.0
"""How much memory the kernel has in use for itself."""

from __future__ import annotations

import time
from pathlib import Path

from . import kmemleak

# What a module's objects and tables are made of. Pages of packets and of files are not in it.
_FIELDS = ("SUnreclaim", "Percpu", "VmallocUsed")


def is_comparable() -> bool:
    """Whether `used` tells what is in use: a debug kernel keeps what was freed, to watch it.

    There kmemleak looks for what is lost.
    """
    return not kmemleak.is_available()


def used() -> int:
    """Bytes of slabs that cannot be reclaimed, per-CPU and vmalloc memory."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    values = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}
    return sum(values[name] for name in _FIELDS) * 1024


def settled(timeout: float = 30, quiet: float = 1.5) -> int:
    """The least of `used` when it has not fallen for a while.

    What is freed comes back after RCU's grace periods, and after the work that frees it.
    """
    deadline = time.monotonic() + timeout
    least, since = used(), time.monotonic()
    while time.monotonic() < min(since + quiet, deadline):
        time.sleep(0.2)
        now = used()
        if now < least - (16 << 10):
            since = time.monotonic()
        least = min(least, now)
    # Slabs of which no object is in use are kept for the next one.
    for cache in Path("/sys/kernel/slab").glob("*kmalloc*/shrink"):
        cache.write_text("1")
    return used()
