# SPDX-License-Identifier: GPL-2.0
"""Hostile trains: packets that travel as one, each of them taken for what it is.

OVPN_DCO_SEED   repeats a run: the seed is printed
OVPN_DCO_LONG   1: a thousand random ones
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import struct
from collections.abc import Iterator

import pytest
from conftest import MakeEndpoint, MakeInterface
from ovpnlab import hostile, packet, train
from ovpnlab.family import KeyPair, Slot
from ovpnlab.forgery import bits
from ovpnlab.interface import Interface, udp_socket
from ovpnlab.namespace import Namespace
from ovpnlab.network import cable
from ovpnlab.shapes import SOURCE, TARGET, Stream, plain, random_inner, shapes
from ovpnlab.tap import Tap
from ovpnlab.wire import KEEPALIVE, Endpoint

SO_RCVBUFFORCE = 33


@pytest.fixture
def chance() -> random.Random:
    """Chance, from a printed seed."""
    return random.Random(hostile.seed())


class Router:
    """An interface whose host routes what comes out of it to a tap, packet by packet."""

    def __init__(
        self, end: Interface, wire: Endpoint, tap: Tap, tap_namespace: Namespace, gro: bool
    ) -> None:
        self.end, self.wire, self.tap = end, wire, tap
        self.wire_namespace = tap_namespace
        self.gro = gro
        self._marker = 0

    def arrive(self, count: int) -> list[bytes]:
        """The next `count` packets at the tap, and all that are there once a last one came."""
        self._marker += 1
        marker = packet.udp(("10.8.0.2", 7), (TARGET[4], 7), b"%d" % self._marker)
        self.wire.send(marker)
        last = train.forwarded(marker)
        found: list[bytes] = []
        while last not in found or len(found) <= count:
            try:
                found += self._ours([self.tap.receive(3)])
            except TimeoutError:
                assert last in found, "the tunnel's own traffic does not go on"
                break
        found += self._ours(self.tap.waiting())
        found.remove(last)
        return found

    @staticmethod
    def _ours(seen: list[bytes]) -> list[bytes]:
        """Without what the host says of its own accord, such as MLD's reports."""
        return [each for each in seen if packet.parse(each).destination in TARGET.values()]

    def check(self, inner: list[bytes], what: str) -> None:
        """Exactly these packets come out, those of one flow in their order."""
        found = self.arrive(len(inner))
        wanted = [train.forwarded(each) for each in inner]
        for name in dict.fromkeys(map(train.flow, wanted + found)):
            sent = [each for each in wanted if train.flow(each) == name]
            came = [each for each in found if train.flow(each) == name]
            for n, (one, other) in enumerate(zip(sent, came, strict=False)):
                assert one.hex() == other.hex(), f"{what}: packet {n} of {name} is another"
            assert len(came) == len(sent), f"{what}: {len(came)} of {len(sent)} of {name}"


@pytest.fixture(params=["gro", "no-gro"])
def router(
    request: pytest.FixtureRequest,
    one: tuple[Interface, Endpoint],
    alpha: Namespace,
    beta: Namespace,
    second_cable: None,
) -> Iterator[Router]:
    """Peer 1 behind an interface with GRO, or without: then only trains are joined."""
    end, wire = one
    alpha.forward()
    mac = json.loads(beta.run("ip", "-j", "link", "show", "eth1"))[0]["address"]
    alpha.ip(*(f"neigh replace {a} lladdr {mac} dev eth1" for a in TARGET.values()))
    alpha.run("ethtool", "-K", "eth1", "tx", "off", "tso", "off", "gso", "off")
    alpha.run("ethtool", "-K", end.name, "gro", "on" if request.param == "gro" else "off")
    with Tap(beta, "eth1") as tap:
        tap.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        yield Router(end, wire, tap, beta, request.param == "gro")
    alpha.run("ethtool", "-K", "eth1", "tx", "on", "tso", "on", "gso", "on")


