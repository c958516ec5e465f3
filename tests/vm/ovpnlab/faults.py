# SPDX-License-Identifier: GPL-2.0
"""Allocations that fail on demand: failslab and fail_page_alloc of a debug kernel.

One by one: the n-th allocation of a task fails (`/proc/TASK/fail-nth`), for every n that there is.
By chance: so many of a hundred do. That the kernel says so is no complaint then.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Container, Iterator
from pathlib import Path

from .kernel_log import KernelLog
from .namespace import Namespace
from .netlink import NetlinkError, NetlinkSocket

_DEBUG = Path("/sys/kernel/debug")
_POINTS = (_DEBUG / "failslab", _DEBUG / "fail_page_alloc")
OUT_OF_MEMORY = {errno.ENOMEM, errno.ENOBUFS}


def available() -> bool:
    """Whether this kernel can let allocations fail."""
    return all(point.exists() for point in _POINTS) and Path("/proc/self/fail-nth").exists()


def _set(probability: int, sleeping: bool = True, marked: bool = False) -> None:
    values = {
        "interval": "1",
        "times": "-1",
        "space": "0",
        "verbose": "0",
        "task-filter": "Y" if marked else "N",
        "ignore-gfp-wait": "N" if sleeping else "Y",
    }
    # Nothing may fail while it is only half said what may.
    for point in _POINTS:
        (point / "probability").write_text("0")
    for point in _POINTS:
        for name, value in values.items():
            (point / name).write_text(value)
    (_POINTS[1] / "min-order").write_text("0")
    for point in _POINTS:
        (point / "probability").write_text(str(probability))


@contextlib.contextmanager
def armed() -> Iterator[None]:
    """Allocations may be made to fail, those that may sleep too; none does so by itself."""
    KernelLog.failed_allocations_expected = True
    try:
        _set(0)
        yield
    finally:
        _set(0)
        KernelLog.failed_allocations_expected = False


@contextlib.contextmanager
def percent(probability: int, marked: bool = False) -> Iterator[None]:
    """So many of a hundred allocations fail.

    Those that may not sleep, whoever makes them; or, `marked`, all of tasks that are; see `mark`.
    """
    try:
        _set(probability, sleeping=marked, marked=marked)
        yield
    finally:
        _set(0)


def mark(task: int, on: bool = True) -> None:
    """The allocations of a task may fail, of any kind."""
    Path(f"/proc/{task}/make-it-fail").write_text("1" if on else "0")


class Fault:
    """While the context lasts, the n-th allocation of a task fails.

    The task is the calling thread, if none is named.
    What a task does in the service of an interrupt does not count.
    """

    def __init__(self, nth: int, task: str = "thread-self") -> None:
        self.nth = nth
        self.hit = False
        self._place = f"/proc/{task}/fail-nth"

    def __enter__(self) -> Fault:
        self._fd = os.open(self._place, os.O_RDWR | os.O_CLOEXEC)
        os.pwrite(self._fd, b"%d" % self.nth, 0)
        return self

    def __exit__(self, *_: object) -> None:
        self.look()
        os.pwrite(self._fd, b"0", 0)
        os.close(self._fd)

    def look(self) -> bool:
        """Whether the allocation has failed by now."""
        self.hit = self.hit or os.pread(self._fd, 16, 0).strip() == b"0"
        return self.hit


class Chance:
    """While the context lasts, the calling thread is marked."""

    def __enter__(self) -> None:
        # Opening it takes memory, which may fail while the thread is marked.
        self._fd = os.open("/proc/thread-self/make-it-fail", os.O_WRONLY | os.O_CLOEXEC)
        os.pwrite(self._fd, b"1", 0)

    def __exit__(self, *_: object) -> None:
        os.pwrite(self._fd, b"0", 0)
        os.close(self._fd)


@contextlib.contextmanager
def in_requests(fault: contextlib.AbstractContextManager[object]) -> Iterator[None]:
    """Netlink requests are done within the fault, and nothing else."""
    NetlinkSocket.within = fault
    try:
        yield
    finally:
        NetlinkSocket.within = contextlib.nullcontext()


def sweep(
    do: Callable[[Fault], None],
    settle: Callable[[OSError | None], None],
    task: str = "thread-self",
    answers: Container[int] = OUT_OF_MEMORY,
    most: int = 3000,
) -> int:
    """Do it with the first allocation failing, with the second, and so on until none is left to.

    `settle` is given how it failed, if it did; it checks what is there, and puts things back to how
    they were before. Returns how many allocations failed.
    """
    for nth in range(1, most):
        fault = Fault(nth, task)
        error = None
        try:
            do(fault)
        except OSError as caught:
            error = caught
        what = f"with allocation {nth} failing"
        if error is not None:
            assert error.errno in answers, f"{what}, out of memory is expected: {error!r}"
            assert fault.hit, f"{what}, it was not reached, but: {error!r}"
        try:
            settle(error)
        except Exception as trouble:
            trouble.add_note(f"{what}, and the answer {error!r}")
            raise
        if not fault.hit:
            return nth - 1
    raise AssertionError(f"after {most} allocations there are still more")


def refused(error: OSError | None) -> bool | None:
    """Whether a request was: the kernel says so, or does not, or could not say it (None)."""
    if error is None:
        return False
    return True if isinstance(error, NetlinkError) else None


@contextlib.contextmanager
def received_by_thread(namespace: Namespace, sender: Namespace, interface: str) -> Iterator[str]:
    """A thread of the kernel, whose id this is, takes in what comes by a cable.

    Otherwise an interrupt would, for which the n-th allocation cannot be chosen. At both ends the
    interface has the same name.
    """
    setting = f"/sys/class/net/{interface}/threaded"
    # The driver takes the long way for what could be joined only.
    sender.run("ethtool", "-K", interface, "tso", "off")
    namespace.run("ethtool", "-K", interface, "gro", "on")

    def switch(value: int) -> None:
        # Of the interfaces of the namespace that it was mounted in, sysfs tells.
        namespace.run(
            *("ip", "netns", "exec", namespace.name, "sh", "-c", f"echo {value} >{setting}")
        )

    switch(1)
    try:
        found = [
            task.parent.name
            for task in Path("/proc").glob("[0-9]*/comm")
            if task.read_text().startswith(f"napi/{interface}-")
        ]
        if len(found) != 1:
            raise RuntimeError(f"the threads of {interface} are {found}")
        yield found[0]
    finally:
        switch(0)
        namespace.run("ethtool", "-K", interface, "gro", "off")
        sender.run("ethtool", "-K", interface, "tso", "on")
