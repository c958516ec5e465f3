# SPDX-License-Identifier: GPL-2.0
"""The data path, with static keys over netlink: no OpenVPN is needed.

Half of the tests put our module at both ends. The other half put an endpoint in user
space at one end, which can seal and open packets, and can also cheat.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable

import pytest
from conftest import MODES, OUTER, MakeEndpoint, MakeInterface
from ovpnlab import aead, iperf, link, packet, waiting
from ovpnlab.capture import udp_payload
from ovpnlab.family import PEER_ID_UNDEFINED, Cipher, KeyPair, Reason, Removals, Slot
from ovpnlab.interface import Interface, udp_socket
from ovpnlab.namespace import Namespace
from ovpnlab.netlink import NetlinkError
from ovpnlab.ping import ping
from ovpnlab.wire import DATA_V2, KEEPALIVE, OVERHEAD, Endpoint


def bits(index: int, data: bytes) -> bytes:
    """The data with one bit flipped."""
    return data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]


# -- two of ours --------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("version", [4, 6])
def test_ping(pair: Callable, version: int, mode: str) -> None:
    near, far = pair(version, mode)
    assert ping(near.namespace, "10.8.0.2").complete
    assert ping(far.namespace, "10.8.0.1").complete
    assert ping(near.namespace, "fd00:8::2").complete
    assert ping(far.namespace, "fd00:8::1").complete


@pytest.mark.parametrize(
    ("cipher", "size"),
    [(Cipher.AES_GCM, 16), (Cipher.AES_GCM, 24), (Cipher.CHACHA20_POLY1305, 32)],
)
def test_ciphers(
    interface: MakeInterface, endpoint: MakeEndpoint, cipher: Cipher, size: int
) -> None:
    """Against the endpoint in user space: two of ours could agree on a mistake."""
    end = interface()
    keys = KeyPair.random(2, cipher, size)
    wire = endpoint(end, 1, "10.8.0.2", "fd00:8::2", keys)
    assert wire.echo("10.8.0.2", "10.8.0.1").ip.source == "10.8.0.1"
    assert wire.echo("fd00:8::2", "fd00:8::1").key_id == 2


@pytest.mark.smoke
@pytest.mark.parametrize("version", [4, 6])
def test_big_packets(pair: Callable, version: int) -> None:
    """The inner packet is in fragments, or the outer one is, or both."""
    near, far = pair(version, mtu=1500)
    for size in (1000, 1400, 1472):
        assert ping(near.namespace, "10.8.0.2", count=2, size=size, fragment=False).complete
    for size in (3000, 20_000, 65_507):
        assert ping(near.namespace, "10.8.0.2", count=2, size=size).complete, size
        if size < 65_000:
            assert ping(far.namespace, "fd00:8::1", count=2, size=size).complete, size
    link.set_mtu(near.namespace, "tun0", 9000)
    link.set_mtu(far.namespace, "tun0", 9000)
    assert ping(near.namespace, "10.8.0.2", count=2, size=8972, fragment=False).complete


def test_all_sizes(interface: MakeInterface, endpoint: MakeEndpoint) -> None:
    """No length of packet is special, nor that at which the outer one is fragmented."""
    wire = endpoint(interface(mtu=1500), 1, "10.8.0.2")
    sizes = [*range(0, 66), *range(1300, 1368, 5), *range(1404, 1473, 2)]
    for sequence, size in enumerate(sizes, start=1):
        data = os.urandom(size)
        wire.send(packet.echo_request("10.8.0.2", "10.8.0.1", sequence, data))
        reply = wire.receive_reply(sequence)
        assert reply.ip.payload[8:] == data, size


@pytest.mark.smoke
@pytest.mark.parametrize(("version", "mode"), [(4, "p2p"), (6, "mp")])
def test_tcp(pair: Callable, version: int, mode: str) -> None:
    """GSO on the way out, GRO on the way in, both directions; nothing is lost or doubled."""
    near, far = pair(version, mode)
    moved = iperf.measure(far.namespace, near.namespace, "10.8.0.2", amount="4M")
    assert moved.bytes >= 3 << 20
    moved = iperf.measure(far.namespace, near.namespace, "fd00:8::2", amount="2M", reverse=True)
    assert moved.bytes >= 1 << 20
    one, other = near.peer(21), far.peer(21)
    for tx, rx in ((one.vpn_tx, other.vpn_rx), (other.link_tx, one.link_rx)):
        assert tx.bytes >= rx.bytes
        assert tx.bytes - rx.bytes <= tx.bytes * 0.02


def test_tcp_chacha(pair: Callable) -> None:
    near, far = pair(cipher=Cipher.CHACHA20_POLY1305)
    assert iperf.measure(far.namespace, near.namespace, "10.8.0.2", amount="2M").bytes >= 1 << 20


def test_gso_packets_are_segmented(
    alpha: Namespace, interface: MakeInterface, endpoint: MakeEndpoint
) -> None:
    """A UDP packet with segmentation goes out as its segments, none above the MTU."""
    end = interface()
    wire = endpoint(end, 1, "10.8.0.2", "fd00:8::2")
    udp_segment = 103
    for source, destination in (("10.8.0.1", "10.8.0.2"), ("fd00:8::1", "fd00:8::2")):
        with udp_socket(alpha, source) as sock:
            sock.setsockopt(socket.IPPROTO_UDP, udp_segment, 1000)
            sock.sendto(bytes(range(250)) * 38, (destination, 4242))
        got = [wire.receive_ip(protocol=packet.UDP) for _ in range(10)]
        assert [len(each.ip.payload) - 8 for each in got] == [1000] * 9 + [500]
        assert b"".join(each.ip.payload[8:] for each in got) == bytes(range(250)) * 38
        ids = [each.packet_id for each in got]
        assert ids == list(range(ids[0], ids[0] + 10))


@pytest.mark.smoke
@pytest.mark.parametrize("mode", MODES)
def test_statistics_are_exact(pair: Callable, mode: str) -> None:
    near, far = pair(mode=mode, inner6=False)
    count, inner = 20, 20 + 8 + 100
    assert ping(near.namespace, "10.8.0.2", count=count, size=100, interval=0.01).complete
    for end in (near, far):
        found = end.peer(21)
        for counters in (found.vpn_rx, found.vpn_tx):
            assert (counters.packets, counters.bytes) == (count, count * inner), found
        for counters in (found.link_rx, found.link_tx):
            wanted = (count, count * (inner + OVERHEAD))
            assert (counters.packets, counters.bytes) == wanted, found


@pytest.mark.differs_from_c("it counts nothing that it sends")
def test_interface_statistics_are_exact(pair: Callable) -> None:
    """The interface counts what passes through it: inner packets."""
    near, far = pair(inner6=False)
    count, inner = 20, 20 + 8 + 100
    assert ping(near.namespace, "10.8.0.2", count=count, size=100, interval=0.01).complete
    for end in (near, far):
        seen = link.get(end.namespace, "tun0").statistics
        assert (seen["rx_packets"], seen["tx_packets"]) == (count, count)
        assert (seen["rx_bytes"], seen["tx_bytes"]) == (count * inner, count * inner)
        assert seen["rx_dropped"] == seen["tx_dropped"] == seen["rx_errors"] == 0


@pytest.mark.differs_from_c("its comparison of IPv6 addresses is without effect")
def test_many_peers(interface: MakeInterface, beta: Namespace, stack: contextlib.ExitStack) -> None:
    """300 peers, IPv4 and IPv6: each address leads to its own peer and no other."""
    end = interface("10.8.0.1/16")
    link.add_address(end.namespace, "tun0", "10.9.255.1/16")
    end.namespace.sysctl("ipv6.conf.tun0.disable_ipv6", 0)
    link.add_address(end.namespace, "tun0", "fd00:8::ffff/64")
    keys = KeyPair.random()
    wire = Endpoint(beta, "192.0.2.2", end.address, 0, keys)
    stack.callback(wire.close)
    peers = range(1, 301)
    for number in peers:
        end.add_peer(
            number,
            wire.address,
            keys.flipped(),
            f"10.8.{number // 250 + 1}.{number % 250}",
            # Neighbours in every word but one
            f"fd00:8::{number:x}:0:0:7" if number % 2 else f"fd00:8::7:{number:x}",
        )
    end.namespace.ip("route replace fd00:8::/32 dev tun0")
    with (
        end.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as four,
        end.namespace.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six,
    ):
        for number in peers:
            v4 = f"10.8.{number // 250 + 1}.{number % 250}"
            v6 = f"fd00:8::{number:x}:0:0:7" if number % 2 else f"fd00:8::7:{number:x}"
            four.sendto(b"x", (v4, 9))
            got = wire.receive_ip(protocol=packet.UDP)
            assert (got.peer_id, got.ip.destination) == (number, v4)
            six.sendto(b"x", (v6, 9))
            got = wire.receive_ip(protocol=packet.UDP)
            assert (got.peer_id, packet.parse(got.inner).destination) == (number, v6)
        # A neighbour of all of them that is nobody's address
        four.sendto(b"x", ("10.8.1.0", 9))
        six.sendto(b"x", ("fd00:8::7:7:7:7", 9))
        assert wire.is_silent()


# -- routing ------------------------------------------------------------------------------


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
    with (
        end.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as four,
        end.namespace.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six,
    ):
        four.sendto(b"x", ("198.51.100.7", 9))
        assert second.receive_ip(protocol=packet.UDP).ip.destination == "198.51.100.7"
        six.sendto(b"x", ("2001:db8:99::7", 9))
        assert second.receive_ip(protocol=packet.UDP).ip.destination == "2001:db8:99::7"
        four.sendto(b"x", ("203.0.113.7", 9))  # on the interface, and no peer's
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


# -- authentication, replay, float --------------------------------------------------------


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


def _forgeries(wire: Endpoint) -> list[bytes]:
    """Packets like authentic ones, each with something wrong."""
    good = wire.seal(packet.echo_request("10.8.0.2", "10.8.0.1", 1))
    return [
        bits(8, good),  # the tag
        bits(23, good),
        bits(24, good),  # the ciphertext
        bits(len(good) - 1, good),
        bits(7, good),  # the packet id
        good[:-1],
        good + b"\0",
        good[:24],  # nothing inside
        good[:9],
        good[:8] + bytes(len(good) - 8),
        bytes([good[0] + 1]) + good[1:],  # a key id that is not installed
    ]


@pytest.mark.smoke
def test_forgery_is_dropped(one: tuple[Interface, Endpoint]) -> None:
    _, wire = one
    forged = _forgeries(wire)
    for each in forged:
        wire.send_raw(each)
    assert wire.is_silent()
    assert wire.echo("10.8.0.2", "10.8.0.1", 2)


@pytest.mark.differs_from_c("it counts before it authenticates")
def test_forgery_is_not_counted(one: tuple[Interface, Endpoint]) -> None:
    end, wire = one
    for each in _forgeries(wire):
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
        for each in _forgeries(wire):
            attacker.sendto(each, end.address)
        # What was authentic once is not authentic from elsewhere again.
        replayed = wire.send(packet.echo_request("10.8.0.2", "10.8.0.1", 3))
        assert wire.receive_reply(3)
        attacker.sendto(replayed, end.address)
        assert wire.echo("10.8.0.2", "10.8.0.1", 4)
        attacker.sendto(replayed, end.address)
        time.sleep(0.2)
        assert end.peer(1).remote == wire.address
        assert ping_from(end, "10.8.0.2", wire)
        attacker.settimeout(0.2)
        with pytest.raises(TimeoutError):
            attacker.recv(2048)


def ping_from(end: Interface, destination: str, wire: Endpoint) -> bool:
    """Send a datagram from the interface; whether it comes to the endpoint."""
    with end.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"are you there?", (destination, 9))
    with contextlib.suppress(TimeoutError):
        return wire.receive_ip(2, packet.UDP).ip.payload[8:] == b"are you there?"
    return False


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
    assert ping_from(end, "10.8.0.2", new)
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
    alpha: Namespace, interface: MakeInterface, beta: Namespace, stack: contextlib.ExitStack
) -> None:
    """A client of a dual-stack server leaves IPv4 for IPv6, and comes back."""
    end = interface(outer=None)
    sock = alpha.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    stack.callback(sock.close)
    sock.bind(("::", 0))
    port = sock.getsockname()[1]
    keys = KeyPair.random()
    four = Endpoint(beta, "192.0.2.2", ("192.0.2.1", port), 1, keys)
    six = Endpoint(beta, "2001:db8::2", ("2001:db8::1", port), 1, keys)
    six.packet_ids = four.packet_ids
    stack.callback(four.close)
    stack.callback(six.close)
    end.add_peer(1, four.address, keys.flipped(), "10.8.0.2", transport=sock)
    for number, wire in enumerate((four, six, four, six), start=1):
        assert wire.echo("10.8.0.2", "10.8.0.1", number).source[0] == wire.remote[0]
        assert end.peer(1).remote == wire.address


@pytest.mark.differs_from_c("it goes on sending from the first local address")
def test_local_address_is_learned(
    interface: MakeInterface, beta: Namespace, alpha: Namespace, stack: contextlib.ExitStack
) -> None:
    """A server with two addresses answers from the one that the client sends to."""
    end = interface(outer=None)
    sock = alpha.socket(socket.AF_INET, socket.SOCK_DGRAM)
    stack.callback(sock.close)
    sock.bind(("0.0.0.0", 0))
    port = sock.getsockname()[1]
    keys = KeyPair.random()
    wire = Endpoint(beta, "192.0.2.2", ("192.0.2.3", port), 1, keys)
    stack.callback(wire.close)
    end.add_peer(1, wire.address, keys.flipped(), "10.8.0.2", transport=sock)
    assert wire.echo("10.8.0.2", "10.8.0.1", 1).source == ("192.0.2.3", port)
    assert end.peer(1).local_ip == "192.0.2.3"
    wire.remote = ("192.0.2.1", port)
    assert wire.echo("10.8.0.2", "10.8.0.1", 2).source == ("192.0.2.1", port)
    assert end.peer(1).local_ip == "192.0.2.1"


def test_given_local_address_is_used(
    interface: MakeInterface, beta: Namespace, alpha: Namespace, stack: contextlib.ExitStack
) -> None:
    """Until a packet has come, LOCAL_IP of NEW_PEER says where to send from."""
    end = interface(outer=None)
    sock = alpha.socket(socket.AF_INET, socket.SOCK_DGRAM)
    stack.callback(sock.close)
    sock.bind(("0.0.0.0", 0))
    port = sock.getsockname()[1]
    keys = KeyPair.random()
    wire = Endpoint(beta, "192.0.2.2", ("192.0.2.3", port), 1, keys)
    stack.callback(wire.close)
    end.control.new_peer(*(end.index, 1, sock, wire.address, "10.8.0.2"), local_ip="192.0.2.3")
    end.add_key(1, keys.flipped())
    with end.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("10.8.0.2", 9))
    assert wire.receive_ip(protocol=packet.UDP).source == ("192.0.2.3", port)


@pytest.mark.differs_from_c("it lets the routing choose")
@pytest.mark.parametrize("version", [4, 6])
def test_bound_address_is_used(
    interface: MakeInterface, endpoint: MakeEndpoint, version: int
) -> None:
    """A socket that is bound to an address sends from it (OpenVPN's --local)."""
    end = interface(outer={4: "192.0.2.3", 6: "2001:db8::3"}[version])
    wire = endpoint(end, 1, "10.8.0.2", address=OUTER[version][1])
    with end.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("10.8.0.2", 9))
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


