# SPDX-License-Identifier: GPL-2.0
"""The outer side over UDP: addresses, the socket that is shared with a daemon, and routes."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator

import pytest
from conftest import OUTER, MakeEndpoint, MakeInterface
from ovpnlab import link, packet
from ovpnlab.family import PEER_ID_UNDEFINED, KeyPair, Reason, Removals
from ovpnlab.interface import Interface, udp_socket
from ovpnlab.namespace import Namespace
from ovpnlab.ping import ping
from ovpnlab.wire import Endpoint

ANY = {4: "0.0.0.0", 6: "::"}
# Alpha's addresses on the first cable, the one that it is not used of its own accord, and on the
# second cable.
FIRST = {4: "192.0.2.1", 6: "2001:db8::1"}
OTHER = {4: "192.0.2.3", 6: "2001:db8::3"}
SECOND = {4: "198.18.0.1", 6: "2001:db8:18::1"}
# Beta's address that both cables lead to, and its addresses on the second one.
TARGET = {4: "203.0.113.2", 6: "2001:db8:113::2"}
VIA_SECOND = {4: "198.18.0.2", 6: "2001:db8:18::2"}
versions = pytest.mark.parametrize("version", [4, 6])


@pytest.fixture
def anywhere(interface: MakeInterface) -> Callable[[int], Interface]:
    """Makes interfaces (10.8.0.1) whose socket is bound to no address."""
    return lambda version: interface("10.8.0.1/24", outer=ANY[version])


@pytest.fixture
def at_target(beta: Namespace, stack: contextlib.ExitStack) -> Callable[..., Endpoint]:
    """Makes peer 1 (10.8.0.2) at the address of beta that both cables lead to."""

    def make(end: Interface, version: int, address: str | None = None) -> Endpoint:
        keys = KeyPair.random()
        towards = (FIRST[version], end.address[1])
        wire = Endpoint(beta, address or TARGET[version], towards, 1, keys)
        stack.callback(wire.close)
        end.add_peer(1, wire.address, keys.flipped(), "10.8.0.2")
        return wire

    return make


def _source(end: Interface, wire: Endpoint) -> str:
    """Send something to peer 1; the outer source address that it came from."""
    end.say("10.8.0.2")
    return wire.receive_ip(protocol=packet.UDP).source[0]


# -- addresses ----------------------------------------------------------------------------


def _link_local(
    interface: MakeInterface, alpha: Namespace, beta: Namespace, scoped: bool
) -> tuple[Interface, Interface, KeyPair]:
    near = interface("10.8.0.1/24", outer="fe80::1%eth0", mode=link.MODE_P2P)
    far = interface("10.8.0.2/24", outer="fe80::2%eth0", mode=link.MODE_P2P, namespace=beta)
    keys = KeyPair.random()
    scope = f"%{alpha.index('eth0')}" if scoped else ""
    near.add_peer(1, (f"fe80::2{scope}", far.address[1]), keys)
    scope = f"%{beta.index('eth0')}"
    far.add_peer(1, (f"fe80::1{scope}", near.address[1]), keys.flipped())
    return near, far, keys


@pytest.fixture
def link_locals(alpha: Namespace, beta: Namespace, second_cable: None) -> None:
    """Both cables have fe80::1 at alpha and fe80::2 at beta."""
    for namespace, address in ((alpha, "fe80::1/64"), (beta, "fe80::2/64")):
        namespace.ip(*(f"addr replace {address} dev eth{n} nodad" for n in (0, 1)))


@pytest.mark.smoke
def test_link_local_with_scope(
    interface: MakeInterface, alpha: Namespace, beta: Namespace, link_locals: None
) -> None:
    """The scope says which of two cables with the same addresses; GET_PEER tells it."""
    near, far, keys = _link_local(interface, alpha, beta, scoped=True)
    remote = (f"fe80::2%{alpha.index('eth0')}", far.address[1])
    assert near.peer(1).remote == remote
    assert ping(alpha, "10.8.0.2").complete
    assert ping(beta, "10.8.0.1", size=1400).complete
    assert near.peer(1).remote == remote, "where the packets come from has the same scope"
    assert near.peer(1).local_ip == "fe80::1"
    # On the other cable, the same address is another machine.
    far.control.del_peer(far.index, 1)
    with udp_socket(beta, "fe80::2%eth1") as elsewhere:
        far.add_peer(
            *(1, (f"fe80::1%{beta.index('eth1')}", near.address[1]), keys.flipped()),
            transport=elsewhere,
        )
        far.say("10.8.0.1")
        assert not ping(alpha, "10.8.0.2", count=1, wait=0.5).complete
        assert near.peer(1).remote == remote, "the socket is bound to the first cable"


def test_link_local_scope_is_learned(
    interface: MakeInterface, alpha: Namespace, beta: Namespace, link_locals: None
) -> None:
    """A peer that was given without a scope is reached once it has been heard."""
    near, far, _ = _link_local(interface, alpha, beta, scoped=False)
    assert ping(beta, "10.8.0.1").complete
    assert near.peer(1).remote == (f"fe80::2%{alpha.index('eth0')}", far.address[1])
    assert ping(alpha, "10.8.0.2").complete


def test_mapped_addresses(
    interface: MakeInterface, alpha: Namespace, beta: Namespace, stack: contextlib.ExitStack
) -> None:
    """An IPv6 socket that is bound to an IPv4 address, with a peer that is given likewise."""
    sock = udp_socket(alpha, "::ffff:192.0.2.3")
    stack.callback(sock.close)
    end = interface("10.8.0.1/24", outer=None)
    keys = KeyPair.random()
    wire = Endpoint(beta, "192.0.2.2", ("192.0.2.3", sock.getsockname()[1]), 1, keys)
    stack.callback(wire.close)
    remote = ("::ffff:192.0.2.2", wire.address[1])
    end.add_peer(1, remote, keys.flipped(), "10.8.0.2", transport=sock)
    assert end.peer(1).remote == wire.address
    assert _source(end, wire) == "192.0.2.3", "what the socket is bound to"
    assert wire.echo("10.8.0.2", "10.8.0.1", 1).source == wire.remote
    assert wire.echo("10.8.0.2", "10.8.0.1", 2, peer_id=PEER_ID_UNDEFINED)
    assert end.peer(1).remote == wire.address
    # Control packets come and go with mapped addresses, as on any socket.
    wire.send_raw(b"\x28 control")
    sock.settimeout(5)
    assert sock.recvfrom(100)[1][:2] == remote
    sock.sendto(b"\x28 answer", (*remote, 0, 0))
    assert wire.receive_raw() == (b"\x28 answer", wire.remote)


@versions
def test_reply_comes_from_the_address_written_to(
    anywhere: Callable[[int], Interface], endpoint: MakeEndpoint, version: int
) -> None:
    """A server with several addresses: each client sees the one that it knows."""
    end = anywhere(version)
    wires = [endpoint(end, 1, "10.8.0.2", address=OUTER[version][1])]
    wires.append(endpoint(end, 2, "10.8.0.3", address=OUTER[version][1]))
    for sequence in range(1, 5):
        for number, wire in enumerate(wires):
            written_to = (FIRST, OTHER)[(number + sequence) % 2][version]
            wire.remote = (written_to, end.address[1])
            reply = wire.echo(f"10.8.0.{number + 2}", "10.8.0.1", sequence)
            assert reply.source[0] == written_to
            assert end.peer(number + 1).local_ip == written_to


@pytest.fixture
def passing_address(alpha: Namespace) -> Iterator[Callable[[int], None]]:
    """Takes alpha's second address away; it is back after the test."""
    settings = {4: "192.0.2.3/24 dev eth0", 6: "2001:db8::3/64 dev eth0"}
    gone = []

    def take(version: int) -> None:
        alpha.ip(f"addr del {settings[version]}")
        gone.append(version)

    yield take
    for version in gone:
        more = " nodad preferred_lft 0" if version == 6 else ""
        alpha.ip(f"addr add {settings[version]}{more}")


