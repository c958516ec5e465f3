# SPDX-License-Identifier: GPL-2.0
"""The ciphers, against packets that neither the kernel nor OpenSSL made."""

from __future__ import annotations

import pytest
from conftest import MakeInterface
from ovpnlab import link, vectors
from ovpnlab.family import Key, KeyPair
from ovpnlab.interface import Interface, udp_socket
from ovpnlab.namespace import Namespace
from ovpnlab.tap import Tap
from ovpnlab.vectors import Vector

CIPHERS = vectors.read()


@pytest.fixture(params=CIPHERS)
def vector(request: pytest.FixtureRequest) -> Vector:
    """Each cipher with each length of key."""
    return CIPHERS[request.param]


@pytest.fixture
def end(interface: MakeInterface) -> Interface:
    """An interface that sends nothing of its own accord, so that packet ids are the test's."""
    return interface("10.8.0.1/24", mode=link.MODE_P2P, mtu=1500)


def _keys(vector: Vector, **known: Key) -> KeyPair:
    """The vector's key in the direction that is asked for, another in the other."""
    other = Key.random(len(vector.key.cipher_key))
    directions = {"encrypt": other, "decrypt": other, **known}
    return KeyPair(key_id=vector.key_id, cipher=vector.cipher, **directions)


@pytest.mark.smoke
def test_known_packets_are_opened(end: Interface, beta: Namespace, vector: Vector) -> None:
    """Lengths around the blocks of the ciphers, packet ids up to the last one."""
    with udp_socket(beta, "192.0.2.2") as sender, Tap(end.namespace, "tun0") as tap:
        end.add_peer(vector.peer_id, sender.getsockname(), _keys(vector, decrypt=vector.key))
        for sealed in vector.packets:
            sender.sendto(sealed.datagram, end.address)
            try:
                got = tap.receive()
            except TimeoutError:
                pytest.fail(f"{vector.name}: packet {sealed.packet_id}, {sealed.name}: not opened")
            assert got == sealed.inner, f"packet {sealed.packet_id}, {sealed.name}"
        assert sealed.packet_id == 0xFFFFFFFF
        # Each of them has been taken once.
        for sealed in vector.packets[-40:]:
            sender.sendto(sealed.datagram, end.address)
        with pytest.raises(TimeoutError):
            tap.receive(0.3)


@pytest.mark.smoke
def test_known_packets_are_sealed(end: Interface, beta: Namespace, vector: Vector) -> None:
    """Byte by byte, the first packets under a key, in the order of their ids."""
    first = [sealed for sealed in vector.packets if sealed.packet_id < 0xFF]
    assert [sealed.packet_id for sealed in first[:3]] == [1, 2, 3]
    with udp_socket(beta, "192.0.2.2") as receiver, Tap(end.namespace, "tun0") as tap:
        receiver.settimeout(5)
        end.add_peer(vector.peer_id, receiver.getsockname(), _keys(vector, encrypt=vector.key))
        for sealed in first:
            tap.send(sealed.inner)
            got = receiver.recv(65536)
            assert got == sealed.datagram, f"packet {sealed.packet_id}, {sealed.name}"
