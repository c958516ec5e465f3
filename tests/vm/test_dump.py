# SPDX-License-Identifier: GPL-2.0
"""GET_PEER dumps of many peers, alone and while others come and go."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import pytest

from ovpnlab import link
from ovpnlab.family import Command, Control, GetPeer, Reason, Removal, Removals, Top
from ovpnlab.interface import Interface
from ovpnlab.namespace import Namespace
from ovpnlab.netlink import (
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    Message,
    NetlinkError,
    parse,
    u32,
)

SO_RCVBUFFORCE = 33
PEERS = 5000
# Those that stay have even ids, from one end of the numbers to the other.
STAYING = [number * 3354 for number in range(PEERS)]
# A dump of so many peers takes about a second under emulation, more on a busy machine.
DUMP_SECONDS = 30

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def crowd(alpha: Namespace) -> Iterator[Interface]:
    """A multi-peer interface with 5,000 peers on one socket."""
    made = Interface(alpha, "127.0.0.1", mode=link.MODE_MP)
    for number, peer_id in enumerate(STAYING):
        add(made.control, made, peer_id, number)
    yield made
    made.close()


def add(control: Control, crowd: Interface, peer_id: int, number: int) -> None:
    """Add a peer with an address of its own."""
    control.new_peer(
        *(crowd.index, peer_id, crowd.transport, ("127.0.0.2", 1024 + number)),
        ipv4=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
    )


def number_of(message: Message) -> int:
    """The peer id in a reply."""
    nest = parse(parse(message.payload[4:])[Top.GET_PEER])
    return int.from_bytes(nest[GetPeer.PEER_ID], "little")


def dump(control: Control, index: int, between: Callable[[list[int]], None]) -> list[int]:
    """The peer ids of a dump; `between` is called whenever a part of it has come."""
    sequence = control.socket.send(
        control.family,
        NLM_F_REQUEST | NLM_F_DUMP,
        bytes((Command.GET_PEER, 1, 0, 0)) + u32(Top.IFINDEX, index),
    )
    found: list[int] = []
    while True:
        for message in control.socket.receive():
            assert message.sequence == sequence, f"an answer to something else: {message}"
            assert message.kind != NLMSG_ERROR, f"the dump was refused: {message.payload.hex()}"
            if message.kind == NLMSG_DONE:
                return found
            found.append(number_of(message))
        between(found)


def check(found: list[int], allowed: Iterable[int] = ()) -> None:
    """Each peer that was there all the time stands in the dump once, and nobody twice."""
    counted = Counter(found)
    missing = [peer_id for peer_id in STAYING if peer_id not in counted]
    twice = [peer_id for peer_id, times in counted.items() if times > 1]
    strange = counted.keys() - set(STAYING) - set(allowed)
    assert not missing, f"{len(missing)} of {PEERS} peers are not in the dump: {missing[:10]}"
    assert not twice, f"{len(twice)} peers stand in the dump twice: {twice[:10]}"
    assert not strange, f"nobody has added these peers: {sorted(strange)[:10]}"


def test_dump_of_5000_peers(
    crowd: Interface, record_testsuite_property: Callable[[str, object], None]
) -> None:
    """Complete, none twice, each with its own addresses, and in time."""
    began = time.monotonic()
    found = dump(crowd.control, crowd.index, lambda _: None)
    seconds = time.monotonic() - began
    check(found)
    record_testsuite_property("seconds of a dump of 5,000 peers", f"{seconds:.2f}")
    print(f"a dump of {len(found)} peers: {seconds:.2f} s")
    assert seconds < DUMP_SECONDS, f"the dump took {seconds:.1f} s, more than {DUMP_SECONDS} s"
    for number, peer in enumerate(crowd.peers()):
        wanted = (STAYING[number], ("127.0.0.2", 1024 + number))
        assert (peer.peer_id, peer.remote) == wanted, f"peer {number} of the dump is {peer}"


def test_peers_come_and_go_between_the_parts_of_a_dump(alpha: Namespace, crowd: Interface) -> None:
    """Before, at and behind the place where the dump stands, and what has been shown goes."""
    other = Control(alpha)
    here: list[int] = []
    parts = 0

    def change(found: list[int]) -> None:
        nonlocal parts
        parts += 1
        for peer_id in here:
            other.del_peer(crowd.index, peer_id)
        last = found[-1]
        # Odd ones: close to the last that was shown, and at both ends of the numbers.
        here[:] = {last - last % 2 + 1, last - last % 2 - 1, 1, 0xFFFFFD, 0x800001} - {-1}
        for place, peer_id in enumerate(here):
            add(other, crowd, peer_id, 20000 + place)

    try:
        found = dump(crowd.control, crowd.index, change)
    finally:
        for peer_id in here:
            other.del_peer(crowd.index, peer_id)
        other.close()
    assert parts > 10, f"the dump came in {parts} parts only: nothing could change on the way"
    check(found, allowed=[peer_id for peer_id in found if peer_id % 2])


def test_peers_come_and_go_during_dumps(alpha: Namespace, crowd: Interface) -> None:
    """Another thread adds and removes peers all the time, as fast as it can."""
    passing = [peer_id + 1 for peer_id in STAYING[:: PEERS // 50]]
    end = threading.Event()
    rounds = 0
    trouble: list[BaseException] = []

    def churn() -> None:
        nonlocal rounds
        try:
            with contextlib.closing(Control(alpha)) as other:
                while not end.is_set():
                    for place, peer_id in enumerate(passing):
                        add(other, crowd, peer_id, 30000 + place)
                    for peer_id in passing:
                        other.del_peer(crowd.index, peer_id)
                    rounds += 1
        except BaseException as error:
            trouble.append(error)
            raise

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        deadline = time.monotonic() + 3 * DUMP_SECONDS
        dumps = 0
        while dumps < 3 or rounds < 3:
            assert time.monotonic() < deadline, f"{dumps} dumps and {rounds} rounds of changes only"
            assert not trouble, f"adding and removing peers failed: {trouble}"
            check(dump(crowd.control, crowd.index, lambda _: None), passing)
            dumps += 1
    finally:
        end.set()
        thread.join(30)
    assert not trouble and not thread.is_alive()
    check(dump(crowd.control, crowd.index, lambda _: None))


def test_dump_of_an_interface_that_goes(alpha: Namespace, crowd: Interface) -> None:
    """The interface is deleted half way: the dump ends, and each peer is told to be gone once.

    This is the last test here: the crowd is gone afterwards.
    """
    removals = Removals(alpha)
    removals.socket.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
    gone = False

    def delete(_: list[int]) -> None:
        nonlocal gone
        if not gone:
            link.delete(alpha, crowd.name)
            gone = True

    try:
        with contextlib.suppress(NetlinkError):
            found = dump(crowd.control, crowd.index, delete)
            assert len(found) < PEERS, "a dump of an interface that is gone goes on"
        alpha.wait_gone(crowd.name, timeout=5)
        told = removals.collect(PEERS, timeout=30)
    finally:
        removals.close()
    wanted = [Removal(crowd.index, peer_id, Reason.TEARDOWN) for peer_id in STAYING]
    assert Counter(told) == Counter(wanted), f"{len(told)} notifications for {PEERS} peers"