@pytest.mark.parametrize("version", [4, 6])
def test_trains_come_out_as_they_were(router: Router, version: int) -> None:
    """Every shape of what is inside: cut again, the packets are those that were sealed."""
    wrong = []
    made = shapes(version)
    if version == 6 and router.gro:
        # Linux 7.3 does not forward what its receive offload joined behind an extension header:
        # ip6_rcv_core() takes that for the TCP header, and qdisc_pkt_len_segs_init() drops it.
        del made["extended"]
    for name, trains in made.items():
        for inner in trains:
            sealed = list(map(router.wire.seal, inner))
            train.send(router.wire.socket, sealed, router.end.address)
            try:
                router.check(inner, name)
            except AssertionError as error:
                wrong.append(str(error)[:600])
    assert not wrong, "\n".join(wrong)
    assert router.end.peer(1).remote == router.wire.address


@pytest.mark.parametrize("version", [4, 6])
def test_one_bad_packet_at_each_place(router: Router, version: int, chance: random.Random) -> None:
    """Forged, replayed, of a wrong key, damaged inside: the others come out, and only they."""
    end, wire, size = router.end, router.wire, 9
    old = wire.seal(train.tcp((SOURCE[version], 1), (TARGET[version], 80), 1, bytes(250)))
    wire.send_raw(old)
    router.arrive(1)
    drops, accepted = hostile.dropped(end), hostile.accepted(end)[0]
    trains = 0
    for place in range(size):
        for kind in ("forged", "tag", "packet id", "replayed"):
            trains += 1
            inner = plain(version, size, 250)
            sealed = list(map(wire.seal, inner))
            first, last = {"tag": (8, 24), "packet id": (4, 8)}.get(kind, (24, len(old)))
            sealed[place] = (
                old if kind == "replayed" else hostile.flip(chance, sealed[place][:last], first)
                + sealed[place][last:]
            )  # fmt: skip
            train.send(wire.socket, sealed, end.address)
            router.check(inner[:place] + inner[place + 1 :], f"{kind} at {place}")
    hostile.wait_dropped(end, drops + trains, "one bad packet in each train")
    # A marker for each train, too.
    assert hostile.accepted(end)[0] - accepted == trains * size


def test_replayed_trains(router: Router) -> None:
    """Whole, from the peer and from elsewhere; and in part new."""
    end, wire = router.end, router.wire
    inner = plain(4, 20, 100)
    sealed = list(map(wire.seal, inner))
    train.send(wire.socket, sealed[:10], end.address)
    router.check(inner[:10], "the first time")
    drops = hostile.dropped(end)
    with udp_socket(router.wire_namespace, "192.0.2.2") as stranger:
        train.send(stranger, sealed[:10], end.address)
    train.send(wire.socket, sealed[:10][::-1], end.address)
    hostile.wait_dropped(end, drops + 20, "replayed trains")
    train.send(wire.socket, sealed, end.address)
    router.check(inner[10:], "half of it again")
    hostile.wait_dropped(end, drops + 30, "replayed trains")
    assert end.peer(1).remote == wire.address


def test_only_authentic_trains_float(one: tuple[Interface, Endpoint], beta: Namespace) -> None:
    """Forged and replayed ones from elsewhere do not move a peer; one with a new packet does."""
    end, wire = one
    inner = packet.udp(("10.8.0.2", 9), ("10.8.0.1", 9), bytes(20))
    good = [wire.seal(inner) for _ in range(10)]
    forged = [bits(len(each) - 1, each) for each in good]
    with udp_socket(beta, "192.0.2.2") as stranger:
        train.send(stranger, forged, end.address)
        hostile.wait_dropped(end, 10, "a forged train")
        train.send(wire.socket, good[1:], end.address)
        hostile.wait_accepted(end, 9, "a train")
        train.send(stranger, good[1:], end.address)
        hostile.wait_dropped(end, 19, "a replayed train")
        seen = end.peer(1).remote
        assert seen == wire.address, f"who has no key has moved the peer to {seen}"
        train.send(stranger, [*forged[1:], good[0]], end.address)
        hostile.wait_accepted(end, 10, "a train with a new packet")
        seen = end.peer(1).remote
        assert seen == stranger.getsockname(), f"after a new packet from elsewhere it is at {seen}"


