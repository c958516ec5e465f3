# SPDX-License-Identifier: GPL-2.0
"""What is believed of a sender: forgeries, replays, and clients that move."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable

import pytest
from conftest import MODES, OUTER, MakeEndpoint, MakeInterface
from ovpnlab import link, packet
from ovpnlab.capture import udp_payload
from ovpnlab.family import PEER_ID_UNDEFINED, KeyPair
from ovpnlab.forgery import forgeries
from ovpnlab.interface import Interface, udp_socket
from ovpnlab.namespace import Namespace
from ovpnlab.ping import ping
from ovpnlab.wire import DATA_V2, Endpoint


@pytest.mark.smoke
def test_replay_is_dropped(one: tuple[Interface, Endpoint]) -> None:
    """Each packet is taken once, in whatever order the packets come."""
    _, wire = one
    sent = {n: wire.seal(packet.echo_request("10.8.0.2", "10.8.0.1", n)) for n in range(1, 21)}
    for number in (1, 2, 5, 4, 20, 3, 10):
        wire.send_raw(sent[number])
        assert wire.receive_reply(number)
    for number in (1, 2, 3, 4, 5, 10, 20):
        wire.send_raw(sent[number])
    assert wire.is_silent()
    wire.send_raw(sent[11])
    assert wire.receive_reply(11)


def test_replay_window_moves_on(one: tuple[Interface, Endpoint]) -> None:
    """A jump ahead is taken; what is far behind it is not, near behind it is."""
    _, wire = one
    assert wire.echo("10.8.0.2", "10.8.0.1", 1, packet_id=1)
    assert wire.echo("10.8.0.2", "10.8.0.1", 2, packet_id=1_000_000)
    assert wire.echo("10.8.0.2", "10.8.0.1", 3, packet_id=1_000_000 - 60)
    for packet_id in (2, 1_000_000 - 60, 1_000_000, 100_000):
        wire.send(packet.echo_request("10.8.0.2", "10.8.0.1", 4), packet_id=packet_id)
    assert wire.is_silent()
    assert wire.echo("10.8.0.2", "10.8.0.1", 5, packet_id=0xFFFFFFFF)


def test_captured_frames_are_dropped(pair: Callable) -> None:
    """Someone on the wire between two of ours sends all that it has seen again."""
    near, far = pair(inner6=False)
    wiretap = far.namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    with wiretap:
        wiretap.bind(("eth0", 3))
        assert ping(far.namespace, "10.8.0.1", count=5, interval=0.02).complete
        wiretap.setblocking(False)
        frames = []
        with contextlib.suppress(BlockingIOError):
            while True:
                frames.append(wiretap.recv(2048))
        # What far sent to near: UDP with DATA_V2 inside
        seen = [f for f in frames if (udp_payload(f) or b"\0")[0] >> 3 == DATA_V2]
        sent = [frame for frame in seen if frame[26:30] == socket.inet_aton("192.0.2.2")]
        assert len(sent) == 5
        before = near.peer(21), link.get(near.namespace, "tun0").statistics
        for frame in sent * 3:
            wiretap.send(frame)
        assert ping(far.namespace, "10.8.0.1", count=1).complete
        after = near.peer(21), link.get(near.namespace, "tun0").statistics
    assert after[0].vpn_rx.packets == before[0].vpn_rx.packets + 1
    assert after[1]["rx_packets"] == before[1]["rx_packets"] + 1


def test_packet_id_zero_is_dropped(one: tuple[Interface, Endpoint]) -> None:
    _, wire = one
    wire.send(packet.echo_request("10.8.0.2", "10.8.0.1", 1), packet_id=0)
    assert wire.is_silent()


def test_packet_ids_start_at_1_and_go_up(one: tuple[Interface, Endpoint]) -> None:
    end, wire = one
    seen = [wire.echo("10.8.0.2", "10.8.0.1", n).packet_id for n in range(1, 30)]
    assert seen == list(range(1, 30))
    # A new key starts anew.
    keys = KeyPair.random(1)
    wire.add_key(keys)
    end.add_key(1, keys.flipped())
    reply = wire.echo("10.8.0.2", "10.8.0.1", 99, key_id=1)
    assert (reply.key_id, reply.packet_id) == (1, 1)


@pytest.mark.smoke
def test_forgery_is_dropped(one: tuple[Interface, Endpoint]) -> None:
    _, wire = one
    forged = forgeries(wire)
    for each in forged:
        wire.send_raw(each)
    assert wire.is_silent()
    assert wire.echo("10.8.0.2", "10.8.0.1", 2)


@pytest.mark.differs_from_c("it counts before it authenticates")
def test_forgery_is_not_counted(one: tuple[Interface, Endpoint]) -> None:
    end, wire = one
    for each in forgeries(wire):
        wire.send_raw(each)
    assert wire.echo("10.8.0.2", "10.8.0.1", 2)
    found = end.peer(1)
    assert (found.link_rx.packets, found.vpn_rx.packets) == (1, 1)


@pytest.mark.smoke
@pytest.mark.differs_from_c("it floats before it authenticates")
def test_forgery_does_not_float(one: tuple[Interface, Endpoint], beta: Namespace) -> None:
    """Who can only send UDP cannot take a client's packets away from it."""
    end, wire = one
    with udp_socket(beta, "192.0.2.2") as attacker:
        for each in forgeries(wire):
            attacker.sendto(each, end.address)
        # What was authentic once is not authentic from elsewhere again.
        replayed = wire.send(packet.echo_request("10.8.0.2", "10.8.0.1", 3))
        assert wire.receive_reply(3)
        attacker.sendto(replayed, end.address)
        assert wire.echo("10.8.0.2", "10.8.0.1", 4)
        attacker.sendto(replayed, end.address)
        time.sleep(0.2)
        assert end.peer(1).remote == wire.address
        assert wire.is_reached(end, "10.8.0.2")
        attacker.settimeout(0.2)
        with pytest.raises(TimeoutError):
            attacker.recv(2048)


