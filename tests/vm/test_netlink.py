# SPDX-License-Identifier: GPL-2.0
"""The netlink family: each command's good path, each refusal, dumps, notifications, tombstones."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterator

import pytest
from conftest import Refused
from ovpnlab import family, link, waiting
from ovpnlab.family import (
    NEST,
    Cipher,
    Command,
    Control,
    Key,
    KeyDirection,
    KeyPair,
    NewKey,
    NewPeer,
    Reason,
    Removal,
    Removals,
    SetPeer,
    Slot,
    Top,
    key_attributes,
    sockaddr,
)
from ovpnlab.interface import Interface, udp_socket
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

REMOTE = ("192.0.2.2", 1194)
ALL_COMMANDS = [pytest.param(command, id=command.name) for command in Command]


def peer_id_attribute(command: Command, peer_id: int = 5) -> bytes:
    """The PEER_ID attribute of a command."""
    return u32(family.DelPeer.PEER_ID if command == Command.DEL_PEER else 1, peer_id)


@pytest.fixture
def mp(alpha: Namespace, beta: Namespace) -> Iterator[Interface]:
    """A multi-peer interface without peers."""
    made = Interface(alpha, "192.0.2.1", "10.8.0.1/16", "fd00:8::1/64", mode=link.MODE_MP)
    yield made
    made.close()


@pytest.fixture
def p2p(alpha: Namespace, beta: Namespace) -> Iterator[Interface]:
    """A P2P interface without a peer."""
    made = Interface(alpha, "192.0.2.1", "10.9.0.1/24", name="p2p0")
    yield made
    made.close()


@pytest.fixture
def peer(mp: Interface) -> Interface:
    """A multi-peer interface with peer 5, which has a primary key."""
    mp.add_peer(5, REMOTE, KeyPair.random(), ipv4="10.8.0.5")
    return mp


class Steady:
    """A multi-peer interface with peer 5 for requests that are to be refused.

    A refused request leaves no trace, so the tests share it; each test looks whether
    it is as before, and the next one gets a new one if not.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._interface: Interface | None = None

    def interface(self) -> Interface:
        """The interface, with its peer."""
        if self._interface is None:
            addresses = ("10.8.0.1/16", "fd00:8::1/64")
            self._interface = Interface(
                self._namespace, "192.0.2.1", *addresses, mode=link.MODE_MP, name="steady"
            )
            self._interface.add_peer(5, REMOTE, KeyPair.random(), ipv4="10.8.0.5")
            self._before = self._interface.peers()
        return self._interface

    def check(self) -> None:
        """Fail if there is a trace of what was refused."""
        found = self.interface().peers()
        if found != self._before:
            self.close()
            pytest.fail(f"there were {self._before}, and now there are {found}")

    def close(self) -> None:
        """Delete the interface."""
        if self._interface is not None:
            self._interface.close()
            self._interface = None


@pytest.fixture(scope="module")
def steady_holder(alpha: Namespace, beta: Namespace) -> Iterator[Steady]:
    """What the tests of refusals share."""
    made = Steady(alpha)
    yield made
    made.close()


@pytest.fixture
def steady(steady_holder: Steady) -> Iterator[Interface]:
    """A multi-peer interface with peer 5 that must be the same after the test."""
    yield steady_holder.interface()
    steady_holder.check()


@pytest.fixture
def removals(alpha: Namespace) -> Iterator[Removals]:
    """The notifications of the namespace."""
    made = Removals(alpha)
    yield made
    made.close()


@pytest.fixture(scope="module")
def control(alpha: Namespace) -> Iterator[Control]:
    """Requests without an interface."""
    made = Control(alpha)
    yield made
    made.close()


def expire(interface: Interface, removals: Removals, peer_id: int) -> None:
    """Let a peer expire, and hear of it."""
    interface.control.set_peer(interface.index, peer_id, 0, 1)
    removal = removals.next(timeout=8)
    assert removal == Removal(interface.index, peer_id, Reason.EXPIRED)


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


# -- NEW_PEER -----------------------------------------------------------------------------


