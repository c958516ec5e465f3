# SPDX-License-Identifier: GPL-2.0
"""What the kernel allocated and nothing points to any more, where the kernel looks for it."""

from __future__ import annotations

import time
from pathlib import Path

_FILE = Path("/sys/kernel/debug/kmemleak")
# Younger objects are not reported: their address may be on its way to where it will be kept.
_MIN_AGE = 5


def is_available() -> bool:
    """Whether this is a debug kernel, with kmemleak built in and on."""
    return _FILE.exists()


def slowness() -> int:
    """How many times as long as elsewhere anything may take here.

    A debug kernel looks at each access to memory and at each lock.
    """
    return 5 if is_available() else 1


def forget() -> None:
    """What is lost by now is not reported later; and nothing is looked for unless asked."""
    _FILE.write_text("scan=off")
    _FILE.write_text("clear")


def lost() -> str:
    """Backtraces of what has been lost since `forget`, empty if it is nothing."""
    time.sleep(_MIN_AGE + 0.5)
    # What a scan that runs beside the kernel missed is found by the next one.
    for _ in range(3):
        _FILE.write_text("scan")
        report = _FILE.read_text()
        if not report:
            break
        time.sleep(1)
    return report
