# SPDX-License-Identifier: GPL-2.0
"""Where the packets inside may come from, and which peer they go to."""

from __future__ import annotations

import socket

import pytest
from conftest import MakeEndpoint, MakeInterface
from ovpnlab import link, packet
from ovpnlab.interface import Interface
from ovpnlab.wire import KEEPALIVE, Endpoint


@pytest.mark.smoke
def test_iroute(interface: MakeInterface, endpoint: MakeEndpoint) -> None:
    """The gateway of a route is the VPN address of the peer that gets the packet."""
    end = interface()
    first = endpoint(end, 1, "10.8.0.2", "fd00:8::2")
    second = endpoint(end, 2, "10.8.0.3", "fd00:8::3")
    end.namespace.ip(
        "route add 198.51.100.0/24 via 10.8.0.3",
        "route add 2001:db8:99::/64 via fd00:8::3",
        "route add 203.0.113.0/24 dev tun0",
    )
    end.say("198.51.100.7")
    assert second.receive_ip(protocol=packet.UDP).ip.destination == "198.51.100.7"
    end.say("2001:db8:99::7")
    assert second.receive_ip(protocol=packet.UDP).ip.destination == "2001:db8:99::7"
    end.say("203.0.113.7")  # on the interface, and no peer's
    assert first.is_silent() and second.is_silent(0.1)
    # And the way in: the source resolves to the same peer.
    assert second.echo("198.51.100.7", "10.8.0.1", 5)
    assert second.echo("2001:db8:99::7", "fd00:8::1", 6)
    with pytest.raises(TimeoutError):
        first.echo("198.51.100.7", "10.8.0.1", 7, timeout=0.5)


def test_route_changes_are_followed(interface: MakeInterface, endpoint: MakeEndpoint) -> None:
    """An iroute moves from one client to another, under traffic."""
    end = interface()
    wires = {2: endpoint(end, 1, "10.8.0.2"), 3: endpoint(end, 2, "10.8.0.3")}
    with end.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for gateway in (2, 3, 2, 3):
            end.namespace.ip(f"route replace 198.51.100.0/24 via 10.8.0.{gateway}")
            sock.sendto(b"x", ("198.51.100.7", 9))
            assert wires[gateway].receive_ip(protocol=packet.UDP).ip.destination == "198.51.100.7"
            assert wires[5 - gateway].is_silent(0.2)


@pytest.mark.smoke
def test_client_to_client(interface: MakeInterface, endpoint: MakeEndpoint) -> None:
    """Out of the interface, through the kernel's routing, and into it again."""
    end = interface()
    end.namespace.forward()
    first = endpoint(end, 1, "10.8.0.2", "fd00:8::2")
    second = endpoint(end, 2, "10.8.0.3", "fd00:8::3")
    first.send(packet.echo_request("10.8.0.2", "10.8.0.3", 7))
    got = second.receive_ip()
    assert (got.ip.source, got.ip.destination, got.peer_id) == ("10.8.0.2", "10.8.0.3", 2)
    second.send(packet.echo_request("fd00:8::3", "fd00:8::2", 8))
    assert first.receive_ip(protocol=packet.ICMPV6).ip.destination == "fd00:8::2"


@pytest.mark.smoke
def test_reverse_path_filter(interface: MakeInterface, endpoint: MakeEndpoint) -> None:
    """A client may not send in another's name, nor in nobody's; dropped and counted."""
    end = interface()
    first = endpoint(end, 1, "10.8.0.2", "fd00:8::2")
    second = endpoint(end, 2, "10.8.0.3", "fd00:8::3")
    before = link.get(end.namespace, "tun0").statistics
    for source in ("10.8.0.3", "10.8.0.77", "10.8.0.1", "8.8.8.8"):
        first.send(packet.echo_request(source, "10.8.0.1"))
    for source in ("fd00:8::3", "fd00:8::77", "fd00:8::1", "2001:db8:77::1"):
        first.send(packet.echo_request(source, "fd00:8::1"))
    assert second.is_silent() and first.is_silent(0.1)
    after = link.get(end.namespace, "tun0").statistics
    assert after["rx_packets"] == before["rx_packets"]
    # And it still works in its own name.
    assert first.echo("10.8.0.2", "10.8.0.1", 9)
    assert first.echo("fd00:8::2", "fd00:8::1", 10)


@pytest.mark.differs_from_c("it does not count these drops")
def test_reverse_path_filter_counts(one: tuple[Interface, Endpoint]) -> None:
    end, wire = one
    before = link.get(end.namespace, "tun0").statistics
    for _ in range(5):
        wire.send(packet.echo_request("10.8.0.99", "10.8.0.1"))
    wire.echo("10.8.0.2", "10.8.0.1")
    after = link.get(end.namespace, "tun0").statistics
    counted = sum(after[name] - before[name] for name in ("rx_dropped", "rx_errors"))
    assert counted == 5


def test_no_filter_in_p2p(interface: MakeInterface, endpoint: MakeEndpoint) -> None:
    """There is one peer, and everything is from it and for it."""
    end = interface(mode=link.MODE_P2P)
    wire = endpoint(end, 1, "10.8.0.2")
    end.namespace.ip("route add 198.51.100.0/24 dev tun0")
    assert wire.echo("198.51.100.7", "10.8.0.1").ip.destination == "198.51.100.7"


def test_inner_garbage(one: tuple[Interface, Endpoint]) -> None:
    """Authentic packets with nonsense inside are dropped, and nothing else happens."""
    end, wire = one
    good = packet.echo_request("10.8.0.2", "10.8.0.1")
    for inner in (
        b"",
        b"\x45",
        b"\x60",
        b"\x00" * 40,
        b"\xff" * 60,
        good[:19],
        good[:-20],  # shorter than its header says
        b"\x4f" + good[1:20],  # a header of 60 bytes in 20
        b"\x60" + bytes(38),
        KEEPALIVE[:8],
        KEEPALIVE[:15],
    ):
        wire.send(inner)
    assert wire.is_silent(0.3)
    assert wire.echo("10.8.0.2", "10.8.0.1", 9)
    assert end.has_peer(1)
