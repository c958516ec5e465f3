# SPDX-License-Identifier: GPL-2.0
"""What the kernel complained about, from a marked moment on."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

COMPLAINTS = re.compile(
    "|".join(
        (
            r"\bWARNING\b",
            r"\bBUG\b",
            r"\bOops\b",
            r"Call Trace",
            r"\bKASAN\b|\bKCSAN\b|\bUBSAN\b|\bKFENCE: |\bODEBUG\b",
            r"general protection fault|Unable to handle|divide error|stack segment|double fault",
            r"[Kk]ernel panic|panicked at|rust_kernel: ",
            r"refcount_t|ref_tracker|leaked reference",
            r"unregister_netdevice: waiting",
            r"list_(add|del) corruption|Bad page|bad page state|Slab corruption|SLUB.*corrupt",
            r"circular locking|recursive locking|inconsistent lock|suspicious RCU|lock held when",
            r"bad unlock balance|DEADLOCK|held lock freed",
            r"sleeping function called|scheduling while atomic|Voluntary context switch within RCU",
            r"soft lockup|hard LOCKUP|detected stalls|blocked for more than|hung_task",
            r"kmemleak: \d+ new|memory leak",
            r"field-spanning|buffer overflow|fortify",
        )
    )
)

# How the kernel says that an allocation failed; a stack may follow.
FAILED_ALLOCATION = re.compile(
    r"percpu: allocation failed|page allocation failure|vmalloc error|vmap allocation"
    r"|ref_tracker: memory allocation failure"
)
_LINES_BEFORE_STACK = 8

_CLEAR_WARN_ONCE = Path("/sys/kernel/debug/clear_warn_once")

# Bits of /proc/sys/kernel/tainted that a fault sets: bad page, died, warned, soft lock-up.
_FAULTS = 1 << 5 | 1 << 7 | 1 << 9 | 1 << 14


def _forget_what_was_said_once() -> None:
    """Let WARN_ONCE warn again: what a fault does in each test is each test's failure."""
    with contextlib.suppress(OSError):
        _CLEAR_WARN_ONCE.write_text("1\n")


def _taint() -> int:
    return int(Path("/proc/sys/kernel/tainted").read_text())


@dataclass(frozen=True)
class Record:
    """One record of the kernel log."""

    level: int
    seconds: float
    text: str

    def __str__(self) -> str:
        return f"[{self.seconds:12.6f}] {self.text}"


class KernelLog:
    """The kernel log from the moment that this object is made."""

    failed_allocations_expected: ClassVar[bool] = False

    def __init__(self) -> None:
        _forget_what_was_said_once()
        self._fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.lseek(self._fd, 0, os.SEEK_END)
        self._taint = _taint()
        self._records: list[Record] = []
        self.lost = False

    def records(self) -> list[Record]:
        """All records since the marked moment."""
        while True:
            try:
                raw = os.read(self._fd, 8192)
            except BlockingIOError:
                return self._records
            except OSError as error:
                if error.errno != errno.EPIPE:
                    raise
                self.lost = True  # overwritten before they were read
                continue
            head, _, text = raw.decode(errors="replace").partition(";")
            level, _sequence, microseconds, *_ = head.split(",")
            message = text.split("\n", 1)[0]
            self._records.append(Record(int(level) & 7, int(microseconds) / 1e6, message))

    def complaints(self) -> list[str]:
        """What must not be in the log of a healthy kernel, one line each."""
        found = [
            str(record)
            for place, record in enumerate(self.records())
            if COMPLAINTS.search(record.text) and not self._is_expected(place)
        ]
        if self.lost:
            found.append("(records were lost: the log ran over)")
        new_taint = _taint() & ~self._taint & _FAULTS
        if new_taint and not found:
            found.append(f"(the kernel is newly tainted: {new_taint:#x})")
        return found

    def _is_expected(self, place: int) -> bool:
        """Whether the record is of an allocation that was made to fail, or begins its stack."""
        if not self.failed_allocations_expected:
            return False
        stack = "Call Trace" in self._records[place].text
        first = max(place - _LINES_BEFORE_STACK, 0) if stack else place
        said = self._records[first : place + 1]
        return any(FAILED_ALLOCATION.search(record.text) for record in said)

    def tail(self, lines: int = 40) -> str:
        """The last records, as text."""
        return "\n".join(str(record) for record in self.records()[-lines:])

    def close(self) -> None:
        """Stop reading."""
        os.close(self._fd)
