# SPDX-License-Identifier: GPL-2.0
"""Waiting for a condition, always with a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(
    condition: Callable[[], T],
    what: str,
    timeout: float = 10,
    interval: float = 0.05,
) -> T:
    """Return the first true value of `condition`; `TimeoutError` names `what` if none comes."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout:g} s")
        time.sleep(interval)


def stays(condition: Callable[[], object], what: str, seconds: float, interval: float = 0.1) -> None:
    """Check that `condition` holds for so many seconds; `AssertionError` names `what` if not."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not condition():
            raise AssertionError(f"{what}: not for {seconds:g} s")
        time.sleep(interval)