# -- keys ---------------------------------------------------------------------------------


@pytest.mark.smoke
def test_swap_keys(one: tuple[Interface, Endpoint]) -> None:
    """What is sent takes the other key; what comes under either key is opened."""
    end, wire = one
    keys = KeyPair.random(1)
    wire.add_key(keys)
    end.add_key(1, keys.flipped(), Slot.SECONDARY)
    assert wire.echo("10.8.0.2", "10.8.0.1", 1, key_id=0).key_id == 0
    assert wire.echo("10.8.0.2", "10.8.0.1", 2, key_id=1).key_id == 0
    end.control.swap_keys(end.index, 1)
    assert wire.echo("10.8.0.2", "10.8.0.1", 3, key_id=0).key_id == 1
    assert wire.echo("10.8.0.2", "10.8.0.1", 4, key_id=1).key_id == 1
    end.control.del_key(end.index, 1, Slot.SECONDARY)
    wire.send(packet.echo_request("10.8.0.2", "10.8.0.1", 5), key_id=0)
    assert wire.is_silent(0.3)
    assert wire.echo("10.8.0.2", "10.8.0.1", 6, key_id=1).key_id == 1


def test_replaced_key_is_gone(one: tuple[Interface, Endpoint]) -> None:
    """The same key id with another key: the old one opens nothing any more."""
    end, wire = one
    assert wire.echo("10.8.0.2", "10.8.0.1", 1)
    keys = KeyPair.random(0)
    end.add_key(1, keys.flipped())
    wire.send(packet.echo_request("10.8.0.2", "10.8.0.1", 2))
    assert wire.is_silent(0.3)
    wire.add_key(keys)
    assert wire.echo("10.8.0.2", "10.8.0.1", 3)