@pytest.mark.smoke
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("version", [4, 6])
def test_float(
    interface: MakeInterface,
    endpoint: MakeEndpoint,
    beta: Namespace,
    stack: contextlib.ExitStack,
    version: int,
    mode: str,
) -> None:
    """An authentic packet from a new port takes the traffic there, and GET_PEER says so."""
    end = interface(outer=OUTER[version][0], mode=MODES[mode])
    keys = KeyPair.random()
    old = endpoint(end, 1, "10.8.0.2", None, keys, OUTER[version][1])
    assert old.echo("10.8.0.2", "10.8.0.1", 1)
    new = Endpoint(beta, OUTER[version][1], end.address, 1, keys)
    stack.callback(new.close)
    new.packet_ids = old.packet_ids
    assert new.echo("10.8.0.2", "10.8.0.1", 2)
    assert end.peer(1).remote == new.address
    assert new.is_reached(end, "10.8.0.2")
    assert old.is_silent(0.2)


@pytest.mark.differs_from_c("it finds a peer by the address that it had at first")
def test_undefined_peer_id_after_float(one: tuple[Interface, Endpoint], beta: Namespace) -> None:
    """The address that finds the peer is the one that it has now."""
    end, old = one
    new = Endpoint(beta, "192.0.2.2", end.address, 1, *old.keys.values())
    new.packet_ids = old.packet_ids
    assert new.echo("10.8.0.2", "10.8.0.1", 1)
    assert new.echo("10.8.0.2", "10.8.0.1", 2, peer_id=PEER_ID_UNDEFINED)
    old.send(packet.echo_request("10.8.0.2", "10.8.0.1", 3), peer_id=PEER_ID_UNDEFINED)
    assert new.is_silent(0.3) and old.is_silent(0.1)
    new.close()


@pytest.mark.differs_from_c("it does not float from one family to the other")
def test_float_between_families(
    interface: MakeInterface, beta: Namespace, stack: contextlib.ExitStack
) -> None:
    """A client of a dual-stack server leaves IPv4 for IPv6, and comes back."""
    end = interface(outer="::")
    port = end.address[1]
    keys = KeyPair.random()
    four = Endpoint(beta, "192.0.2.2", ("192.0.2.1", port), 1, keys)
    six = Endpoint(beta, "2001:db8::2", ("2001:db8::1", port), 1, keys)
    six.packet_ids = four.packet_ids
    stack.callback(four.close)
    stack.callback(six.close)
    end.add_peer(1, four.address, keys.flipped(), "10.8.0.2")
    for number, wire in enumerate((four, six, four, six), start=1):
        assert wire.echo("10.8.0.2", "10.8.0.1", number).source[0] == wire.remote[0]
        assert end.peer(1).remote == wire.address


