# SPDX-License-Identifier: GPL-2.0
"""Out of memory where packets pass: one by one each allocation fails, then one of a hundred.

A packet comes out whole or not at all, and the next one comes. Needs a kernel with fault injection.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Sweep
from ovpnlab import command, faults, hostile, module, packet, stream, train, waiting
from ovpnlab.family import KeyPair, Slot
from ovpnlab.faults import OUT_OF_MEMORY, Fault, in_requests, refused
from ovpnlab.flow import Flow
from ovpnlab.interface import Interface
from ovpnlab.namespace import Namespace
from ovpnlab.ping import ping
from ovpnlab.stream import control, frame
from ovpnlab.tcp_peer import TcpLab
from ovpnlab.wire import Channel, Endpoint

pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("injection")]

SECONDS = 10
REMOTE = ("192.0.2.2", 9)


@pytest.fixture
def sender(alpha: Namespace) -> Iterator[socket.socket]:
    """A socket that sends into the tunnel."""
    with alpha.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        yield made


@pytest.fixture
def receiver(alpha: Namespace, beta: Namespace) -> Iterator[str]:
    """The thread that takes in what alpha receives."""
    with faults.received_by_thread(alpha, beta, "eth0") as task:
        yield task


def _came(far: Channel, sender: socket.socket, marker: bytes) -> list[bytes]:
    """What comes out at the far end before the marker, which is sent without a fault."""
    sender.sendto(marker, ("10.8.0.2", 7))
    seen = []
    while True:
        payload = far.receive_ip(5, packet.UDP).ip.payload[8:]
        if payload == marker:
            return seen
        seen.append(payload)


# -- out by the tunnel --------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize("size", [100, 1300])
def test_send_udp(
    sweep: Sweep, one: tuple[Interface, Endpoint], sender: socket.socket, size: int
) -> None:
    """One packet."""
    _, wire = one
    numbers = itertools.count()
    payload = b""

    def send(fault: Fault) -> None:
        nonlocal payload
        payload = next(numbers).to_bytes(4) + os.urandom(size)
        with fault:
            sender.sendto(payload, ("10.8.0.2", 7))

    def settle(_: OSError | None) -> None:
        assert _came(wire, sender, b"next") in ([], [payload]), "something else came out"

    _came(wire, sender, b"first")
    sweep(send, settle)


def test_send_train(sweep: Sweep, one: tuple[Interface, Endpoint], sender: socket.socket) -> None:
    """Ten packets that the stack hands over as one; what comes of them is whole and in order."""
    _, wire = one
    sender.setsockopt(socket.IPPROTO_UDP, train.UDP_SEGMENT, 1000)
    parts = [number.to_bytes(4) + os.urandom(996) for number in range(10)]

    def send(fault: Fault) -> None:
        with fault:
            sender.sendto(b"".join(parts), ("10.8.0.2", 7))

    def settle(_: OSError | None) -> None:
        came = _came(wire, sender, b"next")
        assert came == [part for part in parts if part in came], "what came was not sent so"

    _came(wire, sender, b"first")
    sweep(send, settle)


def test_send_tcp(sweep: Sweep, lab: TcpLab, sender: socket.socket) -> None:
    """Into the queue of a connection."""
    peer = lab.peer()
    payload = os.urandom(1300)

    def send(fault: Fault) -> None:
        with fault:
            sender.sendto(payload, ("10.8.0.2", 7))

    def settle(_: OSError | None) -> None:
        assert _came(peer.far, sender, b"next") in ([], [payload]), "something else came out"

    _came(peer.far, sender, b"first")
    sweep(send, settle)


# -- in by the tunnel ---------------------------------------------------------------------


def _arrive(fault: Fault, send: Callable[[], object], taken: Callable[[], bool]) -> None:
    """Send what is then taken in with the fault, or is all taken in without meeting it."""
    with fault:
        send()
        waiting.until(lambda: fault.look() or taken(), "what was sent arrives", 20, 0.002)


@pytest.mark.smoke
def test_receive_udp(sweep: Sweep, one: tuple[Interface, Endpoint], receiver: str) -> None:
    """One packet: it is accepted once, or lost. At best nothing needs memory."""
    end, wire = one
    numbers = itertools.count(1)
    expected = 0

    def receive(fault: Fault) -> None:
        before = hostile.accepted(end)[0]
        inner = packet.udp(("10.8.0.2", 9), ("10.8.0.1", 9), bytes(1000))
        _arrive(fault, lambda: wire.send(inner), lambda: hostile.accepted(end)[0] > before)

    def settle(_: OSError | None) -> None:
        nonlocal expected
        wire.echo("10.8.0.2", "10.8.0.1", next(numbers))
        seen = hostile.accepted(end)[0]
        assert seen in (expected + 1, expected + 2), f"{seen} packets after {expected}"
        expected = seen

    settle(None)
    sweep(receive, settle, task=receiver, least=0)


def test_receive_train(sweep: Sweep, one: tuple[Interface, Endpoint], receiver: str) -> None:
    """Ten packets in one: each is accepted once, dropped and counted, or all are lost before."""
    end, wire = one
    numbers = itertools.count(1)
    expected = (0, 0)

    def state() -> tuple[int, int]:
        return hostile.accepted(end)[0], hostile.dropped(end)

    def receive(fault: Fault) -> None:
        inner = packet.udp(("10.8.0.2", 9), ("10.8.0.1", 9), bytes(500))
        parts = [wire.seal(inner) for _ in range(10)]
        _arrive(
            fault,
            lambda: train.send(wire.socket, parts, wire.remote),
            lambda: sum(state()) >= sum(expected) + 10,
        )

    def settle(_: OSError | None) -> None:
        nonlocal expected
        wire.echo("10.8.0.2", "10.8.0.1", next(numbers))
        seen = state()
        more = sum(seen) - sum(expected) - 1
        # A packet that was accepted, and cannot be handed on then, is counted as dropped besides.
        assert 0 <= more <= 20, f"accepted and dropped {seen} after {expected}"
        assert seen[0] - expected[0] - 1 <= 10, f"accepted and dropped {seen} after {expected}"
        expected = seen

    settle(None)
    sweep(receive, settle, task=receiver)


def test_receive_tcp(sweep: Sweep, lab: TcpLab, receiver: str) -> None:
    """A data packet: it is accepted, or dropped; the connection goes on."""
    peer = lab.peer()
    numbers = itertools.count(1)

    def receive(fault: Fault) -> None:
        before = hostile.accepted(lab.end)[0]
        inner = packet.udp((peer.ipv4, 9), ("10.8.0.1", 9), bytes(1000))
        _arrive(fault, lambda: peer.far.send(inner), lambda: hostile.accepted(lab.end)[0] > before)

    def settle(_: OSError | None) -> None:
        peer.ping(next(numbers))

    settle(None)
    sweep(receive, settle, task=receiver)


def test_receive_tcp_for_the_daemon(sweep: Sweep, lab: TcpLab, receiver: str) -> None:
    """The daemon gets each of its messages in order, or the connection is at its end."""
    peer = lab.peer()
    numbers = itertools.count(1)
    ends = 0

    def receive(fault: Fault) -> None:
        message = frame(control(next(numbers), 500))
        peer.daemon.settimeout(0)

        def taken() -> bool:
            with contextlib.suppress(BlockingIOError):
                return len(peer.daemon.recv(1, socket.MSG_PEEK)) == 1
            return False

        _arrive(fault, lambda: peer.far.send_bytes(message), taken)
        if lab.end.has_peer(1):
            peer.daemon.settimeout(5)
            with contextlib.suppress(ConnectionError, TimeoutError):
                assert stream.receive_exactly(peer.daemon, len(message)) == message

    def settle(_: OSError | None) -> None:
        nonlocal peer, ends
        if not lab.end.has_peer(1):
            ends += 1
            peer.close()
            peer = lab.peer()
        peer.ping(next(numbers))

    peer.ping()
    sweep(receive, settle, task=receiver)
    print(f"{ends} connections ended")


# -- the daemon's own socket --------------------------------------------------------------


def test_daemon_sends(sweep: Sweep, lab: TcpLab) -> None:
    """Its message goes out whole, by itself, or it is told that it does not."""
    peer = lab.peer()
    numbers = itertools.count(1)
    message = b""

    def send(fault: Fault) -> None:
        nonlocal message
        message = control(next(numbers), 500)
        # Nothing is on its way whose arrival would let the connection go on.
        waiting.until(lambda: stream.queued(peer.daemon) == 0, "all is acknowledged")
        with fault:
            peer.daemon.send(frame(message))

    def settle(error: OSError | None) -> None:
        if error is None:
            # Where a segment was lost, TCP takes its time.
            assert peer.far.receive_raw(60)[0] == message
        marker = control(next(numbers))
        peer.daemon.send(frame(marker))
        assert peer.far.receive_raw()[0] == marker
        peer.ping()

    peer.daemon.setblocking(False)
    peer.ping()
    sweep(send, settle)


# -- one of a hundred ---------------------------------------------------------------------


def _kernel_workers() -> Iterator[int]:
    for comm in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if comm.read_text().startswith(("kworker/", "napi/")):
                yield int(comm.parent.name)


@contextlib.contextmanager
def _marked_workers() -> Iterator[None]:
    """The allocations of the kernel's workers fail, those too for which they could wait."""
    workers = list(_kernel_workers())
    with contextlib.ExitStack() as stack:
        for worker in workers:
            with contextlib.suppress(OSError):
                faults.mark(worker)
                stack.callback(_unmark, worker)
        with faults.percent(1, marked=True):
            yield