def test_deleted_key(one: tuple[Interface, Endpoint]) -> None:
    """Without a primary key nothing is sent; a secondary one still opens."""
    end, wire = one
    keys = KeyPair.random(1)
    wire.add_key(keys)
    end.add_key(1, keys.flipped(), Slot.SECONDARY)
    end.control.del_key(end.index, 1, Slot.PRIMARY)
    before = end.peer(1)
    assert not ping_from(end, "10.8.0.2", wire)
    wire.send(packet.echo_request("10.8.0.2", "10.8.0.1", 1), key_id=1)
    waiting.until(
        lambda: end.peer(1).vpn_rx.packets == before.vpn_rx.packets + 1, "a packet was opened"
    )
    assert wire.is_silent(0.2)
    assert end.peer(1).link_tx == before.link_tx


def test_swap_under_traffic(one: tuple[Interface, Endpoint]) -> None:
    """No packet is lost while keys change places: each has its answer, under one of them."""
    end, wire = one
    keys = KeyPair.random(1)
    wire.add_key(keys)
    end.add_key(1, keys.flipped(), Slot.SECONDARY)
    for number in range(1, 201):
        wire.send(packet.echo_request("10.8.0.2", "10.8.0.1", number), key_id=number & 1)
        if number % 10 == 0:
            end.control.swap_keys(end.index, 1)
        assert wire.receive_reply(number)


