# SPDX-License-Identifier: GPL-2.0
"""Tunnels that are torn down under traffic, and those who do it at the same time."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from . import command, kmemleak, link, memory, waiting
from .family import Control, KeyPair, Reason, Removal, Removals
from .interface import Interface, udp_socket
from .namespace import Namespace
from .netlink import NetlinkError

# For what takes no time on an idle machine. This one may be emulated, busy, and full of checks.
PATIENCE = 30 * kmemleak.slowness()
SO_RCVBUFFORCE = 33
_UNREGISTER_TIMEOUT = Path("/proc/sys/net/core/netdev_unregister_timeout_secs")
_FORK = multiprocessing.get_context("fork")


class Course:
    """A far end that stays (10.8.0.2, point to point), and near ends that come and go."""

    def __init__(self, near: Namespace, far: Namespace) -> None:
        self.near = near
        self.keys = KeyPair.random()
        self.far = Interface(far, "0.0.0.0", "10.8.0.2/24")
        self.removals = Removals(near)
        # Nobody listens while a test does its work.
        self.removals.socket.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)

    def close(self) -> None:
        """Take the far end away."""
        self.removals.close()
        self.far.close()

    def far_address(self, address: str = "192.0.2.2") -> tuple[str, int]:
        """Where the far end is."""
        return address, self.far.address[1]

    @contextlib.contextmanager
    def end(self, *more: int) -> Iterator[Interface]:
        """A near end whose peer 1 is the far end; peers `more` are there and say nothing."""
        made = Interface(self.near, "192.0.2.1", "10.8.0.1/24", mode=link.MODE_MP)
        try:
            self.join(made, made.address)
            made.add_peer(1, self.far_address(), self.keys, "10.8.0.2")
            for peer_id in more:
                made.add_peer(peer_id, ("192.0.2.2", 9), self.keys, vpn_address(peer_id))
            yield made
        finally:
            made.close()

    def join(self, end: Interface, address: tuple[str, int]) -> None:
        """Let the far end speak to a near end there."""
        self.far.add_peer(1, address, self.keys.flipped(), "10.8.0.1")

    @contextlib.contextmanager
    def busy(self, end: Interface, *senders: Namespace) -> Iterator[None]:
        """Both ends flood each other (or `senders` only), and dumps are made, meanwhile."""
        targets = {self.near.name: "10.8.0.2", self.far.namespace.name: "10.8.0.1"}
        with contextlib.ExitStack() as stack:
            for sender in senders or (self.near, self.far.namespace):
                to = targets[sender.name]
                flood = sender.start("ping", "-f", "-l", "64", "-q", "-w", "300", to)
                stack.callback(command.stop, flood)
            if not senders:
                stack.enter_context(dumps(end))
            waiting.until(self._flows, "packets flow through the tunnel", PATIENCE)
            yield

    def _flows(self) -> bool:
        peer = self.far.peer(1)
        return peer.vpn_rx.packets > 50 and peer.vpn_tx.packets > 50

    def told(self, end: Interface, reasons: dict[int, set[Reason]]) -> None:
        """Each of these peers was told to be gone once, for one of its reasons; nobody else."""
        heard = self.removals.collect(len(reasons), timeout=PATIENCE)
        check_told(end.index, heard, reasons)


def vpn_address(peer_id: int) -> str:
    """A silent peer's address in the tunnel."""
    return f"10.8.{1 + (peer_id >> 8)}.{peer_id & 255}"


def check_told(index: int, heard: list[Removal], reasons: dict[int, set[Reason]]) -> None:
    """The notifications that were heard are one for each peer, for a reason that it may have."""
    counted = Counter(removal.peer_id for removal in heard)
    assert counted == Counter(list(reasons)), (
        f"one notification for each of the peers {sorted(reasons)} was expected, heard: {heard}"
    )
    for removal in heard:
        assert removal.index == index, f"interface {index} was expected: {removal}"
        wanted = reasons[removal.peer_id]
        assert removal.reason in wanted, f"a reason of {sorted(wanted)} was expected: {removal}"


