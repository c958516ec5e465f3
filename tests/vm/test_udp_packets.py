# SPDX-License-Identifier: GPL-2.0
"""The outer packets over UDP: their sizes and headers, and the errors that come back for them."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator

import pytest
from conftest import OUTER, MakeEndpoint, MakeInterface
from ovpnlab import packet
from ovpnlab.family import Removals
from ovpnlab.namespace import Namespace
from ovpnlab.ping import ping
from ovpnlab.tap import Tap
from ovpnlab.wire import Endpoint

versions = pytest.mark.parametrize("version", [4, 6])


# -- sizes and headers --------------------------------------------------------------------


@contextlib.contextmanager
def _narrow(namespaces: tuple[Namespace, ...], mtu: int) -> Iterator[None]:
    """The cable carries no more. Below 1280 it is its routes, as IPv6 would leave the device."""
    try:
        for namespace, other in zip(namespaces, OUTER[4][::-1], strict=True):
            if mtu >= 1280:
                namespace.ip(f"link set eth0 mtu {mtu}")
            else:
                namespace.ip(f"route add {other}/32 dev eth0 mtu lock {mtu}")
        yield
    finally:
        for namespace, other in zip(namespaces, OUTER[4][::-1], strict=True):
            if mtu >= 1280:
                namespace.ip("link set eth0 mtu 1500")
            else:
                namespace.ip(f"route del {other}/32 dev eth0")


@pytest.mark.smoke
@pytest.mark.parametrize(("version", "mtu"), [(4, 1280), (6, 1280), (4, 600)])
def test_outer_packets_are_fragmented(
    pair: Callable, alpha: Namespace, beta: Namespace, version: int, mtu: int
) -> None:
    """What does not fit outside goes in fragments, whatever inner packet and socket say of DF."""
    near, far = pair(version, inner6=False)
    discover, do, dont = {4: (10, 2, 0), 6: (23, 2, 0)}[version]
    level = {4: socket.IPPROTO_IP, 6: socket.IPPROTO_IPV6}[version]
    with _narrow((alpha, beta), mtu), Tap(beta, "eth0") as tap:
        for socket_df in (do, dont):
            for end in (near, far):
                end.transport.setsockopt(level, discover, socket_df)
            for fragment in (False, True):
                found = ping(alpha, "10.8.0.2", count=2, size=1372, fragment=fragment)
                assert found.complete, f"socket DF {socket_df}, inner DF {not fragment}: {found}"
        seen = tap.waiting()
        assert len(seen) >= 16, f"{len(seen)} outer packets for 8 that do not fit"
        assert max(map(len, seen)) <= mtu
    assert ping(beta, "10.8.0.1", size=1372, fragment=False).complete


def _udp_checksum_is_right(outer: bytes) -> bool:
    """Over the pseudo-header and all; 0 would mean none."""
    head = (outer[0] & 15) * 4 if outer[0] >> 4 == 4 else 40
    datagram = outer[head:]
    addresses = outer[12:20] if head == 20 else outer[8:40]
    covered = addresses + struct.pack("!HH", socket.IPPROTO_UDP, len(datagram)) + datagram
    return packet.checksum(covered) == 0 and datagram[6:8] != b"\0\0"


@versions
def test_outer_headers(
    interface: MakeInterface,
    endpoint: MakeEndpoint,
    alpha: Namespace,
    beta: Namespace,
    version: int,
) -> None:
    """Hop limit, traffic class, no DF, a checksum: nothing of the inner packet shows."""
    end = interface("10.8.0.1/24", outer=OUTER[version][0])
    wire = endpoint(end, 1, "10.8.0.2", address=OUTER[version][1])
    alpha.run("ethtool", "-K", "eth0", "tx", "off")
    try:
        with Tap(beta, "eth0") as tap:
            argv = ("ping", "-c", "1", "-W", "0.1", "-Q", "0xb8", "-t", "7", "10.8.0.2")
            alpha.run(*argv, check=False)
            inner = wire.receive_ip(protocol=packet.ICMP).inner
            assert (inner[1], inner[8]) == (0xB8, 7), "the inner TOS and TTL are the sender's"
            (outer,) = [each for each in tap.waiting() if packet.parse(each).protocol == packet.UDP]
    finally:
        alpha.run("ethtool", "-K", "eth0", "tx", "on")
    if version == 4:
        ttl, tos, flags = outer[8], outer[1], outer[6] & 0xE0
        assert flags == 0, "the outer packet may not be fragmented on its way"
    else:
        ttl, tos = outer[7], (outer[0] & 15) << 4 | outer[1] >> 4
    assert (ttl, tos) == (64, 0)
    assert _udp_checksum_is_right(outer), outer[:48].hex()


# -- errors -------------------------------------------------------------------------------


@pytest.mark.smoke
@versions
def test_unreachable_peer_comes_back(
    interface: MakeInterface,
    endpoint: MakeEndpoint,
    beta: Namespace,
    stack: contextlib.ExitStack,
    version: int,
) -> None:
    """Its port is closed for a while: the kernel there answers with ICMP errors."""
    end = interface("10.8.0.1/24", outer={4: "0.0.0.0", 6: "::"}[version])
    wire = endpoint(end, 1, "10.8.0.2", address=OUTER[version][1])
    wire.remote = (OUTER[version][0], end.address[1])
    assert wire.echo("10.8.0.2", "10.8.0.1", 1)
    wire.close()
    for _ in range(5):
        end.say("10.8.0.2")
    again = Endpoint(
        *(beta, wire.address[0], wire.remote, 1, *wire.keys.values()), port=wire.address[1]
    )
    stack.callback(again.close)
    again.packet_ids = wire.packet_ids
    end.say("10.8.0.2")
    assert again.receive_ip(protocol=packet.UDP).source == wire.remote
    assert again.echo("10.8.0.2", "10.8.0.1", 2)
    # The daemon's own calls do not fail for it either.
    end.transport.sendto(b"\x28 hello", again.address)
    assert again.receive_raw()[0] == b"\x28 hello"


ICMP_ERRORS = {
    4: [(3, 0, 0), (3, 1, 0), (3, 3, 0), (3, 4, 1000), (3, 13, 0), (11, 0, 0), (12, 0, 0)],
    6: [(1, 0, 0), (1, 3, 0), (1, 4, 0), (2, 0, 1280), (2, 0, 576), (3, 0, 0), (4, 0, 0)],
}


@versions
def test_icmp_errors_do_not_end_the_peer(
    pair: Callable, alpha: Namespace, beta: Namespace, version: int
) -> None:
    """Every kind of error about a packet that was really sent, too small an MTU among them."""
    near, far = pair(version, inner6=False)
    removals = Removals(alpha)
    raw = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}[version]
    family = {4: socket.AF_INET, 6: socket.AF_INET6}[version]
    with Tap(beta, "eth0") as tap, beta.socket(family, socket.SOCK_RAW, raw) as icmp:
        for kind, code, mtu in ICMP_ERRORS[version]:
            tap.waiting()
            assert ping(alpha, "10.8.0.2", count=1, size=200).complete, (kind, code)
            about = next(p for p in tap.waiting() if packet.parse(p).protocol == packet.UDP)
            error = struct.pack("!BBHI", kind, code, 0, mtu) + about[:128]
            if version == 4:
                error = error[:2] + struct.pack("!H", packet.checksum(error)) + error[4:]
            icmp.sendto(error, (OUTER[version][0], 0))
            found = ping(alpha, "10.8.0.2", count=1, size=1372, fragment=False, attempts=2)
            assert found.complete, f"after type {kind}, code {code}: {found}"
    assert removals.collect(0) == []
    removals.close()
    near.transport.sendto(b"\x28 hello", far.address)
    far.transport.settimeout(5)
    assert far.transport.recv(100) == b"\x28 hello"
    alpha.ip("route flush cache", version=version)
