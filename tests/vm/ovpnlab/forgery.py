# SPDX-License-Identifier: GPL-2.0
"""Packets that are nearly authentic."""

from __future__ import annotations

from . import packet
from .wire import Endpoint


def bits(index: int, data: bytes) -> bytes:
    """The data with one bit flipped."""
    return data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]


def forgeries(wire: Endpoint) -> list[bytes]:
    """Packets like authentic ones, each with something wrong."""
    good = wire.seal(packet.echo_request("10.8.0.2", "10.8.0.1", 1))
    return [
        bits(8, good),  # the tag
        bits(23, good),
        bits(24, good),  # the ciphertext
        bits(len(good) - 1, good),
        bits(7, good),  # the packet id
        good[:-1],
        good + b"\0",
        good[:24],  # nothing inside
        good[:9],
        good[:8] + bytes(len(good) - 8),
        bytes([good[0] + 1]) + good[1:],  # a key id that is not installed
    ]
