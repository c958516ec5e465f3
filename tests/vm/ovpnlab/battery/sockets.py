# SPDX-License-Identifier: GPL-2.0
"""What the descriptor of NEW_PEER may be."""

from __future__ import annotations

import os
import socket
import struct
import tempfile

from .. import link, waiting
from ..family import Command, sockaddr
from .bench import REMOTE, REMOTE6, STEADY, Bench

STREAM, DATAGRAM, RAW = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW
IPV4, IPV6 = socket.AF_INET, socket.AF_INET6


def sockets(bench: Bench) -> None:
    """The requests; each has a descriptor of its own."""
    no_sockets(bench)
    other_kinds(bench)
    udp(bench)
    tcp(bench)
    taken(bench)


def ask(
    bench: Bench, name: str, descriptor: int | socket.socket, remote: bytes | None = REMOTE
) -> None:
    """Ask for a peer on this descriptor."""
    number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
    attributes = bench.new_peer(SOCKADDR_REMOTE=remote, SOCKET=struct.pack("=I", number))
    bench.ask(f"sockets/{name}", Command.NEW_PEER, *attributes.values())


def no_sockets(bench: Bench) -> None:
    """Descriptors of other things."""
    spare = os.dup(0)
    os.close(spare)
    reader, writer = os.pipe()
    directory = os.open("/", os.O_RDONLY)
    path_only = os.open("/", os.O_PATH)
    with tempfile.TemporaryFile() as file:
        for name, number in {
            "closed descriptor": spare,
            "descriptor 0x7fffffff": 0x7FFFFFFF,
            "descriptor -1": 0xFFFFFFFF,
            "file": file.fileno(),
            "pipe": reader,
            "directory": directory,
            "path": path_only,
        }.items():
            ask(bench, name, number)
            ask(bench, f"{name}, no remote", number, None)
    for number in (reader, writer, directory, path_only):
        os.close(number)


def other_kinds(bench: Bench) -> None:
    """Sockets that are neither UDP nor TCP."""
    for name, family, kind, protocol in (
        ("unix stream", socket.AF_UNIX, STREAM, 0),
        ("unix datagram", socket.AF_UNIX, DATAGRAM, 0),
        ("netlink", socket.AF_NETLINK, RAW, 0),
        ("packet", socket.AF_PACKET, RAW, 0),
        ("packet of protocol 17", socket.AF_PACKET, DATAGRAM, 17),
        ("raw icmp", IPV4, RAW, socket.IPPROTO_ICMP),
        ("raw udp", IPV4, RAW, socket.IPPROTO_UDP),
        ("raw udp over IPv6", IPV6, RAW, socket.IPPROTO_UDP),
        ("raw tcp", IPV4, RAW, socket.IPPROTO_TCP),
        ("mptcp", IPV4, STREAM, 262),
    ):
        ask(bench, name, bench.socket(family, kind, protocol))


def udp(bench: Bench) -> None:
    """UDP sockets in every state and of both families."""
    for name, family, remotes in (
        ("udp4", IPV4, {"IPv4": REMOTE, "IPv6": REMOTE6}),
        ("udp6", IPV6, {"IPv4": REMOTE, "IPv6": REMOTE6}),
    ):
        loopback = "127.0.0.1" if family == IPV4 else "::1"
        for kind, remote in remotes.items():
            mapped = sockaddr("::ffff:192.0.2.2", 1194)
            ask(bench, f"{name} unbound, {kind}", bench.socket(family, DATAGRAM), remote)
            bound = bench.socket(family, DATAGRAM, bind=loopback)
            ask(bench, f"{name} bound, {kind}", bound, remote)
            connected = bench.socket(family, DATAGRAM, bind=loopback)
            connected.connect((loopback, 1194))
            ask(bench, f"{name} connected, {kind}", connected, remote)
        bound = bench.socket(family, DATAGRAM, bind=loopback)
        ask(bench, f"{name} bound, mapped", bound, mapped)
        bound = bench.socket(family, DATAGRAM, bind=loopback)
        ask(bench, f"{name} bound, no remote", bound, None)
    only = bench.socket(IPV6, DATAGRAM)
    only.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    only.bind(("::", bench.port()))
    ask(bench, "udp6 only, IPv4", only)
    ask(bench, "udp6 only, IPv6", only, REMOTE6)
    shut = bench.socket(IPV4, DATAGRAM, bind="127.0.0.1")
    shut.connect(("127.0.0.1", 1194))
    shut.shutdown(socket.SHUT_RDWR)
    ask(bench, "udp4 shut down", shut)
    with bench.far.socket(IPV4, DATAGRAM) as foreign:
        foreign.bind(("127.0.0.1", bench.port()))
        ask(bench, "udp4 of another namespace", foreign)