def delete(end: Interface) -> None:
    """Delete the interface: it must be gone at once.

    That its last reference went within a second the kernel watches; see `watch_references`.
    """
    link.delete(end.namespace, end.name)
    end.namespace.wait_gone(end.name, timeout=1)


@contextlib.contextmanager
def watch_references() -> Iterator[None]:
    """The kernel complains of devices whose references outlive them for a second (usually 10).

    A debug kernel is given more time: its grace periods are longer.
    """
    seconds = 1 if memory.is_comparable() else 5
    before = _UNREGISTER_TIMEOUT.read_text()
    _UNREGISTER_TIMEOUT.write_text(f"{seconds}\n")
    try:
        yield
    finally:
        _UNREGISTER_TIMEOUT.write_text(before)


@contextlib.contextmanager
def beside(work: Callable[[], object]) -> Iterator[list[int]]:
    """Another thread does `work` again and again meanwhile; the list has how often it did."""
    stop = threading.Event()
    trouble: list[BaseException] = []
    done = [0]

    def run() -> None:
        try:
            while not stop.is_set():
                work()
                done[0] += 1
        except BaseException as error:
            trouble.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join(PATIENCE)
    assert not thread.is_alive(), f"{work} did not come back within {PATIENCE} s"
    assert not trouble, f"beside the race: {trouble[0]!r}"


def again(done: list[int], more: int) -> None:
    """Wait until what is done `beside` was done so often again."""
    wanted = done[0] + more
    waiting.until(lambda: done[0] >= wanted, f"{more} rounds beside the race", PATIENCE, 0.001)


@contextlib.contextmanager
def dumps(end: Interface) -> Iterator[None]:
    """GET_PEER dumps of an interface that may go meanwhile, and the module too."""
    control = Control(end.namespace)

    def dump() -> None:
        # The last is what a family says whose module is on its way out.
        with tolerated(errno.ENODEV, errno.ENOENT, errno.EPROTONOSUPPORT):
            control.peers(end.index)

    try:
        with beside(dump) as done:
            again(done, 1)
            yield
    finally:
        control.close()


@contextlib.contextmanager
def tolerated(*errnos: int) -> Iterator[None]:
    """What is requested may be refused with one of these errors."""
    try:
        yield
    except NetlinkError as error:
        if error.errno not in errnos:
            raise


def fork(work: Callable[..., None], *arguments: object) -> BaseProcess:
    """Start a process that does `work`; it shares the open sockets."""
    process = _FORK.Process(target=work, args=arguments, daemon=True)
    process.start()
    return process


def pipe() -> tuple[Connection, Connection]:
    """What to read from, and what to write to."""
    return _FORK.Pipe(duplex=False)


class Owner:
    """A process that owns the socket of peers, as the daemon does: they are its own."""

    def __init__(self, course: Course, end: Interface, peer_ids: list[int]) -> None:
        reader, writer = pipe()
        self.process = fork(self._run, writer, course, end, peer_ids)
        assert reader.poll(PATIENCE), "the owner of the socket has not made its peers"
        self.address: tuple[str, int] = reader.recv()

    @staticmethod
    def _run(ready: Connection, course: Course, end: Interface, peer_ids: list[int]) -> None:
        control = Control(end.namespace)
        with udp_socket(end.namespace, "192.0.2.1") as sock:
            for peer_id in peer_ids:
                first = peer_id == 1
                remote = course.far_address() if first else ("192.0.2.2", 9)
                vpn = "10.8.0.2" if first else vpn_address(peer_id)
                control.new_peer(end.index, peer_id, sock, remote, vpn)
                control.new_key(end.index, peer_id, course.keys)
            ready.send(sock.getsockname())
            threading.Event().wait()

    def kill(self) -> None:
        """End it at once: it closes nothing, the kernel does."""
        self.process.kill()
        self.process.join(PATIENCE)
        assert self.process.exitcode is not None, "the killed process does not end"
