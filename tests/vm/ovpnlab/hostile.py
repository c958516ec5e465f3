# SPDX-License-Identifier: GPL-2.0
"""What hostile packets may not change: counters, and what the daemon gets."""

from __future__ import annotations

import contextlib
import os
import random

import pytest

from . import link, waiting
from .interface import Interface

LONG = os.environ.get("OVPN_DCO_LONG") == "1"


def seed() -> int:
    """From OVPN_DCO_SEED, or another one each time; it is printed."""
    made = int(os.environ.get("OVPN_DCO_SEED") or random.randrange(1 << 32))
    print(f"OVPN_DCO_SEED={made}")
    return made


def accepted(end: Interface, peer_id: int = 1) -> tuple[int, int]:
    """How many packets the peer has sent authentically, and how many of them came out."""
    found = end.peer(peer_id)
    return found.link_rx.packets, found.vpn_rx.packets


def dropped(end: Interface) -> int:
    """How many packets the interface has dropped on their way in."""
    return link.get(end.namespace, end.name).statistics["rx_dropped"]


def wait_dropped(end: Interface, count: int, what: str) -> None:
    """So many packets have been dropped since the interface was made, and no more are."""
    with contextlib.suppress(TimeoutError):
        waiting.until(lambda: dropped(end) >= count, what, timeout=5)
    assert dropped(end) == count, f"{what}: {count} drops are due, {dropped(end)} were counted"


def wait_accepted(end: Interface, count: int, what: str) -> None:
    """Peer 1 has sent so many authentic packets, and no more."""
    with contextlib.suppress(TimeoutError):
        waiting.until(lambda: accepted(end)[0] >= count, what, timeout=5)
    found = accepted(end)[0]
    assert found == count, f"{what}: {count} are to be accepted, and {found} were"


def nothing_for_the_daemon(end: Interface) -> None:
    """No packet waits in the daemon's socket."""
    end.transport.setblocking(False)
    with pytest.raises(BlockingIOError):
        seen = end.transport.recv(65536)
        pytest.fail(f"the daemon should get nothing, and got {seen[:16].hex()}")


def flip(chance: random.Random, datagram: bytes, first: int = 8) -> bytes:
    """One bit is wrong, behind byte `first`."""
    place = chance.randrange(first, len(datagram))
    return (
        datagram[:place] + bytes([datagram[place] ^ 1 << chance.randrange(8)])
        + datagram[place + 1 :]
    )  # fmt: skip
