# SPDX-License-Identifier: GPL-2.0
"""Hostile packets: what is not authentic and new changes nothing.

OVPN_DCO_SEED   repeats a run: the seed is printed
OVPN_DCO_LONG   1: a million packets
"""

from __future__ import annotations

import random
import socket
import struct
from itertools import batched

import pytest
from conftest import MakeEndpoint
from ovpnlab import hostile, packet, train, waiting
from ovpnlab.family import KeyPair
from ovpnlab.forgery import bits
from ovpnlab.interface import Interface, udp_socket
from ovpnlab.namespace import Namespace
from ovpnlab.wire import Endpoint

FORGED = 1_000_000 if hostile.LONG else 30_000
WINDOW = 2048
SO_RCVBUFFORCE = 33


@pytest.fixture
def chance() -> random.Random:
    """Chance, from a printed seed."""
    return random.Random(hostile.seed())


# -- one by one ---------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.differs_from_c("it counts before it authenticates")
def test_truncated_at_every_byte(one: tuple[Interface, Endpoint]) -> None:
    """What is left of a packet is dropped; only nothing at all is the daemon's."""
    end, wire = one
    assert wire.echo("10.8.0.2", "10.8.0.1", 1)
    before, drops = hostile.accepted(end), hostile.dropped(end)
    good = wire.seal(packet.echo_request("10.8.0.2", "10.8.0.1", 2, bytes(60)))
    for length in range(1, len(good)):
        wire.send_raw(good[:length])
    hostile.wait_dropped(end, drops + len(good) - 1, "truncated packets")
    assert hostile.accepted(end) == before, "a truncated packet was accepted"
    hostile.nothing_for_the_daemon(end)
    wire.send_raw(b"")
    end.transport.settimeout(5)
    assert end.transport.recv(100) == b"", "an empty datagram is the daemon's"
    wire.send_raw(good)
    assert wire.receive_reply(2), "the whole packet is still new"


def test_oversized(one: tuple[Interface, Endpoint], chance: random.Random) -> None:
    """The largest datagrams that there are, forged and authentic; they come in fragments."""
    end, wire = one
    wire.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)
    drops = hostile.dropped(end)
    for size in (1501, 9000, 32768 + 24, 32768 + 25, 65000, 65507):
        wire.send_raw(wire.seal(bytes(20), packet_id=1)[:24] + chance.randbytes(size - 24))
    hostile.wait_dropped(end, drops + 6, "oversized forgeries")
    assert hostile.accepted(end) == (0, 0), "an oversized forgery was accepted"
    for sequence, size in enumerate((9000, 32768 - 28, 32768 - 27, 65400)):
        data = chance.randbytes(size)
        wire.send(packet.echo_request("10.8.0.2", "10.8.0.1", sequence, data))
    # Answers of that size do not fit the interface, but in fragments; that they came is enough.
    waiting.until(lambda: hostile.accepted(end) == (4, 4), "large authentic packets are accepted")
    assert wire.echo("10.8.0.2", "10.8.0.1", 99)


@pytest.mark.smoke
def test_reordered_within_and_beyond_the_window(one: tuple[Interface, Endpoint]) -> None:
    """Each id once, and none that is 2048 or more behind the highest."""
    end, wire = one
    top = 10_000

    def taken(packet_id: int) -> bool:
        before, drops = hostile.accepted(end)[0], hostile.dropped(end)
        wire.send(packet.udp(("10.8.0.2", 9), ("10.8.0.1", 9), b""), packet_id=packet_id)
        waiting.until(
            lambda: hostile.accepted(end)[0] + hostile.dropped(end) == before + drops + 1,
            f"id {packet_id} is taken",
        )
        return hostile.accepted(end)[0] > before

    assert taken(top)
    for packet_id, wanted in (
        *((top - WINDOW, False), (top - WINDOW + 1, True), (top - WINDOW + 1, False)),
        *((top - 1, True), (top - 64, True), (top - 63, True), (top, False), (0, False)),
        *((1, False), (top + 1, True), (top - WINDOW + 1, False), (top - WINDOW + 2, True)),
        *((top + 2560, True), (top + 513, True), (top + 512, False), (0xFFFFFFFF, True)),
        *((top + 2560, False), (0xFFFFFFFF - WINDOW + 1, True), (0xFFFFFFFF - WINDOW, False)),
    ):
        assert taken(packet_id) == wanted, f"id {packet_id} should be accepted: {wanted}"