def test_refused_key_changes_nothing(one: tuple[Interface, Endpoint]) -> None:
    end, wire = one
    assert wire.echo("10.8.0.2", "10.8.0.1", 1)
    with pytest.raises(NetlinkError):
        end.add_key(1, KeyPair.random(1, Cipher.AES_GCM, 15))
    reply = wire.echo("10.8.0.2", "10.8.0.1", 2)
    assert (reply.key_id, reply.packet_id) == (0, 2)


# -- keepalive ----------------------------------------------------------------------------


@pytest.mark.smoke
def test_keepalive_is_sent_on_idle(one: tuple[Interface, Endpoint]) -> None:
    end, wire = one
    end.control.set_peer(end.index, 1, 1, 0)
    began = time.monotonic()
    first = wire.receive(timeout=4)
    assert first.is_keepalive
    assert time.monotonic() - began > 0.5
    second = wire.receive(timeout=4)
    assert second.is_keepalive
    end.control.set_peer(end.index, 1, 0, 0)
    time.sleep(0.1)
    while True:  # one may have been on its way
        try:
            assert wire.receive(timeout=1.6).is_keepalive
        except TimeoutError:
            break
        assert time.monotonic() - began < 15


def test_keepalive_is_not_sent_while_busy(one: tuple[Interface, Endpoint]) -> None:
    end, wire = one
    end.control.set_peer(end.index, 1, 2, 0)
    deadline = time.monotonic() + 4.5
    number = 0
    while time.monotonic() < deadline:
        number += 1
        wire.send(packet.echo_request("10.8.0.2", "10.8.0.1", number))
        assert not wire.receive().is_keepalive
        time.sleep(0.1)
    assert wire.receive(timeout=6).is_keepalive