@pytest.mark.smoke
def test_new_peer_udp4(mp: Interface) -> None:
    mp.control.new_peer(
        mp.index, 5, mp.transport, REMOTE, "10.8.0.5", "fd00:8::5", local_ip="192.0.2.1"
    )
    found = mp.peer(5)
    assert found.peer_id == 5
    assert found.remote == REMOTE
    assert (found.ipv4, found.ipv6) == ("10.8.0.5", "fd00:8::5")
    assert found.local_ip == "192.0.2.1"
    assert found.local_port == mp.address[1]
    assert (found.keepalive_interval, found.keepalive_timeout) == (0, 0)
    for counters in (found.vpn_rx, found.vpn_tx, found.link_rx, found.link_tx):
        assert (counters.packets, counters.bytes) == (0, 0)


def test_new_peer_udp6(alpha: Namespace, mp: Interface) -> None:
    with udp_socket(alpha, "2001:db8::1") as sock:
        remote = ("2001:db8::2", 1194)
        mp.control.new_peer(mp.index, 6, sock, remote, "10.8.0.6", None, local_ip="2001:db8::1")
        found = mp.peer(6)
        assert found.remote == remote
        assert (found.ipv4, found.ipv6) == ("10.8.0.6", None)
        assert found.local_ip == "2001:db8::1"
        assert found.local_port == sock.getsockname()[1]


def test_new_peer_mapped_address_is_ipv4(alpha: Namespace, mp: Interface) -> None:
    """A dual-stack socket of OpenVPN gives its IPv4 clients as mapped addresses."""
    with alpha.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("::", 0))
        mp.control.new_peer(
            *(mp.index, 7, sock, ("::ffff:192.0.2.2", 1194), "10.8.0.7"),
            local_ip="::ffff:192.0.2.1",
        )
        found = mp.peer(7)
        assert found.remote == REMOTE
        assert found.local_ip == "192.0.2.1"


def test_new_peer_highest_id(mp: Interface) -> None:
    mp.add_peer(0xFFFFFE, REMOTE, KeyPair.random(), ipv4="10.8.0.9")
    assert mp.peer(0xFFFFFE).remote == REMOTE


@pytest.mark.differs_from_c("it takes peer ids that do not fit the wire")
@pytest.mark.parametrize("peer_id", [0x1000000, 0xFFFFFFFF])
def test_new_peer_id_out_of_range(refused: Refused, steady: Interface, peer_id: int) -> None:
    with refused(errno.ERANGE):
        steady.add_peer(peer_id, REMOTE, ipv4="10.8.0.6")


def test_new_peer_duplicate(refused: Refused, steady: Interface, removals: Removals) -> None:
    before = steady.peer(5)
    with refused(errno.EEXIST):
        steady.add_peer(5, ("192.0.2.2", 9), ipv4="10.8.0.77")
    assert steady.peer(5) == before
    assert removals.collect(0) == []


def test_new_peer_without_vpn_address(refused: Refused, steady: Interface) -> None:
    with refused(errno.EINVAL):
        steady.add_peer(6, REMOTE)


def test_new_peer_p2p_needs_no_vpn_address(p2p: Interface) -> None:
    p2p.add_peer(5, REMOTE)
    assert p2p.peer(5).remote == REMOTE


@pytest.mark.smoke
@pytest.mark.differs_from_c("a dump shows no peer in P2P mode")
def test_new_peer_p2p_replaces(p2p: Interface, removals: Removals, refused: Refused) -> None:
    p2p.add_peer(5, REMOTE, KeyPair.random())
    p2p.add_peer(6, ("192.0.2.2", 1195), KeyPair.random())
    assert removals.collect(1) == [Removal(p2p.index, 5, Reason.TEARDOWN)]
    with refused(errno.ENOENT):
        p2p.peer(5)
    assert p2p.peer(6).remote == ("192.0.2.2", 1195)
    # The same id again: another peer still.
    p2p.add_peer(6, ("192.0.2.2", 1196))
    assert removals.collect(1) == [Removal(p2p.index, 6, Reason.TEARDOWN)]
    assert [found.remote for found in p2p.peers()] == [("192.0.2.2", 1196)]


