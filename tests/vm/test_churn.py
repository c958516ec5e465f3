# SPDX-License-Identifier: GPL-2.0
"""Thousands of peers that come, send, expire, are replaced and go, and what they cost."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from ovpnlab import command, kmemleak, link, memory, race
from ovpnlab.batch import Batch
from ovpnlab.family import KeyPair, Reason, Removal, Removals, Slot
from ovpnlab.interface import Interface
from ovpnlab.namespace import Namespace
from ovpnlab.race import PATIENCE

LONG = os.environ.get("OVPN_DCO_LONG") == "1"
# A debug kernel is slow.
PEERS = 10_000 if LONG else 500 if kmemleak.is_available() else 2_000
SIZES = (10, PEERS // 2, PEERS)
SECONDS = 600 if LONG else 60
COHORTS = 10
# How often a peer comes and goes at once to take the time of that, and how often that is done.
PROBES, PROBINGS = 50, 15
# In seconds: peers are freed some time after they went, beside what comes next.
PAUSE = 0.05
# Slabs that are not full, and what the rest of the system does meanwhile.
NOISE = 1 << 20
PORT = 9

pytestmark = pytest.mark.timeout(2400 if LONG else 600)
Record = Callable[[str, object], None]


class Crowd:
    """An interface with many peers on one socket, all with the same key."""

    def __init__(self, namespace: Namespace, name: str, network: int) -> None:
        address = f"10.{network}.255.254/32"
        self.end = Interface(namespace, "127.0.0.1", address, mode=link.MODE_MP, name=name)
        self.batch = Batch(namespace)
        self.network = network
        self.keys = KeyPair.random()

    def close(self) -> None:
        """Delete the interface."""
        self.batch.close()
        self.end.close()

    def vpn(self, peer_id: int) -> str:
        """A peer's address in the tunnel."""
        return f"10.{self.network}.{peer_id >> 8}.{peer_id & 255}"

    def add(self, peer_ids: range) -> None:
        """Add peers with addresses of their own, and their keys."""
        for peer_id in peer_ids:
            self._new(peer_id)
            self.batch.new_key(self.end.index, peer_id, self.keys)
        self.batch.flush()

    def _new(self, peer_id: int) -> None:
        remote = f"127.{self.network}.{peer_id >> 8}.{peer_id & 255}", PORT
        where = (self.end.index, peer_id, self.end.transport, remote)
        self.batch.new_peer(*where, ipv4=self.vpn(peer_id))

    def probe(self, peer_id: int, count: int) -> float:
        """Add and remove a peer so often; the seconds that the kernel took for each time."""
        for _ in range(count):
            self._new(peer_id)
            self.batch.del_peer(self.end.index, peer_id)
        return self.batch.flush() / count

    def delete(self, peer_ids: range) -> None:
        """Remove peers."""
        for peer_id in peer_ids:
            self.batch.del_peer(self.end.index, peer_id)
        self.batch.flush()

    def rekey(self, peer_ids: range) -> None:
        """As OpenVPN does: a second key, and the first one goes."""
        for peer_id in peer_ids:
            self.batch.new_key(self.end.index, peer_id, self.keys, Slot.SECONDARY)
            self.batch.swap_keys(self.end.index, peer_id)
            self.batch.del_key(self.end.index, peer_id, Slot.SECONDARY)
        self.batch.flush()

    def let_expire(self, peer_ids: range) -> None:
        """Nothing is heard of them for a second, which is their time."""
        for peer_id in peer_ids:
            self.batch.set_peer(self.end.index, peer_id, 0, 1)
        self.batch.flush()

    def send(self, sender: socket.socket, peer_ids: range) -> None:
        """A packet to each."""
        for peer_id in peer_ids:
            sender.sendto(b"x" * 100, (self.vpn(peer_id), PORT))


@contextlib.contextmanager
def listener(namespace: Namespace) -> Iterator[Removals]:
    """Hears the notifications of a whole crowd at once."""
    removals = Removals(namespace)
    removals.socket.socket.setsockopt(socket.SOL_SOCKET, race.SO_RCVBUFFORCE, 1 << 25)
    try:
        yield removals
    finally:
        removals.close()


@contextlib.contextmanager
def crowds(namespace: Namespace) -> Iterator[list[Crowd]]:
    """An interface without peers for each size."""
    with contextlib.ExitStack() as stack:
        made = []
        for number in range(len(SIZES)):
            crowd = Crowd(namespace, f"tun{number}", 64 + number)
            stack.callback(crowd.close)
            made.append(crowd)
        yield made