@pytest.mark.smoke
@versions
def test_local_address_vanishes(
    anywhere: Callable[[int], Interface],
    endpoint: MakeEndpoint,
    passing_address: Callable[[int], None],
    version: int,
) -> None:
    """The next packet goes from another address, and the tunnel lives on."""
    end = anywhere(version)
    wire = endpoint(end, 1, "10.8.0.2", address=OUTER[version][1])
    wire.remote = (OTHER[version], end.address[1])
    assert wire.echo("10.8.0.2", "10.8.0.1", 1).source == wire.remote
    passing_address(version)
    assert _source(end, wire) == FIRST[version]
    wire.remote = (FIRST[version], end.address[1])
    assert wire.echo("10.8.0.2", "10.8.0.1", 2).source == wire.remote
    assert end.peer(1).local_ip == FIRST[version]


@versions
def test_bound_address_vanishes(
    interface: MakeInterface,
    endpoint: MakeEndpoint,
    passing_address: Callable[[int], None],
    version: int,
) -> None:
    """A socket that is bound to an address that goes: what is sent still arrives."""
    end = interface("10.8.0.1/24", outer=OTHER[version])
    wire = endpoint(end, 1, "10.8.0.2", address=OUTER[version][1])
    assert _source(end, wire) == OTHER[version]
    passing_address(version)
    assert _source(end, wire) == FIRST[version]