@pytest.mark.smoke
def test_expiry_and_what_puts_it_off(one: tuple[Interface, Endpoint], alpha: Namespace) -> None:
    """Authentic packets put the end off, keepalives too; forged ones do not."""
    end, wire = one
    removals = Removals(alpha)
    end.control.set_peer(end.index, 1, 0, 2)
    for number in range(10):
        wire.send(KEEPALIVE if number % 2 else packet.echo_request("10.8.0.2", "10.8.0.1"))
        time.sleep(0.4)
    assert removals.collect(0, quiet=0) == [], "it was heard of all the time"
    assert end.has_peer(1)
    forged = bits(8, wire.seal(KEEPALIVE))
    began = time.monotonic()
    while end.has_peer(1) and time.monotonic() - began < 10:
        wire.send_raw(forged)
        time.sleep(0.3)
    assert not end.has_peer(1), "forged packets have kept the peer"
    (removal,) = removals.collect(1)
    assert removal.reason == Reason.EXPIRED
    removals.close()


def test_keepalive_keeps_both_ends_alive(pair: Callable) -> None:
    """Two idle ends, no traffic but their keepalives; then one falls silent."""
    near, far = pair(inner6=False)
    for end in (near, far):
        end.control.set_peer(end.index, 21, 1, 3)
    began = time.monotonic()
    while time.monotonic() - began < 5:
        assert near.peer(21) and far.peer(21)
        time.sleep(0.5)
    assert near.peer(21).link_rx.packets >= 2
    seen = link.get(near.namespace, "tun0").statistics
    assert seen["rx_packets"] == 0, "a keepalive is not for the stack"
    near.control.del_peer(near.index, 21)
    waiting.until(lambda: not _knows(far, 21), "the far end noticed", timeout=10)