def _new_peer(
    remote: bytes | None = sockaddr(*REMOTE), local: bytes | None = None, **vpn: bytes
) -> list[bytes]:
    attributes = [u32(NewPeer.PEER_ID, 6)]
    if remote is not None:
        attributes.append(attribute(NewPeer.SOCKADDR_REMOTE, remote))
    if local is not None:
        attributes.append(attribute(NewPeer.LOCAL_IP, local))
    given = vpn or {"IPV4": bytes([10, 8, 0, 5])}
    return attributes + [attribute(NewPeer[name], value) for name, value in given.items()]


@pytest.mark.parametrize(
    "attributes",
    [
        pytest.param(_new_peer(remote=None), id="no remote"),
        pytest.param(_new_peer(remote=b""), id="empty remote"),
        pytest.param(_new_peer(remote=sockaddr(*REMOTE)[:8]), id="half a sockaddr_in"),
        pytest.param(_new_peer(remote=sockaddr("2001:db8::2", 9)[:16]), id="half a sockaddr_in6"),
        pytest.param(_new_peer(remote=sockaddr("2001:db8::2", 9)[:27]), id="27 of 28 bytes"),
        pytest.param(_new_peer(remote=b"\1\0" + bytes(14)), id="remote of AF_UNIX"),
        pytest.param(_new_peer(remote=bytes(16)), id="remote of AF_UNSPEC"),
        pytest.param(_new_peer(remote=bytes(200)), id="remote too long"),
        pytest.param(_new_peer(local=bytes(5)), id="local of 5 bytes"),
        pytest.param(_new_peer(local=bytes(17)), id="local of 17 bytes"),
        pytest.param(_new_peer(local=b""), id="local of nothing"),
        pytest.param(_new_peer(local=b"\x20\1\r\xb8" + bytes(11) + b"\1"), id="local of IPv6"),
        pytest.param(
            _new_peer(remote=sockaddr("2001:db8::2", 9), local=bytes([192, 0, 2, 1])),
            id="local of IPv4, remote of IPv6",
        ),
        pytest.param(_new_peer(IPV4=bytes(3)), id="IPV4 of 3 bytes"),
        pytest.param(_new_peer(IPV4=bytes(16)), id="IPV4 of 16 bytes"),
        pytest.param(_new_peer(IPV6=bytes(4)), id="IPV6 of 4 bytes"),
        pytest.param(_new_peer(IPV6=bytes(17)), id="IPV6 of 17 bytes"),
    ],
)
def test_new_peer_malformed(
    request: pytest.FixtureRequest,
    refused: Refused,
    oracle: bool,
    steady: Interface,
    attributes: list[bytes],
) -> None:
    lenient = ("half a sockaddr_in6", "27 of 28", "remote of AF_UN", "too long", "local of nothing")
    if oracle and any(name in request.node.name for name in lenient):
        pytest.xfail("the C module does not check this")
    with refused(errno.EINVAL, errno.ERANGE):
        sock = u32(NewPeer.SOCKET, steady.transport.fileno())
        steady.control.request(Command.NEW_PEER, steady.index, sock, *attributes)


def test_new_peer_missing_socket(refused: Refused, steady: Interface) -> None:
    with refused(errno.EINVAL):
        steady.control.request(Command.NEW_PEER, steady.index, *_new_peer())


@pytest.mark.parametrize("descriptor", ["closed", "huge", "file", "pipe", "directory"])
def test_new_peer_bad_descriptor(refused: Refused, steady: Interface, descriptor: str) -> None:
    with tempfile.TemporaryFile() as file:
        reader, writer = os.pipe()
        directory = os.open("/", os.O_RDONLY)
        spare = os.dup(0)
        os.close(spare)
        number = {
            "closed": spare,
            "huge": 0xFFFFFFFF,
            "file": file.fileno(),
            "pipe": reader,
            "directory": directory,
        }[descriptor]
        try:
            with refused(errno.ENOTSOCK):
                steady.control.new_peer(steady.index, 6, number, REMOTE, "10.8.0.6")
        finally:
            for each in (reader, writer, directory):
                os.close(each)


OTHER_SOCKETS: dict[str, Callable[[], socket.socket]] = {
    "unix stream": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
    "unix datagram": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
    "packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0),
    # A packet socket's protocol is anything its owner likes, such as UDP's number.
    "packet 17": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 17),
    "icmp": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    # These have the protocol of UDP or TCP, and are neither.
    "raw udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP),
    "raw udp6": lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_UDP),
    "raw tcp": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP),
    "mptcp": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262),
}