def pair(bench: Bench, family: int, host: str) -> tuple[socket.socket, socket.socket]:
    """The two ends of a TCP connection."""
    with bench.near.entered():
        server = bench.socket(family, STREAM, bind=host)
        server.listen()
        near = bench.socket(family, STREAM, bind=host)
        near.connect(server.getsockname())
        far, _ = server.accept()
    server.close()
    return near, far


def tcp(bench: Bench) -> None:
    """TCP sockets in every state and of both families."""
    for name, family, host in (("tcp4", IPV4, "127.0.0.1"), ("tcp6", IPV6, "::1")):
        ask(bench, f"{name} new", bench.socket(family, STREAM), None)
        ask(bench, f"{name} bound", bench.socket(family, STREAM, bind=host), None)
        listening = bench.socket(family, STREAM, bind=host)
        listening.listen()
        ask(bench, f"{name} listening", listening, None)
        near, far = pair(bench, family, host)
        ask(bench, f"{name} established", near, None)
        far.close()
        near, far = pair(bench, family, host)
        remote = sockaddr(host, far.getsockname()[1])
        ask(bench, f"{name} established, with a remote", near, remote)
        far.close()
        near, far = pair(bench, family, host)
        far.close()
        waiting.until(lambda: near.recv(1) == b"", "the end of the connection")
        ask(bench, f"{name} closed by the other", near, None)
        near, far = pair(bench, family, host)
        near.shutdown(socket.SHUT_WR)
        ask(bench, f"{name} half closed", near, None)
        far.close()


def taken(bench: Bench) -> None:
    """Sockets that others use: another peer, another interface, IPsec."""
    other = link.create(bench.near, "mp1", link.MODE_MP)
    shared = bench.socket(IPV4, DATAGRAM, bind="127.0.0.1")
    near, far = pair(bench, IPV4, "127.0.0.1")

    def occupy(index: int, peer_id: int, sock: socket.socket, remote: bool) -> None:
        where = ("192.0.2.2", 1194) if remote else None
        bench.control.new_peer(index, peer_id, sock, where, "10.8.0.77")

    ask(bench, "udp4 of the steady peer", bench.udp)
    bench.prepare(
        lambda: occupy(other, 77, shared, True),
        lambda: occupy(bench.mp, STEADY + 70, near, False),
    )
    ask(bench, "udp4 of another interface", shared)
    ask(bench, "tcp4 of another peer", near, None)
    bench.prepare(
        lambda: bench.control.del_peer(bench.mp, STEADY + 70),
        bench.removals.next,
        lambda: link.delete(bench.near, "mp1"),
        bench.removals.next,
    )
    far.close()
    ipsec = bench.socket(IPV4, DATAGRAM, bind="127.0.0.1")
    encapsulation, esp_in_udp = 100, 2
    try:
        ipsec.setsockopt(socket.IPPROTO_UDP, encapsulation, esp_in_udp)
    except OSError as error:
        raise OSError(error.errno, "this kernel has no ESP in UDP") from error
    ask(bench, "udp4 of IPsec", ipsec)