def test_cost_of_a_peer(alpha: Namespace, record_testsuite_property: Record) -> None:
    """Failure: a server that slows down with its clients. Memory and time do not depend on them.

    The time is that of NEW_PEER and DEL_PEER of one peer more: the tables keep their size. It is
    taken in turns, and the shortest counts: other work can only make it longer.
    """
    with crowds(alpha) as made:
        for crowd in made:  # so that caches are there before memory is compared
            crowd.add(range(200))
            crowd.delete(range(200))
        cost: dict[int, float] = {}
        # The fewest last: what the caches still give back counts most for them.
        for size, crowd in reversed([*zip(SIZES, made)]):
            before = memory.settled()
            crowd.add(range(size))
            cost[size] = (memory.settled() - before) / size
            record_testsuite_property(f"bytes per peer of {size}", round(cost[size]))
        times: dict[int, list[float]] = {size: [] for size in SIZES}
        for _ in range(PROBINGS):
            for size, crowd in zip(SIZES, made):
                time.sleep(PAUSE)
                times[size].append(crowd.probe(size, PROBES))
    typical = {size: min(taken) * 1e6 for size, taken in times.items()}
    for size in SIZES:
        record_testsuite_property(
            f"microseconds of NEW_PEER and DEL_PEER at {size}", round(typical[size])
        )
    print({size: f"{cost[size]:.0f} bytes, {typical[size]:.0f} us" for size in SIZES})
    few, some, many = SIZES
    assert some < many, "the sizes are to be compared"
    assert typical[many] < 2 * min(typical[few], typical[some]), (
        f"the time of a peer (us) should not grow with their number: {typical}"
    )
    if memory.is_comparable():
        assert max(cost[some], cost[many]) < 2 * min(cost[some], cost[many]), (
            f"bytes per peer should not depend on how many there are: {cost}"
        )
        # Ten peers are less than what slabs round up to.
        assert few * cost[few] < 2 * few * cost[many] + NOISE, f"{few} peers cost more each: {cost}"


def test_churn(alpha: Namespace, record_testsuite_property: Record) -> None:
    """Failure: list corruption after 18 h with 10,000 connections; memory that does not come back.

    A tenth of the peers after the other: some are replaced, some get new keys, some expire and
    come again. All are sent to, and each that goes is told of once.
    """
    deadline = time.monotonic() + SECONDS
    told: Counter[Removal] = Counter()
    expected: Counter[Removal] = Counter()
    sent = rounds = 0
    with contextlib.ExitStack() as stack:
        sender = stack.enter_context(alpha.socket(socket.AF_INET, socket.SOCK_DGRAM))
        removals = stack.enter_context(listener(alpha))
        crowd = Crowd(alpha, "tun0", 64)
        stack.callback(crowd.close)
        index = crowd.end.index
        alpha.ip("route add 10.64.0.0/16 dev tun0")

        def gone(peer_ids: range, reason: Reason) -> None:
            expected.update(Removal(index, peer_id, reason) for peer_id in peer_ids)

        def listen() -> None:
            told.update(removals.collect(expected.total() - told.total(), timeout=PATIENCE))

        # Once all of them, so that caches and tables have grown before memory is compared.
        everyone = range(PEERS)
        crowd.add(everyone)
        crowd.send(sender, everyone)
        crowd.delete(everyone)
        gone(everyone, Reason.USERSPACE)
        listen()
        before = memory.settled()

        crowd.add(everyone)
        full = memory.settled() - before
        traffic = stack.enter_context(contextlib.ExitStack())
        flood = alpha.start("ping", "-f", "-q", "-w", str(SECONDS + 300), crowd.vpn(1))
        traffic.callback(command.stop, flood)
        traffic.enter_context(race.dumps(crowd.end))
        size = PEERS // COHORTS
        for first in itertools.cycle(range(0, PEERS, size)):
            cohort = range(first, first + size)
            third = size // 3
            replaced, rekeyed, silent = (
                range(first, first + third),
                range(first + third, first + 2 * third),
                range(first + 2 * third, first + size),
            )
            crowd.let_expire(silent)
            crowd.send(sender, cohort)
            crowd.delete(replaced)
            crowd.add(replaced)
            crowd.rekey(rekeyed)
            crowd.send(sender, cohort)
            gone(replaced, Reason.USERSPACE)
            gone(silent, Reason.EXPIRED)
            listen()
            crowd.add(silent)
            crowd.send(sender, cohort)
            sent += 3 * size
            rounds += 1
            if time.monotonic() > deadline and rounds > 1:
                break
        peers = crowd.end.peers()
        assert len(peers) == PEERS, f"{len(peers)} peers are left, of {PEERS}"
        silent_ones = [p.peer_id for p in peers if not p.vpn_tx.packets and p.peer_id < size]
        assert not silent_ones, f"nothing was sent to {silent_ones[:10]}"
        crowd.delete(everyone)
        gone(everyone, Reason.USERSPACE)
        listen()
        traffic.close()
        growth = memory.settled() - before
    wrong = (told - expected) + (expected - told)
    assert not wrong, f"{wrong.total()} notifications are missing or too many: {list(wrong)[:10]}"
    removed = expected.total()
    print(f"{rounds} rounds, {removed} peers gone, {sent} packets, {full} bytes, then {growth}")
    record_testsuite_property("peers that went in the churn", removed)
    record_testsuite_property("bytes of all peers of the churn", full)
    record_testsuite_property("bytes left by the churn", growth)
    if memory.is_comparable():
        assert full > 1000 * PEERS, (
            f"{PEERS} peers have {full} bytes: what is measured is not theirs"
        )
        assert growth < NOISE + full // 20, (
            f"{growth} bytes stay of {full}, after {removed} peers came and went"
        )
