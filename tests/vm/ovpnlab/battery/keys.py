# SPDX-License-Identifier: GPL-2.0
"""NEW_KEY, SWAP_KEYS, DEL_KEY: ciphers, lengths, slots, ids."""

from __future__ import annotations

import os

from ..family import Cipher, Command, DelKey, Key, KeyDirection, NewKey, key_attributes
from ..netlink import attribute, nested, u8, u16, u32
from .bench import FRESH, STEADY, Bench
from .malformed import new_key

CIPHERS = {"AES-GCM": Cipher.AES_GCM, "ChaCha20-Poly1305": Cipher.CHACHA20_POLY1305}
DIRECTIONS = (NewKey.ENCRYPT_KEY, NewKey.DECRYPT_KEY)


def keys(bench: Bench) -> None:
    """The requests about keys of the steady peer."""
    for name, cipher in CIPHERS.items():
        lengths(bench, name, cipher)
    numbers(bench)
    directions(bench)
    slots(bench)


def lengths(bench: Bench, name: str, cipher: Cipher) -> None:
    """Keys of 0 to 64 bytes, nonce tails of 0 to 16, in one direction; the other one is good."""
    for direction in DIRECTIONS:
        good = new_key(CIPHER_ALG=u16(NewKey.CIPHER_ALG, cipher))
        for size in (*range(65), 128, 255, 256, 300):
            key = key_attributes(direction, Key.random(size))
            attributes = good | {direction.name: key}
            what = f"keys/{name}, {direction.name} of {size} bytes"
            bench.ask(what, Command.NEW_KEY, *attributes.values())
        for size in range(17):
            key = key_attributes(direction, Key(bytes(32), os.urandom(size)))
            attributes = good | {direction.name: key}
            what = f"keys/{name}, {direction.name} with a tail of {size} bytes"
            bench.ask(what, Command.NEW_KEY, *attributes.values())
    for size in (16, 24, 32):
        attributes = new_key(
            CIPHER_ALG=u16(NewKey.CIPHER_ALG, cipher),
            ENCRYPT_KEY=key_attributes(NewKey.ENCRYPT_KEY, Key.random(size)),
            DECRYPT_KEY=key_attributes(NewKey.DECRYPT_KEY, Key.random(size)),
        )
        bench.ask(f"keys/{name}, both of {size} bytes", Command.NEW_KEY, *attributes.values())


def numbers(bench: Bench) -> None:
    """Ciphers, slots and key ids, in range and out of it."""
    for cipher in (0, 3, 4, 255, 256, 257, 258, 0xFFFF):
        attributes = new_key(CIPHER_ALG=u16(NewKey.CIPHER_ALG, cipher))
        bench.ask(f"keys/cipher {cipher}", Command.NEW_KEY, *attributes.values())
    nothing = new_key(
        CIPHER_ALG=u16(NewKey.CIPHER_ALG, Cipher.NONE),
        ENCRYPT_KEY=nested(NewKey.ENCRYPT_KEY),
        DECRYPT_KEY=nested(NewKey.DECRYPT_KEY),
    )
    bench.ask("keys/cipher 0 without keys", Command.NEW_KEY, *nothing.values())
    for slot in (0, 1, 2, 3, 255):
        attributes = new_key(KEY_SLOT=u8(NewKey.KEY_SLOT, slot))
        bench.ask(f"keys/slot {slot}", Command.NEW_KEY, *attributes.values())
    for key_id in (*range(9), 15, 128, 255):
        for slot in (0, 1):
            attributes = new_key(
                KEY_ID=u8(NewKey.KEY_ID, key_id), KEY_SLOT=u8(NewKey.KEY_SLOT, slot)
            )
            bench.ask(f"keys/id {key_id} in slot {slot}", Command.NEW_KEY, *attributes.values())
    for peer_id in (STEADY, FRESH):
        for what, other in (
            ("a bad cipher", {"CIPHER_ALG": u16(NewKey.CIPHER_ALG, 3)}),
            ("a bad key id", {"KEY_ID": u8(NewKey.KEY_ID, 8)}),
            ("a bad length", {"ENCRYPT_KEY": key_attributes(NewKey.ENCRYPT_KEY, Key.random(5))}),
        ):
            attributes = new_key(peer_id, **other)
            bench.ask(f"keys/{what} for peer {peer_id}", Command.NEW_KEY, *attributes.values())


def directions(bench: Bench) -> None:
    """What the nest of one direction may hold."""
    key = attribute(KeyDirection.CIPHER_KEY, bytes(32))
    tail = attribute(KeyDirection.NONCE_TAIL, bytes(8))
    contents = {
        "empty": [],
        "no tail": [key],
        "no key": [tail],
        "backwards": [tail, key],
        "key twice": [key, key, tail],
        "key twice, last bad": [key, attribute(KeyDirection.CIPHER_KEY, bytes(5)), tail],
        "tail twice": [key, tail, tail],
        "unknown 0": [key, tail, u32(0, 1)],
        "unknown 3": [key, tail, u32(3, 1)],
        "nested flag on the key": [attribute(0x8000 | KeyDirection.CIPHER_KEY, bytes(32)), tail],
        "rubbish": [key, tail, b"\xff\xff\xff\xff"],
    }
    for direction in DIRECTIONS:
        for what, content in contents.items():
            attributes = new_key() | {direction.name: nested(direction, *content)}
            bench.ask(f"keys/{direction.name}: {what}", Command.NEW_KEY, *attributes.values())


def slots(bench: Bench) -> None:
    """Deleting and swapping with no, one and both slots filled."""

    def delete(slot: int, time: str) -> None:
        attributes = u32(DelKey.PEER_ID, STEADY) + u8(DelKey.KEY_SLOT, slot)
        bench.ask(f"keys/delete slot {slot}, {time}", Command.DEL_KEY, attributes)

    def swap(what: str) -> None:
        bench.ask(f"keys/swap with {what}", Command.SWAP_KEYS, u32(1, STEADY))

    def fill(slot: int, what: str) -> None:
        attributes = new_key(KEY_SLOT=u8(NewKey.KEY_SLOT, slot))
        bench.ask(f"keys/fill slot {slot}, {what}", Command.NEW_KEY, *attributes.values())

    fill(0, "full")
    fill(1, "full")
    swap("both")
    delete(1, "full")
    swap("primary")
    swap("secondary")
    delete(1, "empty")
    delete(0, "full")
    delete(0, "empty")
    swap("nothing")
    for slot in (2, 255):
        delete(slot, "beyond")
    fill(1, "empty")
    fill(0, "empty")
