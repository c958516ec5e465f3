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
from conftest import MODES, MakeEndpoint, MakeInterface
from ovpnlab import aead, iperf, link, packet, waiting
from ovpnlab.family import Cipher, KeyPair, Reason, Removals, Slot
from ovpnlab.forgery import bits
from ovpnlab.interface import Interface, udp_socket
from ovpnlab.namespace import Namespace
from ovpnlab.netlink import NetlinkError
from ovpnlab.ping import ping
from ovpnlab.wire import KEEPALIVE, OVERHEAD, Endpoint

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
    assert not wire.is_reached(end, "10.8.0.2")
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


def test_peer_without_key(interface: MakeInterface, beta: Namespace) -> None:
    """Between NEW_PEER and NEW_KEY nothing goes out in the clear, and nothing comes in."""
    end = interface()
    keys = KeyPair.random()
    wire = Endpoint(beta, "192.0.2.2", end.address, 1, keys)
    end.add_peer(1, wire.address, None, "10.8.0.2")
    assert not wire.is_reached(end, "10.8.0.2")
    wire.send(packet.echo_request("10.8.0.2", "10.8.0.1"))
    assert wire.is_silent(0.2)
    end.add_key(1, keys.flipped())
    assert wire.is_reached(end, "10.8.0.2")
    wire.close()


def test_deleted_peer_hears_and_says_nothing(one: tuple[Interface, Endpoint]) -> None:
    end, wire = one
    assert wire.echo("10.8.0.2", "10.8.0.1", 1)
    removals = Removals(end.namespace)
    end.control.del_peer(end.index, 1)
    assert removals.next().peer_id == 1
    wire.send(packet.echo_request("10.8.0.2", "10.8.0.1", 2))
    assert not wire.is_reached(end, "10.8.0.2")
    removals.close()


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