def test_peers_and_keys_in_one_train(router: Router, endpoint: MakeEndpoint) -> None:
    """Two peers', two keys', unknown ones' packets: each is opened with what is its own."""
    end, wire = router.end, router.wire
    other = endpoint(end, 2, "10.8.0.3")
    second = KeyPair.random(key_id=5)
    wire.add_key(second)
    end.add_key(1, second.flipped(), Slot.SECONDARY)
    target = (TARGET[4], 80)
    theirs = [
        train.tcp(("10.8.0.3", 9), target, 1 + 200 * n, bytes(200), ident=n) for n in range(9)
    ]
    ours = plain(4, 9, 200)
    for turns in (
        "ababababa",
        "aaaabbbbb",
        "baaaaaaaa",
        "aaaaaaaab",
        "cacacacac",
        "ccccccccd",
        "acbd",
    ):
        made = {
            "a": iter(ours), "b": iter(theirs), "c": iter(ours), "d": iter(ours)
        }  # fmt: skip
        inner, sealed, drops = [], [], hostile.dropped(end)
        for turn in turns:
            each = next(made[turn])
            if turn == "b":
                # From the address of the first: it floats there, as nothing forbids.
                sealed.append(other.seal(each))
            else:
                sealed.append(wire.seal(each, key_id=5 if turn == "c" else 0))
            if turn == "d":
                sealed[-1] = b"\x48\0\0\7" + sealed[-1][4:]
            else:
                inner.append(each)
        train.send(wire.socket, sealed, end.address)
        router.check(inner, f"train {turns}")
        hostile.wait_dropped(end, drops + turns.count("d"), "packets of an unknown peer")


@pytest.mark.smoke
def test_control_packet_in_a_train(router: Router) -> None:
    """Each opcode, at each place: the daemon gets it whole and alone, the rest is opened."""
    end, wire = router.end, router.wire
    end.transport.settimeout(5)
    for opcode in (opcode for opcode in range(32) if opcode != 9):
        place = opcode % 5
        inner = plain(4, 5, 100)
        sealed = list(map(wire.seal, inner))
        control = bytes([opcode << 3]) + os.urandom(len(sealed[0]) - 1)
        if place == 4:
            control = control[: 1 + opcode]
        sealed[place] = control
        train.send(wire.socket, sealed, end.address)
        got, source = end.transport.recvfrom(65536)
        assert (got, source) == (control, wire.address), f"opcode {opcode}: {got[:32].hex()}"
        router.check(inner[:place] + inner[place + 1 :], f"around opcode {opcode}")
    train.send(wire.socket, [b"\x28" + bytes(99)] * 20, end.address)
    for _ in range(20):
        assert end.transport.recv(65536) == b"\x28" + bytes(99), "a train of control packets"
    hostile.nothing_for_the_daemon(end)


def test_truncated_last_packet_of_a_train(router: Router) -> None:
    """The last one ends at every byte: it is dropped, and the others come out."""
    end, wire = router.end, router.wire
    inner = plain(4, 3, 20)
    drops = hostile.dropped(end)
    for length in range(1, len(inner[0]) + 24):
        sealed = list(map(wire.seal, inner))
        train.send(wire.socket, [*sealed[:2], sealed[2][:length]], end.address)
        router.check(inner[:2], f"the last has {length} bytes")
        hostile.wait_dropped(end, drops + length, "truncated packets")
    # Messages that are no IP packets, and nothing at all, behind what is joined.
    sealed = [*map(wire.seal, inner), wire.seal(KEEPALIVE)]
    train.send(wire.socket, sealed, end.address)
    router.check(inner, "before a keepalive")
    train.send(wire.socket, [wire.seal(KEEPALIVE)] * 3, end.address)
    train.send(wire.socket, [*map(wire.seal, inner), wire.seal(b"")], end.address)
    router.check(inner, "before an empty packet")
    hostile.nothing_for_the_daemon(end)


