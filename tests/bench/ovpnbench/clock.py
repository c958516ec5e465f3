# SPDX-License-Identifier: GPL-2.0
"""The clock of a machine that counts instructions."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

AUTOGROUP = Path("/proc/sys/kernel/sched_autogroup_enabled")


def counts_instructions() -> bool:
    """Whether scripts/vm was told so."""
    return os.environ.get("OVPN_DCO_ICOUNT") == "1"


@contextmanager
def kept_steady() -> Iterator[None]:
    """The processor never idles, if its clock counts instructions.

    An idle one lets time leap to the next timer while it waits for a file of the host: time
    limits pass in a moment, and a figure depends on how busy the host is. A process that
    everything else goes before, spinning, lets no time pass but that of instructions. The scheduler's
    groups by session must be off: the spinner's would get as much as the kernel's threads.
    """
    if not counts_instructions():
        yield
        return
    groups = AUTOGROUP.read_text()
    AUTOGROUP.write_text("0")
    spinner = os.fork()
    if spinner == 0:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        while os.getppid() != 1:
            for _ in range(10_000_000):
                pass
        os._exit(0)
    try:
        yield
    finally:
        os.kill(spinner, signal.SIGKILL)
        os.waitpid(spinner, 0)
        AUTOGROUP.write_text(groups)