@versions
def test_undefined_peer_id(
    anywhere: Callable[[int], Interface], endpoint: MakeEndpoint, version: int
) -> None:
    """Peers at the same address with neighbouring ports are told apart."""
    end = anywhere(version)
    wires = {n: endpoint(end, n, f"10.8.0.{n}", address=OUTER[version][1]) for n in range(2, 10)}
    for number, wire in wires.items():
        wire.remote = (FIRST[version], end.address[1])
        reply = wire.echo(f"10.8.0.{number}", "10.8.0.1", number, peer_id=PEER_ID_UNDEFINED)
        assert reply.peer_id == number
    end.control.del_peer(end.index, 5)
    wires[5].send(packet.echo_request("10.8.0.5", "10.8.0.1"), peer_id=PEER_ID_UNDEFINED)
    assert wires[5].is_silent(0.3)
    assert wires[6].echo("10.8.0.6", "10.8.0.1", 99, peer_id=PEER_ID_UNDEFINED)


# -- the socket ---------------------------------------------------------------------------


def test_peers_of_both_families_share_a_socket(
    anywhere: Callable[[int], Interface], endpoint: MakeEndpoint
) -> None:
    """One of them goes, and the others do not notice."""
    end = anywhere(6)
    wires = {}
    for number in range(2, 6):
        version = 4 if number % 2 else 6
        wires[number] = endpoint(end, number, f"10.8.0.{number}", address=OUTER[version][1])
        wires[number].remote = (FIRST[version], end.address[1])
    for gone in (3, 2):
        for number, wire in wires.items():
            assert wire.echo(f"10.8.0.{number}", "10.8.0.1", number).peer_id == number
        end.control.del_peer(end.index, gone)
        wires.pop(gone).close()
    assert len(end.peers()) == len(wires) == 2


@versions
def test_daemon_talks_between_data_packets(
    interface: MakeInterface, endpoint: MakeEndpoint, version: int
) -> None:
    """Both use the socket at once; each has its own packets, in order, whole and once."""
    end = interface("10.8.0.1/24", outer=FIRST[version])
    wire = endpoint(end, 1, "10.8.0.2", address=OUTER[version][1])
    end.transport.settimeout(5)
    for number in range(1, 51):
        control = b"\x20" + struct.pack("!H", number) + os.urandom(number * 20)
        wire.send_raw(control)
        wire.send(packet.echo_request("10.8.0.2", "10.8.0.1", number))
        end.transport.sendto(control, wire.address)
        assert end.transport.recv(65536) == control
        seen = {wire.receive_raw()[0] for _ in range(2)}
        assert control in seen, f"control packet {number} of the daemon is not among what came"
    end.transport.settimeout(0.2)
    with pytest.raises(TimeoutError):
        end.transport.recv(65536)
    assert end.peer(1).vpn_rx.packets == end.peer(1).vpn_tx.packets == 50


@pytest.mark.differs_from_c("it keeps the socket open for as long as it has peers")
def test_socket_is_closed_under_traffic(
    anywhere: Callable[[int], Interface], endpoint: MakeEndpoint, alpha: Namespace
) -> None:
    """All its peers end, each is told of once, and no packet comes after that."""
    end = anywhere(4)
    wires = [endpoint(end, n, f"10.8.0.{n}") for n in range(2, 8)]
    removals = Removals(alpha)
    flood = alpha.start("ping", "-f", "-q", "-w", "20", "10.8.0.2")
    try:
        wires[0].receive_ip(protocol=packet.ICMP)
        end.transport.close()
        found = removals.collect(6)
    finally:
        flood.kill()
        flood.wait(5)
        removals.close()
    told = sorted((each.peer_id, each.reason) for each in found)
    assert told == [(n, Reason.TRANSPORT_DISCONNECT) for n in range(2, 8)]
    assert end.peers() == []