def _knows(end: Interface, peer_id: int) -> bool:
    try:
        end.peer(peer_id)
    except NetlinkError:
        return False
    return True


def test_exit_notification_is_not_an_ip_packet(one: tuple[Interface, Endpoint]) -> None:
    """What an older peer says in the data channel when it goes: dropped without harm."""
    end, wire = one
    wire.send(bytes.fromhex("287f346bd4ef7a812d56b8d3afc5459c06"))
    assert wire.is_silent(0.3)
    assert link.get(end.namespace, "tun0").statistics["rx_packets"] == 0


# -- the daemon's socket ------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize("version", [4, 6])
def test_control_packets_reach_the_daemon(
    interface: MakeInterface, endpoint: MakeEndpoint, beta: Namespace, version: int
) -> None:
    """Untouched, of peers and strangers, of all opcodes but one; and data packets do not."""
    near, far = OUTER[version]
    end = interface(outer=near)
    wire = endpoint(end, 1, "10.8.0.2", address=far)
    end.transport.settimeout(5)
    stranger = udp_socket(beta, far)
    for opcode in (1, 3, 4, 5, 6, 7, 8, 10, 11, 0, 31):
        for sender, size in ((wire.socket, 50), (stranger, 1200), (wire.socket, 3)):
            sent = bytes([opcode << 3 | 2]) + os.urandom(size)
            sender.sendto(sent, end.address)
            got, source = end.transport.recvfrom(65536)
            assert (got, source[:2]) == (sent, sender.getsockname()[:2])
    stranger.close()
    wire.echo("10.8.0.2", "10.8.0.1")
    for each in _forgeries(wire):
        wire.send_raw(each)
    end.transport.settimeout(0.3)
    with pytest.raises(TimeoutError):
        end.transport.recv(65536)
    # And the other way: the daemon's own packets go out as they are.
    end.transport.sendto(b"\x20 from the daemon", wire.address)
    assert wire.receive_raw() == (b"\x20 from the daemon", end.address)


