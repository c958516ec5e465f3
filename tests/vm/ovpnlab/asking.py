# SPDX-License-Identifier: GPL-2.0
"""Interfaces to send requests to, for the suites of the netlink family."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from . import link
from .family import (
    Cipher,
    Control,
    KeyPair,
    NewKey,
    Reason,
    Removal,
    Removals,
    Slot,
    key_attributes,
)
from .interface import Interface
from .namespace import Namespace
from .netlink import NetlinkError, u8, u16, u32

REMOTE = ("192.0.2.2", 1194)


@pytest.fixture
def mp(alpha: Namespace, beta: Namespace) -> Iterator[Interface]:
    """A multi-peer interface without peers."""
    made = Interface(alpha, "192.0.2.1", "10.8.0.1/16", "fd00:8::1/64", mode=link.MODE_MP)
    yield made
    made.close()


@pytest.fixture
def p2p(alpha: Namespace, beta: Namespace) -> Iterator[Interface]:
    """A P2P interface without a peer."""
    made = Interface(alpha, "192.0.2.1", "10.9.0.1/24", name="p2p0")
    yield made
    made.close()


@pytest.fixture
def peer(mp: Interface) -> Interface:
    """A multi-peer interface with peer 5, which has a primary key."""
    mp.add_peer(5, REMOTE, KeyPair.random(), ipv4="10.8.0.5")
    return mp


class Steady:
    """A multi-peer interface with peer 5 for requests that are to be refused.

    A refused request leaves no trace, so the tests share it; each test looks whether
    it is as before, and the next one gets a new one if not.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._interface: Interface | None = None

    def interface(self) -> Interface:
        """The interface, with its peer."""
        if self._interface is None:
            addresses = ("10.8.0.1/16", "fd00:8::1/64")
            self._interface = Interface(
                self._namespace, "192.0.2.1", *addresses, mode=link.MODE_MP, name="steady"
            )
            self._interface.add_peer(5, REMOTE, KeyPair.random(), ipv4="10.8.0.5")
            self._before = self._interface.peers()
        return self._interface

    def check(self) -> None:
        """Fail if there is a trace of what was refused."""
        found = self.interface().peers()
        if found != self._before:
            self.close()
            pytest.fail(f"there were {self._before}, and now there are {found}")

    def close(self) -> None:
        """Delete the interface."""
        if self._interface is not None:
            self._interface.close()
            self._interface = None


@pytest.fixture(scope="module")
def steady_holder(alpha: Namespace, beta: Namespace) -> Iterator[Steady]:
    """What the tests of refusals share."""
    made = Steady(alpha)
    yield made
    made.close()


@pytest.fixture
def steady(steady_holder: Steady) -> Iterator[Interface]:
    """A multi-peer interface with peer 5 that must be the same after the test."""
    yield steady_holder.interface()
    steady_holder.check()


@pytest.fixture
def removals(alpha: Namespace) -> Iterator[Removals]:
    """The notifications of the namespace."""
    made = Removals(alpha)
    yield made
    made.close()


@pytest.fixture(scope="module")
def control(alpha: Namespace) -> Iterator[Control]:
    """Requests without an interface."""
    made = Control(alpha)
    yield made
    made.close()


def expire(interface: Interface, removals: Removals, peer_id: int) -> None:
    """Let a peer expire, and hear of it."""
    interface.control.set_peer(interface.index, peer_id, 0, 1)
    removal = removals.next(timeout=8)
    assert removal == Removal(interface.index, peer_id, Reason.EXPIRED)


def new_key_attributes(**other: bytes) -> dict[str, bytes]:
    """A good NEW_KEY for peer 5, attribute by attribute; `other` replaces some."""
    keys = KeyPair.random()
    return {
        "PEER_ID": u32(NewKey.PEER_ID, 5),
        "KEY_SLOT": u8(NewKey.KEY_SLOT, Slot.PRIMARY),
        "KEY_ID": u8(NewKey.KEY_ID, 1),
        "CIPHER_ALG": u16(NewKey.CIPHER_ALG, Cipher.AES_GCM),
        "ENCRYPT_KEY": key_attributes(NewKey.ENCRYPT_KEY, keys.encrypt),
        "DECRYPT_KEY": key_attributes(NewKey.DECRYPT_KEY, keys.decrypt),
    } | other


def attaches(interface: Interface, sock: socket.socket) -> bool:
    """Whether a socket can be given to a P2P interface, to which it then belongs."""
    try:
        interface.add_peer(1, REMOTE, transport=sock)
    except NetlinkError as error:
        assert error.errno in (errno.EBUSY, errno.ENOTSOCK)
        return False
    return True
