# SPDX-License-Identifier: GPL-2.0
"""How peers end: DEL_PEER, notifications, tombstones."""

from __future__ import annotations

import contextlib
import errno
import socket
import time

import pytest
from conftest import Refused
from ovpnlab import family, link, waiting
from ovpnlab.asking import REMOTE, attaches, expire
from ovpnlab.family import Command, KeyPair, Reason, Removal, Removals, Slot
from ovpnlab.interface import Interface, udp_socket
from ovpnlab.namespace import Namespace
from ovpnlab.netlink import NetlinkError, u8, u32

# -- DEL_PEER and its notification --------------------------------------------------------


@pytest.mark.smoke
def test_del_peer(refused: Refused, peer: Interface, removals: Removals) -> None:
    peer.control.del_peer(peer.index, 5)
    assert removals.collect(1) == [Removal(peer.index, 5, Reason.USERSPACE)]
    assert peer.peers() == []
    with refused(errno.ENOENT):
        peer.control.del_peer(peer.index, 5)
    peer.add_peer(5, REMOTE, ipv4="10.8.0.5")
    assert peer.peer(5).remote == REMOTE


def test_del_peer_takes_a_reason(mp: Interface, removals: Removals) -> None:
    """OpenVPN may say a reason; what is notified is that userspace asked."""
    for reason in Reason:
        mp.add_peer(5, REMOTE, ipv4="10.8.0.5")
        mp.control.request(
            *(Command.DEL_PEER, mp.index),
            u32(family.DelPeer.PEER_ID, 5),
            u8(family.DelPeer.REASON, reason),
        )
        assert removals.next() == Removal(mp.index, 5, Reason.USERSPACE)
    assert removals.collect(0) == []


def test_del_peer_reason_out_of_range(refused: Refused, steady: Interface) -> None:
    with refused(errno.ERANGE, errno.EINVAL):
        steady.control.request(Command.DEL_PEER, steady.index, u32(2, 5), u8(1, 5))
    assert steady.has_peer(5)


@pytest.mark.smoke
def test_interface_deleted(alpha: Namespace, beta: Namespace, removals: Removals) -> None:
    made = Interface(alpha, "192.0.2.1", "10.8.0.1/16", mode=link.MODE_MP)
    for number in range(10):
        made.add_peer(number, REMOTE, KeyPair.random(), ipv4=f"10.8.1.{number}")
    made.close()
    found = removals.collect(10)
    wanted = [Removal(made.index, number, Reason.TEARDOWN) for number in range(10)]
    assert sorted(found, key=lambda removal: removal.peer_id) == wanted


@pytest.mark.smoke
def test_expired(peer: Interface, removals: Removals) -> None:
    peer.control.set_peer(peer.index, 5, 0, 1)
    began = time.monotonic()
    assert removals.collect(1, timeout=8) == [Removal(peer.index, 5, Reason.EXPIRED)]
    assert 0.7 < time.monotonic() - began < 8
    assert peer.peers() == []


@pytest.mark.smoke
@pytest.mark.differs_from_c("it keeps the socket open for as long as it has peers")
def test_socket_closed(alpha: Namespace, mp: Interface, removals: Removals) -> None:
    """A daemon that was killed takes its peers with it, and those of no other socket."""
    sock = udp_socket(alpha, "192.0.2.3", 1195)
    mp.add_peer(1, REMOTE, KeyPair.random(), ipv4="10.8.0.5")
    mp.add_peer(2, REMOTE, KeyPair.random(), ipv4="10.8.0.6", transport=sock)
    mp.add_peer(3, REMOTE, KeyPair.random(), ipv4="10.8.0.7", transport=sock)
    sock.close()
    found = removals.collect(2, timeout=5)
    assert sorted(found, key=lambda removal: removal.peer_id) == [
        Removal(mp.index, 2, Reason.TRANSPORT_DISCONNECT),
        Removal(mp.index, 3, Reason.TRANSPORT_DISCONNECT),
    ]
    assert [each.peer_id for each in mp.peers()] == [1]
    # The port is free again.
    udp_socket(alpha, "192.0.2.3", 1195).close()


@pytest.mark.differs_from_c("it keeps the socket open for as long as it has peers")
def test_socket_closed_p2p(alpha: Namespace, p2p: Interface, removals: Removals) -> None:
    sock = udp_socket(alpha, "192.0.2.3", 1195)
    p2p.add_peer(1, REMOTE, KeyPair.random(), transport=sock)
    sock.close()
    assert removals.collect(1) == [Removal(p2p.index, 1, Reason.TRANSPORT_DISCONNECT)]


def test_duplicated_descriptor_keeps_the_socket(
    alpha: Namespace, mp: Interface, removals: Removals
) -> None:
    """The socket lives as long as any descriptor of it."""
    sock = udp_socket(alpha, "192.0.2.3", 1195)
    second = sock.dup()
    mp.add_peer(2, REMOTE, KeyPair.random(), ipv4="10.8.0.6", transport=sock)
    sock.close()
    assert removals.collect(0) == []
    assert mp.has_peer(2)
    second.close()


def test_notifications_stay_in_the_namespace(peer: Interface, beta: Namespace) -> None:
    foreign = Removals(beta)
    peer.control.del_peer(peer.index, 5)
    assert foreign.collect(0) == []
    foreign.close()