@pytest.mark.differs_from_c("every unfit socket is ENOTSOCK, and raw ones crash it", run=False)
@pytest.mark.parametrize("kind", OTHER_SOCKETS)
def test_new_peer_unfit_socket(
    refused: Refused, alpha: Namespace, steady: Interface, kind: str
) -> None:
    try:
        with alpha.entered():
            sock = OTHER_SOCKETS[kind]()
    except OSError as error:
        pytest.skip(f"this kernel has no such socket: {error}")
    with sock, refused(errno.EOPNOTSUPP):
        steady.control.new_peer(steady.index, 6, sock, REMOTE, "10.8.0.6")


@pytest.mark.differs_from_c("every unfit socket is ENOTSOCK")
@pytest.mark.parametrize("state", ["new", "bound", "listening", "closed by the other"])
def test_new_peer_tcp_not_established(
    refused: Refused, alpha: Namespace, steady: Interface, state: str
) -> None:
    with alpha.socket(socket.AF_INET, socket.SOCK_STREAM) as sock, alpha.entered():
        if state != "new":
            sock.bind(("192.0.2.1", 0))
        if state == "listening":
            sock.listen()
        if state == "closed by the other":
            with socket.create_server(("192.0.2.3", 0)) as server:
                sock.connect(server.getsockname())
                server.accept()[0].close()
            waiting.until(lambda: sock.recv(1) == b"", "the end of the connection")
        with refused(errno.EINVAL):
            steady.control.new_peer(steady.index, 6, sock, None, "10.8.0.6")
        # Nothing was attached: the next socket works.
        steady.add_peer(6, REMOTE, ipv4="10.8.0.6")
        steady.control.del_peer(steady.index, 6)


def test_new_peer_tcp_established(alpha: Namespace, beta: Namespace, mp: Interface) -> None:
    """An established TCP connection is a transport."""
    with beta.entered():
        server = socket.create_server(("192.0.2.2", 0))
    with server, alpha.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.connect(server.getsockname())
        with server.accept()[0] as far:
            try:
                mp.control.new_peer(mp.index, 5, sock, None, "10.8.0.5")
            except NetlinkError as error:
                if error.errno == errno.EOPNOTSUPP:
                    assert error.message
                    assert mp.peers() == []
                    pytest.skip(f"this build has no TCP transport: {error.message}")
                raise
            assert mp.peer(5).ipv4 == "10.8.0.5"
            # A control packet passes to the daemon with its length before it.
            far.sendall(struct.pack("!H", 5) + b"\x38abcd")
            sock.settimeout(5)
            assert sock.recv(100) == struct.pack("!H", 5) + b"\x38abcd"
            mp.control.del_peer(mp.index, 5)


@pytest.mark.differs_from_c("every unfit socket is ENOTSOCK")
def test_new_peer_socket_of_another_interface(
    refused: Refused, peer: Interface, p2p: Interface, removals: Removals
) -> None:
    with refused(errno.EBUSY):
        p2p.add_peer(1, REMOTE, transport=peer.transport)
    # It is free as soon as its last peer is gone.
    peer.control.del_peer(peer.index, 5)
    assert removals.next().peer_id == 5

    def attach() -> bool:
        with contextlib.suppress(NetlinkError):
            p2p.add_peer(1, REMOTE, transport=peer.transport)
            return True
        return False

    waiting.until(attach, "the socket is free", timeout=2)


@pytest.mark.differs_from_c("it looks at sk_user_data only")
def test_new_peer_socket_of_another_user(
    refused: Refused, alpha: Namespace, steady: Interface
) -> None:
    """A socket that IPsec uses for its encapsulation is not ours to take."""
    udp_encap, espinudp = 100, 2
    with udp_socket(alpha, "192.0.2.1") as sock:
        try:
            sock.setsockopt(socket.IPPROTO_UDP, udp_encap, espinudp)
        except OSError as error:
            pytest.skip(f"this kernel has no ESP in UDP: {error}")
        with refused(errno.EBUSY):
            steady.add_peer(6, REMOTE, ipv4="10.8.0.6", transport=sock)


