# SPDX-License-Identifier: GPL-2.0
"""Waiting for a condition, always with a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal, TypeVar

T = TypeVar("T")


def until(
    condition: Callable[[], T | Literal[False]],
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