@pytest.fixture
def multihomed(
    interface: MakeInterface, beta: Namespace, stack: contextlib.ExitStack
) -> tuple[Interface, Endpoint]:
    """An interface whose socket is bound to no address; peer 1 to be, who sends to the second."""
    end = interface(outer="0.0.0.0")
    wire = Endpoint(beta, "192.0.2.2", ("192.0.2.3", end.address[1]), 1, KeyPair.random())
    stack.callback(wire.close)
    return end, wire


@pytest.mark.differs_from_c("it goes on sending from the first local address")
def test_local_address_is_learned(multihomed: tuple[Interface, Endpoint]) -> None:
    """A server with two addresses answers from the one that the client sends to."""
    end, wire = multihomed
    port = end.address[1]
    end.add_peer(1, wire.address, wire.keys[0].flipped(), "10.8.0.2")
    assert wire.echo("10.8.0.2", "10.8.0.1", 1).source == ("192.0.2.3", port)
    assert end.peer(1).local_ip == "192.0.2.3"
    wire.remote = ("192.0.2.1", port)
    assert wire.echo("10.8.0.2", "10.8.0.1", 2).source == ("192.0.2.1", port)
    assert end.peer(1).local_ip == "192.0.2.1"


def test_given_local_address_is_used(multihomed: tuple[Interface, Endpoint]) -> None:
    """Until a packet has come, LOCAL_IP of NEW_PEER says where to send from."""
    end, wire = multihomed
    end.control.new_peer(
        *(end.index, 1, end.transport, wire.address, "10.8.0.2"), local_ip="192.0.2.3"
    )
    end.add_key(1, wire.keys[0].flipped())
    end.say("10.8.0.2")
    assert wire.receive_ip(protocol=packet.UDP).source == ("192.0.2.3", end.address[1])


@pytest.mark.differs_from_c("it lets the routing choose")
@pytest.mark.parametrize("version", [4, 6])
def test_bound_address_is_used(
    interface: MakeInterface, endpoint: MakeEndpoint, version: int
) -> None:
    """A socket that is bound to an address sends from it (OpenVPN's --local)."""
    end = interface(outer={4: "192.0.2.3", 6: "2001:db8::3"}[version])
    wire = endpoint(end, 1, "10.8.0.2", address=OUTER[version][1])
    end.say("10.8.0.2")
    assert wire.receive_ip(protocol=packet.UDP).source == end.address


@pytest.mark.smoke
def test_undefined_peer_id(
    one: tuple[Interface, Endpoint], endpoint: MakeEndpoint, beta: Namespace
) -> None:
    """The sender is looked up by its address; a stranger is not found."""
    end, wire = one
    second = endpoint(end, 2, "10.8.0.3")
    assert wire.echo("10.8.0.2", "10.8.0.1", 1, peer_id=PEER_ID_UNDEFINED)
    assert second.echo("10.8.0.3", "10.8.0.1", 2, peer_id=PEER_ID_UNDEFINED)
    stranger = Endpoint(beta, "192.0.2.2", end.address, 1, *wire.keys.values())
    stranger.packet_ids = wire.packet_ids
    stranger.send(packet.echo_request("10.8.0.2", "10.8.0.1", 3), peer_id=PEER_ID_UNDEFINED)
    assert wire.is_silent(0.3) and stranger.is_silent(0.1)
    assert end.peer(1).remote == wire.address
    stranger.close()


def test_unknown_peer_id(one: tuple[Interface, Endpoint]) -> None:
    _, wire = one
    for peer_id in (0, 2, 0xFFFFFE):
        wire.send(packet.echo_request("10.8.0.2", "10.8.0.1", 1), peer_id=peer_id)
    assert wire.is_silent(0.3)
    assert wire.echo("10.8.0.2", "10.8.0.1", 2)