# -- routes -------------------------------------------------------------------------------


@pytest.mark.smoke
@versions
def test_socket_mark_chooses_the_route(
    anywhere: Callable[[int], Interface],
    at_target: Callable[..., Endpoint],
    alpha: Namespace,
    second_cable: None,
    version: int,
) -> None:
    """SO_MARK, and its changes under way, as `ip rule` sees it."""
    end = anywhere(version)
    wire = at_target(end, version)
    alpha.ip(
        "rule add fwmark 7 lookup 100",
        f"route add {TARGET[version]} via {VIA_SECOND[version]} table 100",
        version=version,
    )
    try:
        for mark in (0, 7, 0, 8, 7):
            end.transport.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            wanted = SECOND if mark == 7 else FIRST
            assert _source(end, wire) == wanted[version], f"mark {mark}"
    finally:
        alpha.ip("rule del fwmark 7 lookup 100", "route flush table 100", version=version)


@versions
def test_socket_of_one_device(
    anywhere: Callable[[int], Interface],
    at_target: Callable[..., Endpoint],
    alpha: Namespace,
    second_cable: None,
    version: int,
) -> None:
    """SO_BINDTODEVICE: the route over that device is taken, though it is not the best one."""
    end = anywhere(version)
    end.transport.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth1\0")
    worse = f"{TARGET[version]} via {VIA_SECOND[version]} metric 5000"
    alpha.ip(f"route add {worse}")
    try:
        wire = at_target(end, version)
        wire.remote = (SECOND[version], end.address[1])
        assert _source(end, wire) == SECOND[version]
        assert wire.echo("10.8.0.2", "10.8.0.1", 1).source == wire.remote
        # What comes in by the other device is not for this socket.
        wire.remote = (FIRST[version], end.address[1])
        wire.send(packet.echo_request("10.8.0.2", "10.8.0.1", 2))
        assert wire.is_silent(0.3)
    finally:
        alpha.ip(f"route del {worse}")


@versions
def test_route_change_is_followed(
    anywhere: Callable[[int], Interface],
    at_target: Callable[..., Endpoint],
    alpha: Namespace,
    second_cable: None,
    version: int,
) -> None:
    """The outer route moves from one cable to the other, is gone for a while, and comes back."""
    end = anywhere(version)
    wire = at_target(end, version)
    via = {4: "192.0.2.2", 6: "2001:db8::2"}[version]
    first = f"route replace {TARGET[version]} via {via}"
    second = f"route replace {TARGET[version]} via {VIA_SECOND[version]}"
    try:
        for change, wanted in ((second, SECOND), (first, FIRST), (second, SECOND)):
            alpha.ip(change)
            assert _source(end, wire) == wanted[version]
        alpha.ip(f"route flush {TARGET[version]}", version=version)
        before = link.get(alpha, "tun0").statistics["tx_dropped"]
        for _ in range(5):
            end.say("10.8.0.2")
        assert wire.is_silent(0.2)
        assert link.get(alpha, "tun0").statistics["tx_dropped"] == before + 5
        alpha.ip(second)
        assert _source(end, wire) == SECOND[version]
    finally:
        alpha.ip(f"route flush {TARGET[version]}", first, version=version)


@versions
def test_outer_interface_goes_down_and_up(
    interface: MakeInterface, alpha: Namespace, beta: Namespace, second_cable: None, version: int
) -> None:
    """Nothing is sent while it is down; afterwards the tunnel goes on by itself."""
    near = interface("10.8.0.1/24", outer=SECOND[version], mode=link.MODE_P2P)
    far = interface("10.8.0.2/24", outer=VIA_SECOND[version], mode=link.MODE_P2P, namespace=beta)
    keys = KeyPair.random()
    near.add_peer(1, far.address, keys)
    far.add_peer(1, near.address, keys.flipped())
    alpha.sysctl("ipv6.conf.eth1.keep_addr_on_down", 1)
    for _ in range(2):
        assert ping(alpha, "10.8.0.2", attempts=5).complete
        alpha.ip("link set eth1 down")
        assert ping(alpha, "10.8.0.2", count=2, wait=0.2).received == 0
        assert near.has_peer(1)
        alpha.ip("link set eth1 up")
    assert ping(alpha, "10.8.0.2", attempts=5).complete