def _unmark(worker: int) -> None:
    with contextlib.suppress(OSError):
        faults.mark(worker, False)


def _tcp_ends(alpha: Namespace, beta: Namespace, stack: contextlib.ExitStack) -> list[Interface]:
    """A tunnel over TCP, the module at both ends."""
    ends = [Interface(alpha, None, "10.8.0.1/24"), Interface(beta, None, "10.8.0.2/24")]
    near, far = stream.connect(alpha, beta, "192.0.2.2")
    keys = KeyPair.random()
    for end, sock, pair in zip(ends, (near, far), (keys, keys.flipped()), strict=True):
        stack.callback(end.close)
        stack.callback(sock.close)
        end.control.new_peer(end.index, 21, sock)
        end.add_key(21, pair)
    return ends


@pytest.mark.parametrize("who", ["interrupts", "workers"])
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_traffic(
    pair: Callable,
    alpha: Namespace,
    beta: Namespace,
    stack: contextlib.ExitStack,
    transport: str,
    who: str,
) -> None:
    """Packets are lost; the tunnel is not."""
    if transport == "udp":
        ends = list(pair(inner6=False))
    else:
        ends = _tcp_ends(alpha, beta, stack)
    assert ping(alpha, "10.8.0.2", attempts=3).complete
    failing = faults.percent(1) if who == "interrupts" else _marked_workers()
    pings = [
        (near, ("ping", "-f", "-q", "-s", "1000", "-w", str(SECONDS), address))
        for near, address in ((alpha, "10.8.0.2"), (beta, "10.8.0.1"))
    ]
    flow = Flow(alpha, beta, "10.8.0.2", SECONDS)
    with failing:
        running = [namespace.start(*argv) for namespace, argv in pings]
        try:
            result = flow.result()
        finally:
            for process in running:
                command.stop(process)
    sent = [end.peer(21) for end in ends]
    print(f"{result}, {sent[0].link_tx.packets + sent[1].link_tx.packets} packets")
    assert result.bytes > 0, "nothing came through the tunnel"
    waiting.until(lambda: ping(alpha, "10.8.0.2", count=1, wait=2).complete, "a ping", 60)
    assert ping(alpha, "10.8.0.2").complete


