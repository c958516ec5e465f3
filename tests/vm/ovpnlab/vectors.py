# SPDX-License-Identifier: GPL-2.0
"""Packets with known answers, from tests/known-answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .family import Cipher, Key

FILE = Path(__file__).parents[2] / "known-answers" / "vectors.txt"


@dataclass(frozen=True)
class Sealed:
    """A DATA_V2 packet and the IP packet in it."""

    packet_id: int
    name: str
    inner: bytes
    datagram: bytes


@dataclass(frozen=True)
class Vector:
    """A key and the packets that it sealed."""

    name: str
    key_id: int
    peer_id: int
    key: Key
    packets: list[Sealed] = field(default_factory=list)

    @property
    def cipher(self) -> Cipher:
        """As the module calls it."""
        return Cipher.AES_GCM if self.name.startswith("AES") else Cipher.CHACHA20_POLY1305


def read() -> dict[str, Vector]:
    """All vectors, by the names of their ciphers."""
    inner: dict[str, bytes] = {}
    vectors: dict[str, Vector] = {}
    for line in FILE.read_text().splitlines():
        match line.split():
            case ["inner", name, data]:
                inner[name] = bytes.fromhex(data)
            case ["key", name, key_id, peer_id, key, tail]:
                pair = Key(bytes.fromhex(key), bytes.fromhex(tail))
                latest = vectors[name] = Vector(name, int(key_id), int(peer_id), pair)
            case ["packet", packet_id, name, data]:
                sealed = Sealed(int(packet_id), name, inner[name], bytes.fromhex(data))
                latest.packets.append(sealed)
    return vectors