@pytest.mark.parametrize("version", [4, 6])
def test_random_trains(router: Router, version: int, chance: random.Random) -> None:
    """Flows, flags, gaps, forgeries and replays by chance."""
    end, wire = router.end, router.wire
    sent: list[bytes] = []
    for _ in range(1000 if hostile.LONG else 25):
        size = chance.choice((13, 14, 40, 90, 130, 250, 600, 1380))
        streams = [Stream(version, 2000 + n) for n in range(chance.choice((1, 1, 2, 3)))]
        inner: list[bytes] = []
        sealed: list[bytes] = []
        while len(sealed) < chance.choice((5, 20, 40)):
            each = random_inner(chance, streams, size)
            datagram = wire.seal(each)
            if sealed and len(datagram) != len(sealed[0]):
                continue
            fate = chance.random()
            if fate < 0.05:
                datagram = hostile.flip(chance, datagram)
            elif fate < 0.08 and sealed and sealed[-1] in sent:
                datagram = sealed[-1]
            else:
                inner.append(each)
                sent.append(datagram)
            sealed.append(datagram)
        train.send(wire.socket, sealed, end.address)
        router.check(inner, "random train")
    print(f"{len(sent)} packets")


def _ethernet(beta: Namespace, alpha: Namespace, interface: str, datagram: bytes) -> bytes:
    macs = [
        bytes.fromhex(json.loads(n.run("ip", "-j", "link", "show", interface))[0]["address"]
                      .replace(":", ""))
        for n in (alpha, beta)
    ]  # fmt: skip
    return b"".join(macs) + b"\x08\0" + datagram


def test_train_of_huge_packets(
    interface: MakeInterface, alpha: Namespace, beta: Namespace, stack: contextlib.ExitStack
) -> None:
    """Where the link carries 64 KiB, a train may be of packets that no other buffer holds."""
    near, far, size = "198.51.100.1", "198.51.100.2", 40000
    cable(alpha, "huge0", (f"{near}/24",), beta, "huge0", (f"{far}/24",))
    stack.callback(alpha.ip, "link del huge0")
    for namespace in (alpha, beta):
        namespace.ip("link set huge0 mtu 65535")
    beta.run("ethtool", "-K", "huge0", "tso", "off", "gso", "off")
    alpha.run("ethtool", "-K", "huge0", "gro", "on")
    # What came last waits so long for what may follow it.
    wait = "echo 50000000 > /sys/class/net/huge0/gro_flush_timeout"
    alpha.run("ip", "netns", "exec", alpha.name, "sh", "-c", wait)
    end = interface("10.8.0.1/24", outer=near)
    wire = Endpoint(beta, far, end.address, 1, keys := KeyPair.random())
    stack.callback(wire.close)
    end.add_peer(1, wire.address, keys.flipped(), "10.8.0.2")

    def frame(length: int) -> bytes:
        inner = packet.udp(("10.8.0.2", 9), ("10.8.0.1", 9), bytes(length - 24 - 28))
        sealed = wire.seal(inner)
        head = struct.pack("!HHHH", wire.address[1], end.address[1], 8 + len(sealed), 0)
        check = train.transport_checksum(far, near, packet.UDP, head + sealed)
        body = head[:6] + struct.pack("!H", check or 0xFFFF) + sealed
        return _ethernet(beta, alpha, "huge0", packet.ip(far, near, packet.UDP, body))

    joined = sent = 0
    with beta.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw, Tap(alpha, "huge0") as tap:
        raw.bind(("huge0", 0))
        for _ in range(30):
            one, other = frame(size), frame(20000)
            raw.send(one)
            raw.send(other)
            sent += 2
            hostile.wait_accepted(end, sent, "huge packets")
            joined += sum(len(seen) > size + 1000 for seen in tap.waiting())
            if joined:
                break
    assert joined, "the kernel joined none of the packets: nothing was tested"
    assert hostile.dropped(end) == 0