def _ask(request: Callable[[], None]) -> OSError | None:
    """How a request fails, if it does."""
    try:
        with in_requests(faults.Chance()):
            request()
    except OSError as error:
        return error
    return None


@pytest.mark.smoke
def test_requests(interface: Callable, sender: socket.socket) -> None:
    """Peers and keys come and go, with some requests refused, while packets are sent to them."""
    end = interface()
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                sender.sendto(bytes(500), ("10.8.0.5", 9))

    thread = threading.Thread(target=flood)
    thread.start()
    tried = failed = 0
    deadline = time.monotonic() + SECONDS
    requests: list[Callable[[], None]] = [
        lambda: end.control.new_peer(end.index, 5, end.transport, REMOTE, "10.8.0.5"),
        lambda: end.add_key(5, KeyPair.random()),
        lambda: end.add_key(5, KeyPair.random(1), Slot.SECONDARY),
        lambda: end.control.swap_keys(end.index, 5),
        lambda: end.control.set_peer(end.index, 5, 1, 60),
        lambda: end.control.del_key(end.index, 5, Slot.SECONDARY),
        lambda: end.control.del_peer(end.index, 5),
    ]
    try:
        with faults.percent(1, marked=True):
            while time.monotonic() < deadline:
                unsure = False
                for request in requests:
                    answer = None
                    while answer is None or (refused(answer) and answer.errno in OUT_OF_MEMORY):
                        tried += 1
                        answer = _ask(request)
                        if answer is None:
                            break
                        failed += 1
                    # It may not have been done, nor what the next ones need.
                    assert answer is None or unsure or refused(answer) is None, answer
                    unsure = unsure or answer is not None
                if end.has_peer(5):
                    end.control.del_peer(end.index, 5)
    finally:
        stop.set()
        thread.join(10)
    print(f"{tried} requests, {failed} failed")
    assert failed > 0, f"none of {tried} requests failed"
    assert end.peers() == []


# -- the end ------------------------------------------------------------------------------


@pytest.mark.smoke
def test_nothing_is_left(alpha: Namespace, beta: Namespace) -> None:
    """After all of the above the module goes. The search for lost memory follows."""
    assert not alpha.has("tun0") and not beta.has("tun0"), "a test has left its interface"
    waiting.until(lambda: module.users() == 0, "the module is not in use", 30)
    module.unload()
    module.load()
