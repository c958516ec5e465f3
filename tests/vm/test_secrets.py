# SPDX-License-Identifier: GPL-2.0
"""Keys in the machine's memory: where they are in use, and nowhere once they are gone."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MakeInterface
from ovpnlab.family import NEST, Cipher, Command, KeyDirection, KeyPair, NewKey, Slot, Top
from ovpnlab.interface import Interface
from ovpnlab.netlink import NLM_F_ACK, NLM_F_REQUEST, attribute, message, nested, u8, u16, u32

CORE = Path("/proc/kcore")
STEP = 4 << 20
KERNEL_IMAGE = 0xFFFF_FFFF_8000_0000
REMOTE = ("192.0.2.2", 9)


class Secret:
    """Bytes that this process never has in one piece: all begin alike, the rest is in two parts."""

    def __init__(self, head: bytes, size: int) -> None:
        self._head = head
        self._one, self._other = (os.urandom(size - len(head)) for _ in range(2))

    def __len__(self) -> int:
        return len(self._head) + len(self._one)

    def put(self, buffer: bytearray, place: int) -> None:
        """Write it into a buffer."""
        for at, byte in enumerate(self._head):
            buffer[place + at] = byte
        for at, (one, other) in enumerate(zip(self._one, self._other, strict=True)):
            buffer[place + len(self._head) + at] = one ^ other

    def is_at(self, buffer: bytearray, place: int) -> bool:
        """Whether it stands where its head does."""
        rest = buffer[place + len(self._head) : place + len(self)]
        return len(rest) == len(self._one) and all(
            byte == one ^ other
            for byte, one, other in zip(rest, self._one, self._other, strict=True)
        )


def _install(end: Interface, peer_id: int, secrets: tuple[Secret, Secret]) -> None:
    """NEW_KEY from a buffer that is wiped: where the keys stand then, the kernel has put them."""
    marks = [os.urandom(len(secret)) for secret in secrets]
    tail = os.urandom(8)
    directions = (NewKey.ENCRYPT_KEY, NewKey.DECRYPT_KEY)
    request = u32(Top.IFINDEX, end.index) + nested(
        NEST[Command.NEW_KEY],
        u32(NewKey.PEER_ID, peer_id),
        u8(NewKey.KEY_SLOT, Slot.PRIMARY),
        u8(NewKey.KEY_ID, 0),
        u16(NewKey.CIPHER_ALG, Cipher.AES_GCM),
        *(
            nested(
                direction,
                attribute(KeyDirection.CIPHER_KEY, mark),
                attribute(KeyDirection.NONCE_TAIL, tail),
            )
            for direction, mark in zip(directions, marks, strict=True)
        ),
    )
    head = struct.pack("=BBH", Command.NEW_KEY, 1, 0)
    generic = end.control.socket
    whole = bytearray(message(end.control.family, NLM_F_REQUEST | NLM_F_ACK, 1, head + request))
    places = [whole.index(mark) for mark in marks]
    for secret, place in zip(secrets, places, strict=True):
        secret.put(whole, place)
    generic.socket.send(whole)
    for secret, place in zip(secrets, places, strict=True):
        whole[place : place + len(secret)] = bytes(len(secret))
    (answer,) = generic.receive()
    assert struct.unpack_from("=i", answer.payload)[0] == 0, "NEW_KEY is refused"


def _memory() -> Iterator[tuple[int, int]]:
    """Where in /proc/kcore the machine's memory is: offset and length."""
    with CORE.open("rb") as core:
        head = core.read(64)
        offset, count = struct.unpack_from("=Q", head, 32)[0], struct.unpack_from("=H", head, 56)[0]
        core.seek(offset)
        for _ in range(count):
            kind, _flags, place, virtual, physical, size = struct.unpack(
                "=IIQQQQ16x", core.read(56)
            )
            if kind == 1 and physical != 0xFFFF_FFFF_FFFF_FFFF and virtual < KERNEL_IMAGE:
                yield place, size


def _count(head: bytes, secrets: list[Secret]) -> tuple[list[int], int]:
    """How often each secret stands in memory, and how much of that was looked through."""
    found, looked = [0] * len(secrets), 0
    buffer = bytearray(STEP)
    core = os.open(CORE, os.O_RDONLY)
    try:
        for place, size in list(_memory()):
            end = place + size
            while place < end:
                got = os.preadv(core, [memoryview(buffer)[: min(STEP, end - place)]], place)
                assert got > 0, f"/proc/kcore cannot be read at {place:#x}"
                looked += got
                at = buffer.find(head, 0, got)
                while at >= 0:
                    for number, secret in enumerate(secrets):
                        found[number] += secret.is_at(buffer, at)
                    at = buffer.find(head, at + 1, got)
                place += got
            buffer[:] = bytes(STEP)
    finally:
        os.close(core)
    return found, looked


@pytest.mark.skipif(not CORE.exists(), reason="this kernel shows no memory")
@pytest.mark.timeout(600)  # 2 GB are looked through
def test_keys_are_wiped(interface: MakeInterface) -> None:
    """Keys that were deleted, replaced, or went with their peer, stand nowhere in memory."""
    end = interface()
    for peer_id in range(1, 5):
        end.add_peer(peer_id, REMOTE, ipv4=f"10.8.0.{peer_id + 1}")
    head = os.urandom(12)
    secrets = [Secret(head, 32) for _ in range(8)]
    for peer_id in range(1, 5):
        _install(end, peer_id, (secrets[2 * peer_id - 2], secrets[2 * peer_id - 1]))
    end.control.del_key(end.index, 2, Slot.PRIMARY)
    end.add_key(3, KeyPair.random())
    end.control.del_peer(end.index, 4)
    time.sleep(1)  # keys go after a grace period
    began = time.monotonic()
    found, looked = _count(head, secrets)
    print(f"{found} in {looked >> 20} MiB, {time.monotonic() - began:.1f} s")
    assert all(found[:2]), f"keys in use stand {found[:2]} times in memory: it was not searched"
    assert not any(found[2:]), f"keys that are gone stand {found[2:]} times in memory"