def test_each_removal_is_told_once(mp: Interface, removals: Removals) -> None:
    """Peers that expire, are deleted, and go with the interface: each is told exactly once."""
    removals.socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    for number in range(150):
        mp.add_peer(number, REMOTE, ipv4=f"10.8.2.{number}")
        if number % 3 == 0:
            mp.control.set_peer(mp.index, number, 0, 1)
    # Userspace and the timer reach for some of these at the same time.
    time.sleep(0.6)
    for number in range(0, 150, 2):
        with contextlib.suppress(NetlinkError):
            mp.control.del_peer(mp.index, number)
    time.sleep(1.5)
    mp.close()
    found = removals.collect(150)
    assert sorted(removal.peer_id for removal in found) == list(range(150))


# -- tombstones ---------------------------------------------------------------------------


@pytest.fixture
def expired(peer: Interface, removals: Removals) -> Interface:
    """An interface whose peer 5 has expired, which the daemon does not know yet."""
    expire(peer, removals, 5)
    return peer


@pytest.mark.smoke
@pytest.mark.differs_from_c("it has none: the daemon dies")
def test_tombstone_lets_the_daemon_live(
    refused: Refused, expired: Interface, removals: Removals
) -> None:
    control, index = expired.control, expired.index
    for _ in range(2):
        control.new_key(index, 5, KeyPair.random(), Slot.SECONDARY)
        control.swap_keys(index, 5)
        control.del_key(index, 5, Slot.SECONDARY)
        control.set_peer(index, 5, 10, 60)
    assert expired.peers() == []
    with refused(errno.ENOENT):
        control.peer(index, 5)
    control.del_peer(index, 5)
    # Its removal was told when it expired, and the stone is gone now.
    assert removals.collect(0) == []
    for request in (
        lambda: control.new_key(index, 5, KeyPair.random()),
        lambda: control.swap_keys(index, 5),
        lambda: control.del_key(index, 5, 0),
        lambda: control.set_peer(index, 5, 10, 60),
        lambda: control.del_peer(index, 5),
    ):
        with refused(errno.ENOENT):
            request()


@pytest.mark.differs_from_c("it has none")
def test_tombstone_of_a_closed_socket(alpha: Namespace, mp: Interface, removals: Removals) -> None:
    sock = udp_socket(alpha, "192.0.2.3", 1195)
    mp.add_peer(2, REMOTE, KeyPair.random(), ipv4="10.8.0.6", transport=sock)
    sock.close()
    assert removals.next().reason == Reason.TRANSPORT_DISCONNECT
    mp.control.new_key(mp.index, 2, KeyPair.random())
    mp.control.del_peer(mp.index, 2)


@pytest.mark.differs_from_c("it has none")
def test_tombstone_gives_way_to_a_new_peer(
    expired: Interface, removals: Removals, refused: Refused
) -> None:
    expired.control.new_key(expired.index, 5, KeyPair.random())
    expired.add_peer(5, ("192.0.2.2", 1200), KeyPair.random(), ipv4="10.8.0.5")
    assert expired.peer(5).remote == ("192.0.2.2", 1200)
    expired.control.del_peer(expired.index, 5)
    assert removals.collect(1) == [Removal(expired.index, 5, Reason.USERSPACE)]
    with refused(errno.ENOENT):
        expired.control.new_key(expired.index, 5, KeyPair.random())


@pytest.mark.differs_from_c("it has none")
def test_tombstone_frees_the_vpn_address(expired: Interface) -> None:
    """A client that reconnects under another id gets its address back."""
    expired.add_peer(6, REMOTE, KeyPair.random(), ipv4="10.8.0.5")
    assert expired.peer(6).ipv4 == "10.8.0.5"
    expired.control.del_peer(expired.index, 5)
    assert [found.peer_id for found in expired.peers()] == [6]


@pytest.mark.differs_from_c("it has none")
def test_tombstone_in_p2p(p2p: Interface, removals: Removals, refused: Refused) -> None:
    p2p.add_peer(5, REMOTE, KeyPair.random())
    expire(p2p, removals, 5)
    p2p.control.new_key(p2p.index, 5, KeyPair.random())
    with refused(errno.ENOENT):
        p2p.control.new_key(p2p.index, 6, KeyPair.random())
    p2p.control.del_peer(p2p.index, 5)
    with refused(errno.ENOENT):
        p2p.control.new_key(p2p.index, 5, KeyPair.random())


def test_no_tombstone_for_what_userspace_removed(
    refused: Refused, peer: Interface, removals: Removals
) -> None:
    peer.control.del_peer(peer.index, 5)
    removals.next()
    with refused(errno.ENOENT):
        peer.control.new_key(peer.index, 5, KeyPair.random())


def test_tombstone_holds_no_socket(
    refused: Refused, alpha: Namespace, mp: Interface, p2p: Interface, removals: Removals
) -> None:
    with udp_socket(alpha, "192.0.2.3") as sock:
        mp.add_peer(5, REMOTE, KeyPair.random(), ipv4="10.8.0.5", transport=sock)
        expire(mp, removals, 5)
        waiting.until(lambda: attaches(p2p, sock), "the socket is free", timeout=2)