def test_refused_new_peer_leaves_no_trace(
    alpha: Namespace, mp: Interface, p2p: Interface, removals: Removals
) -> None:
    """No peer, no notification, and the socket stays free for another interface."""
    with udp_socket(alpha, "192.0.2.1") as sock:
        descriptor = u32(NewPeer.SOCKET, sock.fileno())
        for attributes in (
            _new_peer(remote=None),
            _new_peer(local=bytes(5)),
            _new_peer(IPV6=bytes(4)),
            [u32(NewPeer.PEER_ID, 5), attribute(NewPeer.SOCKADDR_REMOTE, sockaddr(*REMOTE))],
        ):
            with pytest.raises(NetlinkError):
                mp.control.request(Command.NEW_PEER, mp.index, descriptor, *attributes)
        assert mp.peers() == []
        assert removals.collect(0) == []
        p2p.add_peer(1, REMOTE, transport=sock)


def test_duplicate_id_leaves_the_new_socket_free(
    refused: Refused, alpha: Namespace, peer: Interface, p2p: Interface
) -> None:
    with udp_socket(alpha, "192.0.2.1") as sock:
        with refused(errno.EEXIST):
            peer.add_peer(5, REMOTE, ipv4="10.8.0.6", transport=sock)
        waiting.until(lambda: _attaches(p2p, sock), "the socket is free", timeout=2)


def _attaches(interface: Interface, sock: socket.socket) -> bool:
    try:
        interface.add_peer(1, REMOTE, transport=sock)
    except NetlinkError as error:
        assert error.errno in (errno.EBUSY, errno.ENOTSOCK)
        return False
    return True


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


# -- NEW_KEY, SWAP_KEYS, DEL_KEY ----------------------------------------------------------


def new_key_attributes(**other: bytes) -> dict[str, bytes]:
    """A good NEW_KEY for peer 5, attribute by attribute; `other` replaces some."""
    keys = KeyPair.random()
    return {
        "PEER_ID": u32(NewKey.PEER_ID, 5),
        "KEY_SLOT": u8(NewKey.KEY_SLOT, Slot.PRIMARY),
        "KEY_ID": u8(NewKey.KEY_ID, 1),
        "CIPHER_ALG": u16(NewKey.CIPHER_ALG, Cipher.AES_GCM),
        "ENCRYPT_KEY": key_attributes(NewKey.ENCRYPT_KEY, keys.encrypt),
        "DECRYPT_KEY": key_attributes(NewKey.DECRYPT_KEY, keys.decrypt),
    } | other


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("cipher", "size"),
    [
        (Cipher.AES_GCM, 16),
        (Cipher.AES_GCM, 24),
        (Cipher.AES_GCM, 32),
        (Cipher.CHACHA20_POLY1305, 32),
    ],
)
def test_new_key(peer: Interface, cipher: Cipher, size: int) -> None:
    for slot in Slot:
        for key_id in range(8):
            peer.add_key(5, KeyPair.random(key_id, cipher, size), slot)


@pytest.mark.parametrize("missing", list(new_key_attributes()))
def test_new_key_missing_attribute(refused: Refused, steady: Interface, missing: str) -> None:
    attributes = new_key_attributes(**{missing: b""})
    with refused(errno.EINVAL):
        steady.control.request(Command.NEW_KEY, steady.index, *attributes.values())


GOOD_KEY = attribute(KeyDirection.CIPHER_KEY, bytes(32))
GOOD_TAIL = attribute(KeyDirection.NONCE_TAIL, bytes(8))


@pytest.mark.parametrize("direction", ["ENCRYPT_KEY", "DECRYPT_KEY"])
def test_new_key_malformed_direction(refused: Refused, steady: Interface, direction: str) -> None:
    for content in (
        [],
        [GOOD_KEY],
        [GOOD_TAIL],
        [GOOD_KEY, attribute(KeyDirection.NONCE_TAIL, bytes(7))],
        [GOOD_KEY, attribute(KeyDirection.NONCE_TAIL, bytes(9))],
        [attribute(KeyDirection.CIPHER_KEY, bytes(256)), GOOD_TAIL],
        [GOOD_KEY, GOOD_TAIL, u32(9, 9)],
    ):
        nest = nested(NewKey[direction], *content)
        attributes = new_key_attributes(**{direction: nest})
        with refused(errno.EINVAL, errno.ERANGE):
            steady.control.request(Command.NEW_KEY, steady.index, *attributes.values())


