# SPDX-License-Identifier: GPL-2.0
"""NEW_PEER: its good path and each refusal."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import tempfile
from collections.abc import Callable

import pytest
from conftest import Refused
from ovpnlab import waiting
from ovpnlab.asking import REMOTE, attaches
from ovpnlab.family import Command, KeyPair, NewPeer, Reason, Removal, Removals, sockaddr
from ovpnlab.interface import Interface, udp_socket
from ovpnlab.namespace import Namespace
from ovpnlab.netlink import NetlinkError, attribute, u32


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
        waiting.until(lambda: attaches(p2p, sock), "the socket is free", timeout=2)