def test_forged_ids_do_not_move_the_window(one: tuple[Interface, Endpoint]) -> None:
    """Whoever has no key cannot make a peer's next packets too old, by one packet nor by a train."""
    end, wire = one
    inner = packet.udp(("10.8.0.2", 9), ("10.8.0.1", 9), bytes(20))
    sealed = [wire.seal(inner, packet_id=5000 + n) for n in range(11)]
    forged = [bits(len(each) - 1, each) for each in sealed]
    wire.send_raw(forged[0])
    hostile.wait_dropped(end, 1, "a forgery")
    wire.send(inner)
    hostile.wait_accepted(end, 1, "packets after a forgery")
    train.send(wire.socket, forged[1:], end.address)
    hostile.wait_dropped(end, 11, "a forged train")
    wire.send(inner)
    hostile.wait_accepted(end, 2, "packets after a forged train")


def test_keys_and_peer_ids(
    one: tuple[Interface, Endpoint], endpoint: MakeEndpoint, beta: Namespace
) -> None:
    """Old key ids, other peers' ids, the undefined one, and inner sources of others."""
    end, wire = one
    other = endpoint(end, 2, "10.8.0.3")
    inner = packet.echo_request("10.8.0.2", "10.8.0.1", 5)
    old = [wire.seal(inner) for _ in range(3)]
    end.add_key(1, KeyPair.random(key_id=1))
    drops = hostile.dropped(end)
    for each in old:
        wire.send_raw(each)
    for key_id in range(8):
        head = bytes([9 << 3 | key_id])
        wire.send_raw(head + old[0][1:])
    for peer_id in (2, 3, 0xFFFFFE, 0xFFFFFF):
        wire.send(inner, peer_id=peer_id)
    with udp_socket(beta, "192.0.2.2") as stranger:
        for each in old + [other.seal(inner, peer_id=0xFFFFFF)]:
            stranger.sendto(each, end.address)
    hostile.wait_dropped(end, drops + 3 + 8 + 4 + 4, "wrong keys and peers")
    assert (hostile.accepted(end), hostile.accepted(end, 2)) == ((0, 0), (0, 0)), (
        "something was accepted"
    )
    assert end.peer(1).remote == wire.address and end.peer(2).remote == other.address
    # Authentic, but from an address that is another peer's.
    other.send(inner)
    hostile.wait_dropped(end, drops + 20, "a forged inner source")
    assert hostile.accepted(end, 2) == (1, 0), "a forged inner source came out of the tunnel"
    assert other.echo("10.8.0.3", "10.8.0.1", 6)


@pytest.mark.differs_from_c("it floats before it authenticates")
def test_flood(
    one: tuple[Interface, Endpoint],
    endpoint: MakeEndpoint,
    beta: Namespace,
    chance: random.Random,
) -> None:
    """Forgeries and replays in trains and alone, from everywhere, while two peers talk."""
    end, wire = one
    other = endpoint(end, 2, "10.8.0.3")
    inner = packet.udp(("10.8.0.2", 9), ("10.8.0.1", 9), bytes(20))
    accepted = [wire.send(inner) for _ in range(40)]
    fresh = [wire.seal(inner) for _ in range(40)]  # never sent as they are
    honest, drops, forged = [40, 0], hostile.dropped(end), 0
    with udp_socket(beta, "192.0.2.2") as stranger:
        for count, _ in enumerate(range(0, FORGED, 100)):
            datagrams = [
                chance.choice(accepted) if chance.random() < 0.3
                else hostile.flip(chance, chance.choice(fresh), 4)
                for _ in range(100)
            ]  # fmt: skip
            if chance.random() < 0.3:
                # Of undefined, unknown, or the other's peer id.
                wrong = struct.pack("!I", 0x48000000 | chance.choice((2, 7, 0xFFFFFF)))
                datagrams = [wrong + each[4:] for each in datagrams]
            forged += len(datagrams)
            sender = chance.choice((wire.socket, other.socket, stranger))
            for part in batched(datagrams, chance.choice((1, 2, 100)), strict=False):
                train.send(sender, part, end.address)
            if count % 10 == 0:
                sequence = count % 65536
                assert wire.echo("10.8.0.2", "10.8.0.1", sequence), f"after {forged} forgeries"
                assert other.echo("10.8.0.3", "10.8.0.1", sequence), f"after {forged} forgeries"
                honest = [honest[0] + 1, honest[1] + 1]
    print(f"{forged} hostile packets")
    hostile.wait_dropped(end, drops + forged, "each hostile packet is dropped, and counted once")
    assert hostile.accepted(end) == (honest[0],) * 2, (
        f"of {forged} hostile packets some were accepted"
    )
    assert hostile.accepted(end, 2) == (honest[1],) * 2, (
        f"of {forged} hostile packets some were accepted"
    )
    assert end.peer(1).remote == wire.address and end.peer(2).remote == other.address
    hostile.nothing_for_the_daemon(end)