@pytest.mark.parametrize("direction", ["ENCRYPT_KEY", "DECRYPT_KEY"])
@pytest.mark.parametrize(
    ("cipher", "sizes"),
    [
        (Cipher.AES_GCM, (0, 1, 15, 17, 31, 33, 64, 255)),
        (Cipher.CHACHA20_POLY1305, (0, 16, 24, 31, 33, 255)),
    ],
)
def test_new_key_bad_length(
    refused: Refused, steady: Interface, cipher: Cipher, sizes: tuple[int, ...], direction: str
) -> None:
    for size in sizes:
        attributes = new_key_attributes(
            CIPHER_ALG=u16(NewKey.CIPHER_ALG, cipher),
            ENCRYPT_KEY=key_attributes(NewKey.ENCRYPT_KEY, Key.random(32)),
            DECRYPT_KEY=key_attributes(NewKey.DECRYPT_KEY, Key.random(32)),
        )
        attributes[direction] = key_attributes(NewKey[direction], Key.random(size))
        with refused(errno.EINVAL):
            steady.control.request(Command.NEW_KEY, steady.index, *attributes.values())


def test_new_key_unknown_cipher(refused: Refused, steady: Interface) -> None:
    for cipher in (3, 255, 0x100, 0x101, 0xFFFF):
        attributes = new_key_attributes(CIPHER_ALG=u16(NewKey.CIPHER_ALG, cipher))
        with refused(errno.EINVAL):
            steady.control.request(Command.NEW_KEY, steady.index, *attributes.values())


@pytest.mark.smoke
@pytest.mark.differs_from_c("EINVAL")
def test_new_key_cipher_none(refused: Refused, steady: Interface) -> None:
    """No encryption is for a module built with DEBUG=1, which this one is not."""
    attributes = new_key_attributes(CIPHER_ALG=u16(NewKey.CIPHER_ALG, Cipher.NONE))
    with refused(errno.EOPNOTSUPP):
        steady.control.request(Command.NEW_KEY, steady.index, *attributes.values())
    del attributes["ENCRYPT_KEY"], attributes["DECRYPT_KEY"]
    with refused(errno.EOPNOTSUPP, errno.EINVAL):
        steady.control.request(Command.NEW_KEY, steady.index, *attributes.values())


@pytest.mark.differs_from_c("it takes key ids that do not fit the wire")
@pytest.mark.parametrize("key_id", [8, 255])
def test_new_key_id_out_of_range(refused: Refused, steady: Interface, key_id: int) -> None:
    attributes = new_key_attributes(KEY_ID=u8(NewKey.KEY_ID, key_id))
    with refused(errno.ERANGE):
        steady.control.request(Command.NEW_KEY, steady.index, *attributes.values())


@pytest.mark.parametrize("slot", [2, 255])
def test_key_slot_out_of_range(refused: Refused, steady: Interface, slot: int) -> None:
    attributes = new_key_attributes(KEY_SLOT=u8(NewKey.KEY_SLOT, slot))
    with refused(errno.ERANGE):
        steady.control.request(Command.NEW_KEY, steady.index, *attributes.values())
    with refused(errno.ERANGE):
        steady.control.del_key(steady.index, 5, slot)


def test_del_key(refused: Refused, peer: Interface) -> None:
    """Emptying a slot that is empty succeeds."""
    for slot in Slot:
        for _ in range(2):
            peer.control.del_key(peer.index, 5, slot)
    with refused(errno.EINVAL):
        peer.control.request(Command.DEL_KEY, peer.index, u32(1, 5))


def test_swap_keys(peer: Interface) -> None:
    """With both, one, or no slot filled."""
    peer.add_key(5, KeyPair.random(1), Slot.SECONDARY)
    peer.control.swap_keys(peer.index, 5)
    peer.control.del_key(peer.index, 5, Slot.SECONDARY)
    peer.control.swap_keys(peer.index, 5)
    peer.control.del_key(peer.index, 5, Slot.SECONDARY)
    peer.control.swap_keys(peer.index, 5)


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
        waiting.until(lambda: _attaches(p2p, sock), "the socket is free", timeout=2)
