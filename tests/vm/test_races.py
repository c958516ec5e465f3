# SPDX-License-Identifier: GPL-2.0
"""Ends of interfaces, sockets, peers and of the module that race with traffic and each other.

Each round checks that what went is gone, and that each peer was told to be gone once. The kernel
log is read after each test; see `watch_references` for references that stay.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection

import pytest
from ovpnlab import command, link, module, race, stream, waiting
from ovpnlab.family import Control, KeyPair, Reason, Slot
from ovpnlab.interface import Interface
from ovpnlab.namespace import Namespace
from ovpnlab.network import cable
from ovpnlab.race import PATIENCE, Course, Owner, tolerated
from ovpnlab.tcp_peer import TcpLab, TcpPeer

LONG = os.environ.get("OVPN_DCO_LONG") == "1"
ROUNDS = 100 if LONG else 3
SILENT = list(range(2, 18))
GONE_BY_EITHER = {Reason.USERSPACE, Reason.TRANSPORT_DISCONNECT}

pytestmark = [
    pytest.mark.timeout(3600 if LONG else 900),
    # The other threads hold nothing that the forked processes use.
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def references(alpha: Namespace, beta: Namespace) -> Iterator[None]:
    """A reference to a device that stays for more than a second is a complaint of the kernel."""
    with race.watch_references():
        yield


@pytest.fixture
def course(alpha: Namespace, beta: Namespace) -> Iterator[Course]:
    """The far end of the tunnels, in beta."""
    module.ensure_loaded()
    made = Course(alpha, beta)
    yield made
    made.close()


# -- interfaces ---------------------------------------------------------------------------


def test_interface_is_deleted(course: Course) -> None:
    """Failure: `unregister_netdevice: waiting` after the daemon was restarted under load."""
    for _ in range(ROUNDS):
        with course.end(*SILENT) as end, course.busy(end):
            race.delete(end)
            course.told(end, {peer_id: {Reason.TEARDOWN} for peer_id in (1, *SILENT)})


def test_interface_is_deleted_while_its_peers_are(course: Course) -> None:
    """Failure: list corruption, as a peer was released by two at once. One of them tells of it."""
    either = {Reason.USERSPACE, Reason.TEARDOWN}
    for _ in range(ROUNDS):
        with course.end(*SILENT) as end, course.busy(end):
            peer_ids = itertools.chain(SILENT, itertools.repeat(1))

            def delete(end: Interface = end, peer_ids: Iterator[int] = peer_ids) -> None:
                with tolerated(errno.ENODEV, errno.ENOENT):
                    end.control.del_peer(end.index, next(peer_ids))

            with race.beside(delete) as done:
                race.again(done, 2)
                race.delete(end)
            course.told(end, {peer_id: either for peer_id in (1, *SILENT)})


def test_namespace_ends(course: Course, beta: Namespace) -> None:
    """Failure: `unregister_netdevice: waiting`; the interface, its socket and its traffic end.

    Namespaces go one after the other: if one stuck, the cable of the next would not go.
    """
    for _ in range(ROUNDS):
        other = Namespace("gamma")
        cable(other, "eth0", ("198.51.100.1/24",), beta, "probe", ("198.51.100.2/24",))
        end = Interface(other, "198.51.100.1", "10.8.0.1/24", mode=link.MODE_MP)
        try:
            course.join(end, end.address)
            end.add_peer(1, course.far_address("198.51.100.2"), course.keys, "10.8.0.2")
            with course.busy(end, beta):
                other.close()
                end.transport.close()
                end.control.close()
                beta.wait_gone("probe", timeout=PATIENCE)
        finally:
            other.close()


def test_module_is_unloaded(alpha: Namespace, beta: Namespace) -> None:
    """Failure: a reference that leaked. The module goes, and takes busy interfaces along.

    A dump holds it for as long as it runs: rmmod is refused until it meets none.
    """
    for _ in range(ROUNDS):
        module.ensure_loaded()
        with contextlib.closing(Course(alpha, beta)) as course:
            with course.end(*SILENT) as end, course.busy(end):
                waiting.until(_rmmod, "the module is unloaded", PATIENCE, interval=0.01)
                left = [name for each in (alpha, beta) for name in each.interfaces()]
                assert "tun0" not in left, f"the module is unloaded, and there are {left}"
                # The far end is in another namespace, whose notifications are not heard.
                course.told(end, {peer_id: {Reason.TEARDOWN} for peer_id in (1, *SILENT)})


def _rmmod() -> bool:
    command.run("rmmod", module.NAME, timeout=PATIENCE, check=False)
    return not module.is_loaded()


# -- sockets ------------------------------------------------------------------------------


def test_owner_is_killed(course: Course, alpha: Namespace) -> None:
    """Failure: a daemon that was killed is kept alive by its kernel, and its interface too."""
    for _ in range(ROUNDS):
        end = Interface(alpha, None, "10.8.0.1/24", mode=link.MODE_MP)
        try:
            owner = Owner(course, end, [1, *SILENT])
            course.join(end, owner.address)
            with course.busy(end):
                owner.kill()
                everyone = (1, *SILENT)
                course.told(end, {n: {Reason.TRANSPORT_DISCONNECT} for n in everyone})
                assert end.peers() == [], "their socket is closed, and there are peers"
                race.delete(end)
        finally:
            owner.kill()
            end.close()


def test_socket_is_closed_while_its_peers_are_deleted(course: Course) -> None:
    """Failure: list corruption, as a peer was released by two at once. One of them tells of it."""
    for _ in range(ROUNDS):
        with course.end(*SILENT) as end, course.busy(end):
            peer_ids = itertools.chain((1, *SILENT), itertools.repeat(1))

            def delete(end: Interface = end, peer_ids: Iterator[int] = peer_ids) -> None:
                # Of those that the socket took along there are tombstones.
                with tolerated(errno.ENOENT):
                    end.control.del_peer(end.index, next(peer_ids))

            with race.beside(delete) as done:
                race.again(done, 2)
                end.transport.close()
                course.told(end, {peer_id: GONE_BY_EITHER for peer_id in (1, *SILENT)})
            assert end.peers() == [], "their socket is closed, and there are peers"
            race.delete(end)


# -- peers --------------------------------------------------------------------------------


def test_peer_is_deleted_while_it_expires(course: Course) -> None:
    """Failure: list corruption in the peer-delete work, by expiry and by userspace at once."""
    either = {Reason.USERSPACE, Reason.EXPIRED}
    for _ in range(ROUNDS):
        with course.end(*SILENT) as end, course.busy(end):
            for peer_id in SILENT:
                end.control.set_peer(end.index, peer_id, 0, 1)
            began = time.monotonic()
            # One after the other, from before they expire to after: a tombstone is no error.
            for place, peer_id in enumerate(SILENT):
                moment = began + 0.8 + place * 0.02
                time.sleep(max(moment - time.monotonic(), 0))
                end.control.del_peer(end.index, peer_id)
            course.told(end, {peer_id: either for peer_id in SILENT})
            assert [peer.peer_id for peer in end.peers()] == [1], "peer 1 alone should be left"
            race.delete(end)
            course.told(end, {1: {Reason.TEARDOWN}})


def test_peer_expires_while_its_keys_change(course: Course) -> None:
    """Failure: `dco_new_key: netlink reports object not found`, and the daemon exits."""
    for _ in range(ROUNDS):
        with course.end(*SILENT) as end, course.busy(end):
            for peer_id in SILENT:
                end.control.set_peer(end.index, peer_id, 0, 1)
            peer_ids = itertools.cycle(SILENT)

            def renew(end: Interface = end, peer_ids: Iterator[int] = peer_ids) -> None:
                peer_id = next(peer_ids)
                end.control.new_key(end.index, peer_id, KeyPair.random(1), Slot.SECONDARY)
                end.control.swap_keys(end.index, peer_id)
                end.control.del_key(end.index, peer_id, Slot.SECONDARY)

            with race.beside(renew) as done:
                course.told(end, {peer_id: {Reason.EXPIRED} for peer_id in SILENT})
                # And of the tombstones.
                race.again(done, 2 * len(SILENT))
            race.delete(end)
            course.told(end, {1: {Reason.TEARDOWN}})


def test_keepalive_is_set_while_it_runs(course: Course) -> None:
    """Failure: a peer that never expires, for two set their time at the same moment."""
    with course.end(*SILENT) as end:
        end.control.set_peer(end.index, 1, 0, 3000)
        mine, other_s = SILENT[::2], SILENT[1::2]
        control = Control(end.namespace)
        try:
            for _ in range(ROUNDS * 2):
                begin = threading.Barrier(2)

                def others(begin: threading.Barrier = begin) -> None:
                    begin.wait(PATIENCE)
                    for peer_id in other_s:
                        control.set_peer(end.index, peer_id, 0, 1)

                thread = threading.Thread(target=others)
                thread.start()
                begin.wait(PATIENCE)
                for peer_id in mine:
                    end.control.set_peer(end.index, peer_id, 0, 1)
                thread.join(PATIENCE)
                course.told(end, {peer_id: {Reason.EXPIRED} for peer_id in SILENT})
                for peer_id in SILENT:
                    remote = ("192.0.2.2", 9)
                    end.add_peer(peer_id, remote, course.keys, race.vpn_address(peer_id))
        finally:
            control.close()


def test_peer_is_deleted_while_keys_change(course: Course) -> None:
    """Failure: a key that is used after its peer is gone; the floods go through all of it."""
    with course.end() as end, course.busy(end):
        other = Control(end.namespace)

        def renew() -> None:
            with tolerated(errno.ENOENT):
                other.new_key(end.index, 1, course.keys, Slot.SECONDARY)
                other.swap_keys(end.index, 1)
                other.del_key(end.index, 1, Slot.SECONDARY)

        try:
            with race.beside(renew) as done:
                for _ in range(ROUNDS * 5):
                    end.control.del_peer(end.index, 1)
                    course.told(end, {1: {Reason.USERSPACE}})
                    end.add_peer(1, course.far_address(), course.keys, "10.8.0.2")
                    race.again(done, 2)
        finally:
            other.close()
        race.delete(end)
        course.told(end, {1: {Reason.TEARDOWN}})


def test_peer_is_deleted_while_its_connection_resets(alpha: Namespace, beta: Namespace) -> None:
    """Failure: list corruption, as a peer was released by two at once. Data waits to be sent."""
    module.ensure_loaded()
    heard: Counter[int] = Counter()
    with TcpLab(alpha, beta) as lab, race.dumps(lab.end):
        for number in range(ROUNDS * 4):
            peer = lab.peer()
            with contextlib.suppress(BlockingIOError):
                peer.flood(50, 1000)
            begin = threading.Barrier(2)

            def reset(peer: TcpPeer = peer, begin: threading.Barrier = begin) -> None:
                begin.wait(PATIENCE)
                stream.reset(peer.far.socket)

            thread = threading.Thread(target=reset)
            thread.start()
            begin.wait(PATIENCE)
            time.sleep(number % 8 * 0.0003)
            peer.delete()
            thread.join(PATIENCE)
            removals = lab.removals.collect(1, timeout=PATIENCE)
            race.check_told(lab.end.index, removals, {1: GONE_BY_EITHER})
            heard[removals[0].reason] += 1
            with tolerated(errno.ENOENT):
                peer.delete()
            peer.close()
        race.delete(lab.end)
    print({Reason(reason).name: count for reason, count in heard.items()})


def test_peer_is_deleted_while_its_connection_is_busy(alpha: Namespace, beta: Namespace) -> None:
    """Failure: a reference that leaked, with work that was on its way; the module stays then."""
    module.ensure_loaded()
    with TcpLab(alpha, beta) as lab, race.dumps(lab.end):
        for _ in range(ROUNDS * 4):
            peer = lab.peer()

            def send(peer: TcpPeer = peer) -> None:
                with contextlib.suppress(BlockingIOError):
                    peer.flood(20, 200)

            with stream.Reader(peer.far.socket) as reader, race.beside(send) as done:
                race.again(done, 2)
                reader.wait(1)
                peer.delete()
                removals = lab.removals.collect(1, timeout=PATIENCE, quiet=0.1)
            race.check_told(lab.end.index, removals, {1: {Reason.USERSPACE}})
            peer.close()
        race.delete(lab.end)


def _add_and_delete(result: Connection, end: Interface, rounds: int) -> None:
    """Add and delete peer 7, and tell how often which worked."""
    done = {"added": 0, "deleted": 0}
    control = Control(end.namespace)
    keys = KeyPair.random()
    for _ in range(rounds):
        with tolerated(errno.EEXIST):
            control.new_peer(end.index, 7, end.transport, ("192.0.2.2", 9), "10.8.0.7")
            done["added"] += 1
        with tolerated(errno.ENOENT):
            control.new_key(end.index, 7, keys)
            control.swap_keys(end.index, 7)
        with tolerated(errno.ENOENT):
            control.del_peer(end.index, 7)
            done["deleted"] += 1
    result.send(done)


def test_same_id_from_four_processes(course: Course) -> None:
    """Failure: list corruption. Each deletion that succeeded is told once, and undoes one peer."""
    rounds = ROUNDS * 25
    with course.end() as end, course.busy(end):
        running = []
        for _ in range(4):
            reader, writer = race.pipe()
            running.append((race.fork(_add_and_delete, writer, end, rounds), reader))
        total: Counter[str] = Counter()
        for process, reader in running:
            assert reader.poll(PATIENCE + rounds), f"{process} has not finished"
            total.update(reader.recv())
            process.join(PATIENCE)
        heard = course.removals.collect(total["deleted"], timeout=PATIENCE)
        expected = Counter({(end.index, 7, Reason.USERSPACE): total["deleted"]})
        told = Counter((each.index, each.peer_id, each.reason) for each in heard)
        assert told == expected, f"{dict(total)}, and the notifications are {told}"
        assert total["added"] == total["deleted"] > 0, f"all that came went, but: {dict(total)}"
        print(dict(total))
        race.delete(end)
        course.told(end, {1: {Reason.TEARDOWN}})


# -- the end ------------------------------------------------------------------------------


def test_nothing_is_left(alpha: Namespace, beta: Namespace) -> None:
    """Failure: a reference that leaked. After all of the above the module can be unloaded."""
    assert not alpha.has("tun0") and not beta.has("tun0"), "a test has left its interface"
    waiting.until(lambda: module.users() == 0, "the module is not in use", PATIENCE)
    module.unload()
    module.load()
