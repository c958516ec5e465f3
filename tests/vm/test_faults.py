# SPDX-License-Identifier: GPL-2.0
"""Out of memory: each allocation of each command fails once.

Then the answer says so, and what is there is as it was before (or, if only the answer could not be
given, as it was asked for); and the same thing works. Needs a kernel with fault injection: that of
scripts/debug-kernel.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MakeEndpoint, MakeInterface, Sweep
from ovpnlab import link, module, stream, waiting
from ovpnlab.family import KeyPair, Removals, Slot
from ovpnlab.faults import Fault, in_requests, refused
from ovpnlab.interface import Interface
from ovpnlab.namespace import Namespace
from ovpnlab.wire import Endpoint

pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("injection")]

REMOTE = ("192.0.2.2", 9)


@pytest.fixture
def end(interface: MakeInterface) -> Iterator[Interface]:
    """The interface; when it is gone, nothing of it holds the module."""
    made = interface()
    yield made
    made.close()
    waiting.until(lambda: module.users() == 0, "the module is not in use", 30)
    module.unload()
    module.load()


# -- the module ---------------------------------------------------------------------------


def _insert(fd: int) -> None:
    """finit_module(2), for which nobody has a function."""
    number = {"x86_64": 313}.get(os.uname().machine, 273)
    if ctypes.CDLL(None, use_errno=True).syscall(number, fd, b"", 0):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def test_module_load(sweep: Sweep, tmp_path: Path) -> None:
    """It is loaded, or it is not there at all."""
    module.ensure_unloaded()
    file = shutil.copy(module.path(), tmp_path / "module.ko")
    libc = ctypes.CDLL(None)  # loaded before anything may fail
    assert libc

    def load(fault: Fault) -> None:
        with open(file, "rb") as opened, fault:
            _insert(opened.fileno())

    def settle(error: OSError | None) -> None:
        assert module.is_loaded() == (error is None), f"the module is loaded: {error is not None}"
        if error is None:
            module.unload()

    try:
        sweep(load, settle)
    finally:
        module.ensure_loaded()


# -- interfaces ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [link.MODE_P2P, link.MODE_MP], ids=["p2p", "mp"])
def test_interface_creation(sweep: Sweep, alpha: Namespace, mode: int) -> None:
    def create(fault: Fault) -> None:
        with in_requests(fault):
            link.create(alpha, "tun0", mode)

    def settle(error: OSError | None) -> None:
        there = alpha.has("tun0")
        assert refused(error) in (not there, None), f"tun0 is there: {there}"
        if there:
            link.set_up(alpha, "tun0")
            link.delete(alpha, "tun0")

    # The last is what device_add() says of a name that there was no memory for.
    sweep(create, settle, answers=(errno.ENOMEM, errno.ENOBUFS, errno.EINVAL))


def test_interface_deletion(sweep: Sweep, interface: MakeInterface, alpha: Namespace) -> None:
    """With a peer, a key and a socket; that there is no memory is no reason to stay."""
    made: list[Interface] = []

    def delete(fault: Fault) -> None:
        end = interface()
        made.append(end)
        end.add_peer(1, REMOTE, KeyPair.random(), "10.8.0.2")
        with in_requests(fault):
            link.delete(alpha, end.name)

    def settle(error: OSError | None) -> None:
        assert not refused(error), f"a deletion is refused for want of memory: {error!r}"
        end = made.pop()
        if error is None:
            assert not alpha.has(end.name)
        end.close()
        alpha.wait_gone("tun0")

    sweep(delete, settle)


# -- peers --------------------------------------------------------------------------------


class Spare:
    """Another interface, for a peer over a socket that nobody has."""

    def __init__(self, namespace: Namespace) -> None:
        self._end = Interface(namespace, None, "10.9.0.1/24", mode=link.MODE_MP, name="tun1")

    def takes(self, sock: socket.socket, remote: tuple[str, int] | None) -> None:
        """The socket is free: a peer may have it, which goes again."""
        self._end.control.new_peer(self._end.index, 9, sock, remote, "10.9.0.2")
        self._end.control.del_peer(self._end.index, 9)

    def close(self) -> None:
        """Delete it."""
        self._end.close()


@pytest.fixture
def spare(alpha: Namespace) -> Iterator[Spare]:
    """An interface beside the one of the test."""
    made = Spare(alpha)
    yield made
    made.close()


def _check_added(end: Interface, error: OSError | None, sock: socket.socket, spare: Spare) -> None:
    """Peer 5 is there, or its socket is free; then it is gone."""
    there = [peer.peer_id for peer in end.peers()]
    assert there in ([], [5]), f"the peers are {there}"
    assert refused(error) in (not there, None), f"the peers are {there}"
    if there:
        end.control.del_peer(end.index, 5)
    spare.takes(sock, REMOTE if sock.type == socket.SOCK_DGRAM else None)


@pytest.mark.smoke
def test_new_peer_udp(sweep: Sweep, end: Interface, spare: Spare) -> None:
    def add(fault: Fault) -> None:
        with in_requests(fault):
            end.control.new_peer(end.index, 5, end.transport, REMOTE, "10.8.0.5", "fd00:8::5")

    sweep(add, lambda error: _check_added(end, error, end.transport, spare))


def test_new_peer_udp_beside_another(sweep: Sweep, end: Interface) -> None:
    """The socket is shared: the other peer keeps it."""
    end.add_peer(1, REMOTE, KeyPair.random(), "10.8.0.2")

    def add(fault: Fault) -> None:
        with in_requests(fault):
            end.control.new_peer(end.index, 5, end.transport, REMOTE, "10.8.0.5", "fd00:8::5")

    def settle(error: OSError | None) -> None:
        there = [peer.peer_id for peer in end.peers()]
        assert there in ([1], [1, 5]), f"the peers are {there}"
        assert refused(error) in (5 not in there, None), f"the peers are {there}"
        if 5 in there:
            end.control.del_peer(end.index, 5)
        # By its address it is found all the same.
        assert end.peer(1).remote == REMOTE

    sweep(add, settle)


def test_new_peer_p2p_replaces(sweep: Sweep, interface: MakeInterface, alpha: Namespace) -> None:
    """The one peer is the old one or the new one; who went is told, and only they."""
    end = interface(mode=link.MODE_P2P)
    removals = Removals(alpha)
    end.control.new_peer(end.index, 5, end.transport, REMOTE)

    def add(fault: Fault) -> None:
        with in_requests(fault):
            end.control.new_peer(end.index, 6, end.transport, REMOTE)

    def settle(error: OSError | None) -> None:
        (there,) = (peer.peer_id for peer in end.peers())
        assert refused(error) in (there == 5, None), f"peer {there} is there"
        if there == 6:
            assert removals.next().peer_id == 5
            end.control.new_peer(end.index, 5, end.transport, REMOTE)
            assert removals.next().peer_id == 6
        assert [peer.peer_id for peer in end.peers()] == [5]

    try:
        sweep(add, settle)
        assert removals.collect(0) == [], "somebody is told to be gone who is not"
    finally:
        removals.close()


@pytest.mark.smoke
def test_new_peer_tcp(
    sweep: Sweep, end: Interface, spare: Spare, alpha: Namespace, beta: Namespace
) -> None:
    near, far = stream.connect(alpha, beta, "192.0.2.2")

    def add(fault: Fault) -> None:
        with in_requests(fault):
            end.control.new_peer(end.index, 5, near, None, "10.8.0.5", "fd00:8::5")

    with near, far:
        sweep(add, lambda error: _check_added(end, error, near, spare))
        # It has its own operations, and what is said in it comes.
        data = stream.frame(stream.control(1))
        for one, other in ((near, far), (far, near)):
            one.sendall(data)
            assert stream.receive_exactly(other, len(data)) == data


def test_set_peer(sweep: Sweep, end: Interface) -> None:
    end.add_peer(5, REMOTE, ipv4="10.8.0.5")

    def change(fault: Fault) -> None:
        with in_requests(fault):
            end.control.set_peer(end.index, 5, 10, 60)

    def settle(error: OSError | None) -> None:
        found = end.peer(5)
        seen = found.keepalive_interval, found.keepalive_timeout
        assert seen in ((0, 0), (10, 60)), f"interval and time are {seen}"
        assert refused(error) in (seen == (0, 0), None), f"interval and time are {seen}"
        end.control.set_peer(end.index, 5, 0, 0)

    sweep(change, settle)


def test_del_peer(sweep: Sweep, end: Interface) -> None:
    def delete(fault: Fault) -> None:
        end.add_peer(5, REMOTE, KeyPair.random(), "10.8.0.5")
        with in_requests(fault):
            end.control.del_peer(end.index, 5)

    def settle(error: OSError | None) -> None:
        there = end.has_peer(5)
        assert refused(error) in (there, None), f"the peer is there: {there}"
        if there:
            end.control.del_peer(end.index, 5)

    sweep(delete, settle)


def test_get_peer(sweep: Sweep, end: Interface) -> None:
    end.add_peer(5, REMOTE, ipv4="10.8.0.5")
    before = end.peer(5)

    def ask(fault: Fault) -> None:
        with in_requests(fault):
            assert end.peer(5) == before

    def settle(_: OSError | None) -> None:
        assert end.peer(5) == before

    sweep(ask, settle)


def test_dump(sweep: Sweep, end: Interface) -> None:
    """It is whole, or it fails."""
    for number in range(2, 100):
        end.add_peer(number, REMOTE, ipv4=f"10.8.0.{number}")
    before = end.peers()
    assert len(before) == 98

    def ask(fault: Fault) -> None:
        with in_requests(fault):
            assert end.peers() == before

    def settle(_: OSError | None) -> None:
        assert end.peers() == before

    sweep(ask, settle)


# -- keys ---------------------------------------------------------------------------------


@pytest.fixture
def wire(end: Interface, endpoint: MakeEndpoint) -> Endpoint:
    """Peer 1 in user space, with key 0."""
    return endpoint(end, 1, "10.8.0.2", "fd00:8::2")


def _seals_with(end: Interface, wire: Endpoint) -> int | None:
    """The id of the key that seals; None if nothing is sent."""
    before = link.get(end.namespace, end.name).statistics["tx_dropped"]
    end.say("10.8.0.2")
    if link.get(end.namespace, end.name).statistics["tx_dropped"] > before:
        return None
    return wire.receive_ip().key_id


@pytest.mark.smoke
@pytest.mark.parametrize("cipher", [1, 2], ids=["aes", "chacha"])
def test_new_key(sweep: Sweep, end: Interface, wire: Endpoint, cipher: int) -> None:
    """The slot has the old key or the new one, and it works."""
    old = KeyPair.random(1, cipher)
    new = KeyPair.random(2, cipher)
    wire.add_key(old)
    wire.add_key(new)
    end.add_key(1, old.flipped())

    def install(fault: Fault) -> None:
        with in_requests(fault):
            end.add_key(1, new.flipped())

    def settle(error: OSError | None) -> None:
        seen = _seals_with(end, wire)
        assert seen in (1, 2), f"the key that seals is {seen}"
        assert refused(error) in (seen == 1, None), f"the key that seals is {seen}"
        wire.echo("10.8.0.2", "10.8.0.1", key_id=seen)
        wire.add_key(old)
        end.add_key(1, old.flipped())

    sweep(install, settle)


def test_first_key(sweep: Sweep, interface: MakeInterface, beta: Namespace) -> None:
    """Of an interface: what its CPUs seal with is made with it."""
    keys = KeyPair.random()
    made: list[Interface] = []

    def install(fault: Fault) -> None:
        end = interface()
        made.append(end)
        end.add_peer(1, REMOTE, ipv4="10.8.0.2")
        with in_requests(fault):
            end.add_key(1, keys)

    def settle(error: OSError | None) -> None:
        end = made.pop()
        drops = link.get(end.namespace, end.name).statistics["tx_dropped"]
        end.say("10.8.0.2")
        seals = link.get(end.namespace, end.name).statistics["tx_dropped"] == drops
        assert refused(error) in (not seals, None), f"something is sealed: {seals}"
        end.add_key(1, keys)
        end.say("10.8.0.2")
        assert end.peer(1).vpn_tx.packets == 1 + seals
        end.close()

    sweep(install, settle)


def test_swap_keys(sweep: Sweep, end: Interface, wire: Endpoint) -> None:
    other = KeyPair.random(1)
    wire.add_key(other)
    end.add_key(1, other.flipped(), Slot.SECONDARY)

    def swap(fault: Fault) -> None:
        with in_requests(fault):
            end.control.swap_keys(end.index, 1)

    def settle(error: OSError | None) -> None:
        seen = _seals_with(end, wire)
        assert refused(error) in (seen == 0, None), f"the key that seals is {seen}"
        if seen == 1:
            end.control.swap_keys(end.index, 1)
        assert _seals_with(end, wire) == 0

    sweep(swap, settle)


def test_del_key(sweep: Sweep, end: Interface, wire: Endpoint) -> None:
    keys = next(iter(wire.keys.values()))

    def delete(fault: Fault) -> None:
        with in_requests(fault):
            end.control.del_key(end.index, 1, Slot.PRIMARY)

    def settle(error: OSError | None) -> None:
        seen = _seals_with(end, wire)
        assert refused(error) in (seen == 0, None), f"the key that seals is {seen}"
        wire.add_key(keys)
        end.add_key(1, keys.flipped())
        assert _seals_with(end, wire) == 0

    sweep(delete, settle)
