# SPDX-License-Identifier: GPL-2.0
"""The netlink family: what all commands refuse, SET_PEER, and dumps."""

from __future__ import annotations

import errno
import os
import struct

import pytest
from conftest import Refused
from ovpnlab import family, link
from ovpnlab.asking import REMOTE, new_key_attributes
from ovpnlab.family import (
    NEST,
    Command,
    Control,
    KeyPair,
    NewPeer,
    Removals,
    SetPeer,
    Top,
    sockaddr,
)
from ovpnlab.interface import Interface
from ovpnlab.namespace import Namespace
from ovpnlab.netlink import (
    CTRL_ATTR_FAMILY_ID,
    CTRL_ATTR_VERSION,
    NLM_F_DUMP,
    GenericSocket,
    NetlinkError,
    attribute,
    nested,
    parse,
    u8,
    u16,
    u32,
)

ALL_COMMANDS = [pytest.param(command, id=command.name) for command in Command]


def peer_id_attribute(command: Command, peer_id: int = 5) -> bytes:
    """The PEER_ID attribute of a command."""
    return u32(family.DelPeer.PEER_ID if command == Command.DEL_PEER else 1, peer_id)


# -- the family ---------------------------------------------------------------------------


@pytest.mark.smoke
def test_family(alpha: Namespace) -> None:
    """Version 1 and one multicast group, in each namespace."""
    with alpha.entered(), GenericSocket() as generic:
        found = generic.family(family.NAME)
    assert int.from_bytes(found[CTRL_ATTR_VERSION], "little") == 1
    groups = [parse(group) for group in parse(found[family.CTRL_ATTR_MCAST_GROUPS]).values()]
    assert [group[1] for group in groups] == [b"peers\0"]


@pytest.mark.parametrize("command", [0, 8, 100])
def test_unknown_command(control: Control, command: int) -> None:
    with pytest.raises(NetlinkError) as caught:
        control.send(command)
    assert caught.value.errno == errno.EOPNOTSUPP


# -- the interface ------------------------------------------------------------------------


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_missing_ifindex(control: Control, refused: Refused, command: Command) -> None:
    with refused(errno.EINVAL):
        control.send(command, nested(NEST[command], peer_id_attribute(command)))


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_no_such_device(control: Control, refused: Refused, command: Command) -> None:
    for index in (999_999, 0, 0xFFFFFFFF):
        with refused(errno.ENODEV, *([errno.EINVAL] if index != 999_999 else [])):
            control.request(command, index, peer_id_attribute(command))


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_not_our_device(
    control: Control, refused: Refused, alpha: Namespace, beta: Namespace, command: Command
) -> None:
    for name in ("lo", "eth0"):
        with refused(errno.EINVAL):
            control.request(command, alpha.index(name), peer_id_attribute(command))


def test_device_of_another_namespace(refused: Refused, beta: Namespace, mp: Interface) -> None:
    foreign = Control(beta)
    with refused(errno.ENODEV):
        foreign.peer(mp.index + 1000, 5)
    assert not beta.has("tun0")
    indexes = {beta.index(name) for name in beta.interfaces()}
    if mp.index not in indexes:
        with refused(errno.ENODEV):
            foreign.peers(mp.index)
    foreign.close()


@pytest.mark.parametrize("index", [None, 999_999, "lo"])
def test_dump_of_no_device(
    control: Control, refused: Refused, alpha: Namespace, index: int | str | None
) -> None:
    number = alpha.index(index) if isinstance(index, str) else index
    attributes = [] if number is None else [u32(Top.IFINDEX, number)]
    with refused(errno.ENODEV if index == 999_999 else errno.EINVAL):
        control.send(Command.GET_PEER, *attributes, flags=NLM_F_DUMP)


# -- malformed requests -------------------------------------------------------------------


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_missing_nest(refused: Refused, steady: Interface, command: Command) -> None:
    with refused(errno.EINVAL):
        steady.control.send(command, u32(Top.IFINDEX, steady.index))


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_wrong_nest(refused: Refused, steady: Interface, command: Command) -> None:
    """Another command's nest does not do."""
    other = Top.SWAP_KEYS if command != Command.SWAP_KEYS else Top.GET_PEER
    with refused(errno.EINVAL):
        steady.control.send(command, u32(Top.IFINDEX, steady.index), nested(other, u32(1, 5)))


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_missing_peer_id(refused: Refused, steady: Interface, command: Command) -> None:
    rest = {
        Command.NEW_PEER: [
            u32(NewPeer.SOCKET, steady.transport.fileno()),
            attribute(NewPeer.SOCKADDR_REMOTE, sockaddr(*REMOTE)),
            attribute(NewPeer.IPV4, bytes([10, 8, 0, 6])),
        ],
        Command.SET_PEER: [
            u32(SetPeer.KEEPALIVE_INTERVAL, 1),
            u32(SetPeer.KEEPALIVE_TIMEOUT, 2),
        ],
        Command.DEL_PEER: [u8(family.DelPeer.REASON, 1)],
        Command.NEW_KEY: list(new_key_attributes().values())[1:],
        Command.DEL_KEY: [u8(family.DelKey.KEY_SLOT, 0)],
    }
    with refused(errno.EINVAL):
        steady.control.request(command, steady.index, *rest.get(command, []))


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_malformed_attributes(refused: Refused, steady: Interface, command: Command) -> None:
    good = peer_id_attribute(command)
    kind = struct.unpack_from("=H", good, 2)[0]
    for malformed in (
        attribute(kind, b"\5\0"),
        attribute(kind, b"\5\0\0\0\0\0\0\0"),
        attribute(kind, b""),
        good + u32(99, 1),  # unknown
        good + b"\x40\0\1\0",  # beyond the end of the nest
    ):
        with refused(errno.EINVAL, errno.ERANGE):
            steady.control.request(command, steady.index, malformed)