@pytest.mark.differs_from_c("it drops packets of less than 4 bytes")
def test_tiny_control_packets_reach_the_daemon(one: tuple[Interface, Endpoint]) -> None:
    end, wire = one
    end.transport.settimeout(5)
    for sent in (b"\x28", b"\x28\x01", b"\x28\x01\x02", b""):
        wire.send_raw(sent)
        assert end.transport.recv(100) == sent


def test_big_control_packet_in_fragments(one: tuple[Interface, Endpoint]) -> None:
    end, wire = one
    sent = b"\x20" + os.urandom(8000)
    wire.send_raw(sent)
    end.transport.settimeout(5)
    assert end.transport.recv(65536) == sent


def test_truncated_data_packets(one: tuple[Interface, Endpoint]) -> None:
    """DATA_V2 that ends in its header: dropped, not handed up, not counted, not fatal."""
    end, wire = one
    good = wire.seal(packet.echo_request("10.8.0.2", "10.8.0.1"))
    for length in range(4, 25):
        wire.send_raw(good[:length])
    end.transport.settimeout(0.3)
    with pytest.raises(TimeoutError):
        end.transport.recv(65536)
    assert end.peer(1).vpn_rx.packets == 0
    assert wire.echo("10.8.0.2", "10.8.0.1", 2)


def test_socket_is_free_after_the_last_peer(one: tuple[Interface, Endpoint]) -> None:
    """Without peers, the socket is a plain one: data packets come to its owner, too."""
    end, wire = one
    end.control.del_peer(end.index, 1)
    end.transport.settimeout(0.2)
    datagram = wire.seal(b"whatever")

    def arrives() -> bool:
        wire.send_raw(datagram)
        with contextlib.suppress(TimeoutError):
            return end.transport.recv(2048) == datagram
        return False

    waiting.until(arrives, "a data packet at the socket", timeout=5)


def test_peer_without_key(interface: MakeInterface, beta: Namespace) -> None:
    """Between NEW_PEER and NEW_KEY nothing goes out in the clear, and nothing comes in."""
    end = interface()
    keys = KeyPair.random()
    wire = Endpoint(beta, "192.0.2.2", end.address, 1, keys)
    end.add_peer(1, wire.address, None, "10.8.0.2")
    assert not ping_from(end, "10.8.0.2", wire)
    wire.send(packet.echo_request("10.8.0.2", "10.8.0.1"))
    assert wire.is_silent(0.2)
    end.add_key(1, keys.flipped())
    assert ping_from(end, "10.8.0.2", wire)
    wire.close()


def test_deleted_peer_hears_and_says_nothing(one: tuple[Interface, Endpoint]) -> None:
    end, wire = one
    assert wire.echo("10.8.0.2", "10.8.0.1", 1)
    removals = Removals(end.namespace)
    end.control.del_peer(end.index, 1)
    assert removals.next().peer_id == 1
    wire.send(packet.echo_request("10.8.0.2", "10.8.0.1", 2))
    assert not ping_from(end, "10.8.0.2", wire)
    removals.close()


def test_wire_format(one: tuple[Interface, Endpoint]) -> None:
    """Byte by byte: opcode and key id, peer id, packet id, tag, ciphertext."""
    end, wire = one
    inner = packet.echo_request("10.8.0.2", "10.8.0.1", 1, b"abc")
    wire.send(inner)
    datagram, source = wire.receive_raw()
    assert source == end.address
    assert len(datagram) == len(inner) + OVERHEAD
    assert datagram[:8] == bytes([9 << 3 | 0, 0, 0, 1, 0, 0, 0, 1])
    key = wire.keys[0].decrypt
    nonce = datagram[4:8] + key.nonce_tail
    opened = aead.open_(key.cipher_key, nonce, datagram[:8], datagram[24:], datagram[8:24])
    assert packet.parse(opened).is_echo_reply
    assert struct.unpack_from("!H", opened, 2)[0] == len(opened)
