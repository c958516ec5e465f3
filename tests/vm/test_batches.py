# SPDX-License-Identifier: GPL-2.0
"""Packets that come fast leave as one: each arrives once, in order, whatever it travels with."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
import struct
import termios
import threading
from collections.abc import Callable, Iterable, Iterator

import pytest
from conftest import MakeEndpoint, MakeInterface
from ovpnlab import hostile, kmemleak, link, packet, race, train, waiting
from ovpnlab.interface import Interface
from ovpnlab.namespace import Namespace
from ovpnlab.ping import ping

COUNT = 3000
BURST = 50
PORT = 7777
SMALL, MIDDLE, LARGE = 64, 512, 1300

Pair = tuple[Interface, Interface]

pytestmark = pytest.mark.usefixtures("one_processor")


def numbered(sizes: Iterable[int]) -> list[bytes]:
    """Datagrams that differ, of these sizes."""
    return [
        struct.pack("!I", number) + bytes([number & 255]) * (size - 4)
        for number, size in enumerate(sizes)
    ]


def check(found: list[bytes], sent: list[bytes]) -> None:
    """The same, in the same order. Only what differs first is shown: it may be much."""
    for number, (one, other) in enumerate(zip(found, sent, strict=False)):
        assert one[:8] == other[:8], f"datagram {number} is another"
        assert one == other, f"datagram {number} came in another form"
    assert len(found) == len(sent)


@pytest.fixture
def receiver(beta: Namespace) -> Iterator[socket.socket]:
    """Datagrams for port 7777 in beta, all of a test."""
    with beta.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, race.SO_RCVBUFFORCE, 1 << 25)
        sock.bind(("::", PORT))
        yield sock


def sender(namespace: Namespace, address: str) -> socket.socket:
    """A socket that is connected to the receiver."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = namespace.socket(family, socket.SOCK_DGRAM)
    sock.connect((address, PORT))
    return sock