def test_malformed_top_level(refused: Refused, steady: Interface) -> None:
    good = u32(Top.IFINDEX, steady.index) + nested(Top.GET_PEER, u32(1, 5))
    assert steady.control.send(Command.GET_PEER, good)
    bad = {
        "no flag on the nest": u32(1, steady.index) + attribute(Top.GET_PEER, u32(1, 5)),
        "unknown attribute": good + u32(55, 1),
        "2 bytes for IFINDEX": u16(1, steady.index) + nested(Top.GET_PEER, u32(1, 5)),
        "a nest that is too long": good[:8] + b"\xf0\0\x08\x80" + u32(1, 5),
    }
    for what, request in bad.items():
        with pytest.raises(NetlinkError) as caught:
            steady.control.send(Command.GET_PEER, request)
        assert caught.value.errno in (errno.EINVAL, errno.ERANGE), what


def test_unknown_peer(refused: Refused, steady: Interface) -> None:
    control, index = steady.control, steady.index
    for request in (
        lambda: control.set_peer(index, 6, 1, 2),
        lambda: control.del_peer(index, 6),
        lambda: control.new_key(index, 6, KeyPair.random()),
        lambda: control.swap_keys(index, 6),
        lambda: control.del_key(index, 6, 0),
        lambda: control.peer(index, 6),
    ):
        with refused(errno.ENOENT):
            request()


def test_unprivileged(steady: Interface) -> None:
    """Every command wants CAP_NET_ADMIN of the first user namespace."""
    with steady.namespace.entered():
        os.seteuid(65534)
        try:
            with GenericSocket() as generic:
                found = generic.family(family.NAME)
                number = int.from_bytes(found[CTRL_ATTR_FAMILY_ID], "little")
                for command in Command:
                    nest = nested(NEST[command], peer_id_attribute(command))
                    with pytest.raises(NetlinkError) as caught:
                        generic.command(number, command, u32(1, steady.index) + nest)
                    assert caught.value.errno == errno.EPERM, command.name
                with pytest.raises(NetlinkError) as caught:
                    attributes = u32(1, steady.index)
                    generic.command(number, Command.GET_PEER, attributes, NLM_F_DUMP)
                assert caught.value.errno == errno.EPERM
        finally:
            os.seteuid(0)


# -- SET_PEER -----------------------------------------------------------------------------


@pytest.mark.smoke
def test_set_peer(peer: Interface) -> None:
    for interval, timeout in ((10, 60), (0, 60), (10, 0), (0, 0)):
        peer.control.set_peer(peer.index, 5, interval, timeout)
        found = peer.peer(5)
        assert (found.keepalive_interval, found.keepalive_timeout) == (interval, timeout)


@pytest.mark.parametrize("given", [SetPeer.KEEPALIVE_INTERVAL, SetPeer.KEEPALIVE_TIMEOUT, None])
def test_set_peer_both_or_neither(peer: Interface, oracle: bool, given: SetPeer | None) -> None:
    peer.control.set_peer(peer.index, 5, 100, 600)
    attributes = [u32(SetPeer.PEER_ID, 5)] + ([u32(given, 7)] if given else [])
    try:
        peer.control.request(Command.SET_PEER, peer.index, *attributes)
    except NetlinkError as error:
        assert error.errno == errno.EINVAL and (error.message or oracle)
    found = peer.peer(5)
    assert (found.keepalive_interval, found.keepalive_timeout) == (100, 600)


@pytest.mark.parametrize("seconds", [0x7FFFFFFF, 0xFFFFFFFF])
def test_set_peer_long_times(
    refused: Refused, peer: Interface, removals: Removals, seconds: int
) -> None:
    """A time that no timer can hold is not taken for a short one."""
    try:
        peer.control.set_peer(peer.index, 5, seconds, seconds)
    except NetlinkError as error:
        assert error.errno in (errno.EINVAL, errno.ERANGE)
    assert removals.collect(0, quiet=0.7) == []
    assert peer.peer(5).vpn_tx.packets == 0


# -- GET_PEER -----------------------------------------------------------------------------


@pytest.mark.smoke
def test_dump_of_300_peers(mp: Interface) -> None:
    """Many messages, one dump: complete, none twice."""
    for number in range(300):
        mp.add_peer(
            *(number * 7, ("192.0.2.2", 2000 + number)),
            ipv4=f"10.8.{1 + number // 200}.{number % 200}",
            ipv6=f"fd00:8::{number + 1:x}",
        )
    found = mp.peers()
    assert len(found) == 300
    assert {peer.peer_id for peer in found} == {number * 7 for number in range(300)}
    assert {peer.remote for peer in found} == {("192.0.2.2", 2000 + n) for n in range(300)}
    assert len({peer.ipv4 for peer in found}) == len({peer.ipv6 for peer in found}) == 300


def test_dump_of_nothing(mp: Interface) -> None:
    assert mp.peers() == []


@pytest.mark.differs_from_c("a dump shows no peer in P2P mode")
def test_dump_of_p2p(p2p: Interface) -> None:
    p2p.add_peer(9, REMOTE)
    assert [peer.peer_id for peer in p2p.peers()] == [9]
    assert p2p.peers() == [p2p.peer(9)]


def test_dump_is_of_one_interface(alpha: Namespace, peer: Interface) -> None:
    other = Interface(alpha, "192.0.2.3", "10.10.0.1/24", mode=link.MODE_MP, name="tun1")
    try:
        other.add_peer(77, REMOTE, ipv4="10.10.0.2")
        assert [found.peer_id for found in peer.peers()] == [5]
        assert [found.peer_id for found in other.peers()] == [77]
    finally:
        other.close()
