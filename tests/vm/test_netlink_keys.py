# SPDX-License-Identifier: GPL-2.0
"""NEW_KEY, SWAP_KEYS and DEL_KEY: their good paths and each refusal."""

from __future__ import annotations

import errno

import pytest
from conftest import Refused
from ovpnlab.asking import new_key_attributes
from ovpnlab.family import Cipher, Command, Key, KeyDirection, KeyPair, NewKey, Slot, key_attributes
from ovpnlab.interface import Interface
from ovpnlab.netlink import attribute, nested, u8, u16, u32


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("cipher", "size"),
    [
        (Cipher.AES_GCM, 16),
        (Cipher.AES_GCM, 24),
        (Cipher.AES_GCM, 32),
        (Cipher.CHACHA20_POLY1305, 32),
    ],
)
def test_new_key(peer: Interface, cipher: Cipher, size: int) -> None:
    for slot in Slot:
        for key_id in range(8):
            peer.add_key(5, KeyPair.random(key_id, cipher, size), slot)


@pytest.mark.parametrize("missing", list(new_key_attributes()))
def test_new_key_missing_attribute(refused: Refused, steady: Interface, missing: str) -> None:
    attributes = new_key_attributes(**{missing: b""})
    with refused(errno.EINVAL):
        steady.control.request(Command.NEW_KEY, steady.index, *attributes.values())


GOOD_KEY = attribute(KeyDirection.CIPHER_KEY, bytes(32))
GOOD_TAIL = attribute(KeyDirection.NONCE_TAIL, bytes(8))


@pytest.mark.parametrize("direction", ["ENCRYPT_KEY", "DECRYPT_KEY"])
def test_new_key_malformed_direction(refused: Refused, steady: Interface, direction: str) -> None:
    for content in (
        [],
        [GOOD_KEY],
        [GOOD_TAIL],
        [GOOD_KEY, attribute(KeyDirection.NONCE_TAIL, bytes(7))],
        [GOOD_KEY, attribute(KeyDirection.NONCE_TAIL, bytes(9))],
        [attribute(KeyDirection.CIPHER_KEY, bytes(256)), GOOD_TAIL],
        [GOOD_KEY, GOOD_TAIL, u32(9, 9)],
    ):
        nest = nested(NewKey[direction], *content)
        attributes = new_key_attributes(**{direction: nest})
        with refused(errno.EINVAL, errno.ERANGE):
            steady.control.request(Command.NEW_KEY, steady.index, *attributes.values())


@pytest.mark.parametrize("direction", ["ENCRYPT_KEY", "DECRYPT_KEY"])
@pytest.mark.parametrize(
    ("cipher", "sizes"),
    [
        (Cipher.AES_GCM, (0, 1, 15, 17, 31, 33, 64, 255)),
        (Cipher.CHACHA20_POLY1305, (0, 16, 24, 31, 33, 255)),
    ],
)
def test_new_key_bad_length(
    refused: Refused, steady: Interface, cipher: Cipher, sizes: tuple[int, ...], direction: str
) -> None:
    for size in sizes:
        attributes = new_key_attributes(
            CIPHER_ALG=u16(NewKey.CIPHER_ALG, cipher),
            ENCRYPT_KEY=key_attributes(NewKey.ENCRYPT_KEY, Key.random(32)),
            DECRYPT_KEY=key_attributes(NewKey.DECRYPT_KEY, Key.random(32)),
        )
        attributes[direction] = key_attributes(NewKey[direction], Key.random(size))
        with refused(errno.EINVAL):
            steady.control.request(Command.NEW_KEY, steady.index, *attributes.values())


def test_new_key_unknown_cipher(refused: Refused, steady: Interface) -> None:
    for cipher in (3, 255, 0x100, 0x101, 0xFFFF):
        attributes = new_key_attributes(CIPHER_ALG=u16(NewKey.CIPHER_ALG, cipher))
        with refused(errno.EINVAL):
            steady.control.request(Command.NEW_KEY, steady.index, *attributes.values())


@pytest.mark.smoke
@pytest.mark.differs_from_c("EINVAL")
def test_new_key_cipher_none(refused: Refused, steady: Interface) -> None:
    """No encryption is for a module built with DEBUG=1, which this one is not."""
    attributes = new_key_attributes(CIPHER_ALG=u16(NewKey.CIPHER_ALG, Cipher.NONE))
    with refused(errno.EOPNOTSUPP):
        steady.control.request(Command.NEW_KEY, steady.index, *attributes.values())
    del attributes["ENCRYPT_KEY"], attributes["DECRYPT_KEY"]
    with refused(errno.EOPNOTSUPP, errno.EINVAL):
        steady.control.request(Command.NEW_KEY, steady.index, *attributes.values())


@pytest.mark.differs_from_c("it takes key ids that do not fit the wire")
@pytest.mark.parametrize("key_id", [8, 255])
def test_new_key_id_out_of_range(refused: Refused, steady: Interface, key_id: int) -> None:
    attributes = new_key_attributes(KEY_ID=u8(NewKey.KEY_ID, key_id))
    with refused(errno.ERANGE):
        steady.control.request(Command.NEW_KEY, steady.index, *attributes.values())


@pytest.mark.parametrize("slot", [2, 255])
def test_key_slot_out_of_range(refused: Refused, steady: Interface, slot: int) -> None:
    attributes = new_key_attributes(KEY_SLOT=u8(NewKey.KEY_SLOT, slot))
    with refused(errno.ERANGE):
        steady.control.request(Command.NEW_KEY, steady.index, *attributes.values())
    with refused(errno.ERANGE):
        steady.control.del_key(steady.index, 5, slot)


def test_del_key(refused: Refused, peer: Interface) -> None:
    """Emptying a slot that is empty succeeds."""
    for slot in Slot:
        for _ in range(2):
            peer.control.del_key(peer.index, 5, slot)
    with refused(errno.EINVAL):
        peer.control.request(Command.DEL_KEY, peer.index, u32(1, 5))


def test_swap_keys(peer: Interface) -> None:
    """With both, one, or no slot filled."""
    peer.add_key(5, KeyPair.random(1), Slot.SECONDARY)
    peer.control.swap_keys(peer.index, 5)
    peer.control.del_key(peer.index, 5, Slot.SECONDARY)
    peer.control.swap_keys(peer.index, 5)
    peer.control.del_key(peer.index, 5, Slot.SECONDARY)
    peer.control.swap_keys(peer.index, 5)