@contextlib.contextmanager
def senders(namespace: Namespace) -> Iterator[list[socket.socket]]:
    """Four of them."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(sender(namespace, address))
            for address in ("10.8.0.2", "fd00:8::2", "10.8.0.2", "fd00:8::2")
        ]


def came(receiver: socket.socket, count: int) -> list[bytes]:
    """What comes: `count` datagrams, and nothing else for a while."""
    found = []
    receiver.settimeout(5)
    try:
        while len(found) <= count:
            found.append(receiver.recv(65536))
            if len(found) == count:
                receiver.settimeout(0.1)
    except TimeoutError:
        return found
    return found


def outer_packets(namespace: Namespace) -> int:
    """How many packets, large ones counted once, have left by the cable."""
    return link.get(namespace, "eth0").statistics["tx_packets"]


@pytest.mark.smoke
@pytest.mark.parametrize("size", [SMALL, MIDDLE, LARGE])
@pytest.mark.parametrize("inner", ["10.8.0.2", "fd00:8::2"])
@pytest.mark.parametrize("version", [4, 6])
def test_order_and_counts(
    pair: Callable[..., Pair],
    receiver: socket.socket,
    alpha: Namespace,
    version: int,
    inner: str,
    size: int,
) -> None:
    """Each comes once, in order, and is counted; few packets were sent for them.

    The stack is handed many at once, and takes them apart for a device that can not: that is fast
    on any machine.
    """
    near, far = pair(version)
    alpha.run("ethtool", "-K", "tun0", "gso", "off")
    sent = numbered([size] * COUNT)
    before = outer_packets(alpha)
    with sender(alpha, inner) as sock:
        for first in range(0, COUNT, BURST):
            train.send(sock, sent[first : first + BURST], (inner, PORT))
        check(came(receiver, COUNT), sent)
    taken = outer_packets(alpha) - before
    # A kernel with all its checks may take a millisecond for each, and packets so slow do not wait.
    most = COUNT // 4 if kmemleak.slowness() == 1 else COUNT
    assert taken < most, f"{taken} packets were sent for {COUNT}"
    # IPv6 has a few of its own.
    for end, name in ((near, "tx"), (far, "rx")):
        found = end.peer(21)
        vpn, outside = (getattr(found, f"{kind}_{name}") for kind in ("vpn", "link"))
        assert COUNT <= vpn.packets <= COUNT + 20
        assert (outside.packets, outside.bytes) == (vpn.packets, vpn.bytes + 24 * vpn.packets)
        assert link.get(end.namespace, "tun0").statistics[f"{name}_dropped"] == 0


@pytest.mark.parametrize("round_", range(3))
def test_any_sizes(
    pair: Callable[..., Pair], receiver: socket.socket, alpha: Namespace, round_: int
) -> None:
    """Sizes that stay for a while, or change; some need several packets of the link."""
    chance = random.Random(f"{hostile.seed()} {round_}")
    pair()
    sizes: list[int] = []
    while len(sizes) < COUNT:
        size = chance.choice([4, 5, 63, 64, 700, 1372, chance.randint(4, 1372), 20_000])
        sizes += [size] * chance.choice([1, 1, 2, 3, 30, 100])
    sent = numbered(sizes)
    with sender(alpha, "10.8.0.2") as sock:
        for each in sent:
            sock.send(each)
        check(came(receiver, len(sent)), sent)


def test_senders_do_not_mix(
    pair: Callable[..., Pair], receiver: socket.socket, alpha: Namespace
) -> None:
    """Four sockets send in turn: the datagrams of each come in order."""
    pair()
    sent = numbered([SMALL] * (COUNT // 4))
    with senders(alpha) as socks:
        for each in sent:
            for name, sock in enumerate(socks):
                sock.send(bytes([name]) + each)
        found = came(receiver, len(socks) * len(sent))
    for name in range(len(socks)):
        check([each[1:] for each in found if each[0] == name], sent)


def test_senders_on_all_cpus(
    pair: Callable[..., Pair], receiver: socket.socket, alpha: Namespace
) -> None:
    """Four threads send to one peer, wherever they run: each datagram comes once."""
    near, _ = pair()
    sent = numbered([SMALL] * (COUNT // 4))

    def send_all(name: int, sock: socket.socket) -> None:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        for each in sent:
            sock.send(bytes([name]) + each)

    with senders(alpha) as socks:
        threads = [threading.Thread(target=send_all, args=both) for both in enumerate(socks)]
        for thread in threads:
            thread.start()
        found = came(receiver, len(socks) * len(sent))
        for thread in threads:
            thread.join()
        for name in range(len(socks)):
            check(sorted(each[1:] for each in found if each[0] == name), sent)
    assert link.get(near.namespace, "tun0").statistics["tx_dropped"] == 0


def test_what_the_far_end_gets(
    interface: MakeInterface, endpoint: MakeEndpoint, alpha: Namespace
) -> None:
    """A peer that knows nothing of large packets gets datagrams, with packet ids in order."""
    end = interface()
    peer = endpoint(end, 1, "10.8.0.2")
    peer.socket.setsockopt(socket.SOL_SOCKET, race.SO_RCVBUFFORCE, 1 << 25)
    sent = numbered([SMALL] * 500 + [SMALL - 1] + [MIDDLE] * 100)
    with sender(alpha, "10.8.0.2") as sock:
        for each in sent:
            sock.send(each)
    got = [peer.receive_ip(protocol=packet.UDP) for _ in sent]
    check([each.ip.payload[8:] for each in got], sent)
    ids = [each.packet_id for each in got]
    assert ids == sorted(set(ids))


def test_forwarded_packets(
    interface: MakeInterface, endpoint: MakeEndpoint, alpha: Namespace
) -> None:
    """From one client to another, through the kernel's routing, which is charged to no socket."""
    end = interface()
    alpha.forward()
    first = endpoint(end, 1, "10.8.0.2")
    second = endpoint(end, 2, "10.8.0.3")
    second.socket.setsockopt(socket.SOL_SOCKET, race.SO_RCVBUFFORCE, 1 << 25)
    sent = numbered([100] * 1000)
    inner = [packet.udp(("10.8.0.2", 9), ("10.8.0.3", 9), each) for each in sent]
    for datagram in [first.seal(each) for each in inner]:
        first.send_raw(datagram)
    got = [second.receive_ip(protocol=packet.UDP).ip.payload[8:] for _ in sent]
    check(got, sent)


@pytest.mark.smoke
def test_the_sender_is_charged_in_the_end_for_nothing(
    pair: Callable[..., Pair], receiver: socket.socket, alpha: Namespace
) -> None:
    """All memory that was charged to it is given back, and its send buffer limits it meanwhile."""
    pair()
    with sender(alpha, "10.8.0.2") as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20_000)
        for size in (SMALL, MIDDLE, LARGE):
            for _ in range(500):
                sock.send(bytes(size))
        assert len(came(receiver, 1500)) == 1500

        def unsent() -> int:
            answer = fcntl.ioctl(sock, termios.TIOCOUTQ, struct.pack("i", -1))
            return int(struct.unpack("i", answer)[0])

        waiting.until(lambda: unsent() == 0, "nothing is charged to the sender")


def test_lone_packets_do_not_wait(pair: Callable[..., Pair], alpha: Namespace) -> None:
    """Pings that follow each other fast, one at a time: each is answered before the next."""
    pair()
    found = ping(alpha, "10.8.0.2", count=500, interval=0.001)
    assert found.complete, str(found)
