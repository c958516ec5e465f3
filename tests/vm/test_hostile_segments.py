# SPDX-License-Identifier: GPL-2.0
"""Large packets of the stack, as they arrive at the other end: each segment, byte for byte."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from conftest import OUTER, MakeEndpoint, MakeInterface
from ovpnlab import packet, train
from ovpnlab.interface import Interface
from ovpnlab.namespace import Namespace
from ovpnlab.train import ACK, CWR, ECE, FIN, PSH, SYN, UDP_SEGMENT
from ovpnlab.wire import Endpoint

NEAR = {4: "10.8.0.1", 6: "fd00:8::1"}
FAR = {4: "10.8.0.2", 6: "fd00:8::2"}
SO_RCVBUFFORCE = 33
# Features of the cable; the last two leave nothing to do for the device, then nothing at all.
OFFLOADS = {
    "all": (),
    "no-udp-segmentation": ("tx-udp-segmentation", "off"),
    "no-gso": ("gso", "off", "tso", "off", "tx-udp-segmentation", "off"),
    "no-checksums": ("tx", "off", "sg", "off", "gso", "off"),
}
CASES = [(version, offload) for version in (4, 6) for offload in OFFLOADS]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def far(
    request: pytest.FixtureRequest,
    interface: MakeInterface,
    endpoint: MakeEndpoint,
    alpha: Namespace,
) -> Iterator[tuple[int, Interface, Endpoint]]:
    """The version inside and outside, an interface, and its peer in user space."""
    version, offload = request.param
    end = interface(outer=OUTER[version][0])
    wire = endpoint(end, 1, FAR[4], FAR[6], address=OUTER[version][1])
    wire.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
    if OFFLOADS[offload]:
        alpha.run("ethtool", "-K", "eth0", *OFFLOADS[offload])
    yield version, end, wire
    on = ("tx", "sg", "gso", "tso", "tx-udp-segmentation")
    alpha.run("ethtool", "-K", "eth0", *(word for name in on for word in (name, "on")))


def _split(inner: bytes) -> tuple[bytes, bytes, bytes]:
    """IP header with all options or extensions, transport header, payload; checked."""
    if inner[0] >> 4 == 4:
        size = (inner[0] & 15) * 4
        assert packet.checksum(inner[:size]) == 0, f"a wrong IPv4 checksum: {inner[:size].hex()}"
        length, protocol = struct.unpack_from("!H", inner, 2)[0], inner[9]
    else:
        size, protocol = 40, inner[6]
        length = 40 + struct.unpack_from("!H", inner, 4)[0]
        while protocol == 60:
            protocol, size = inner[size], size + 8 * (1 + inner[size + 1])
    assert length == len(inner), f"the header says {length} of {len(inner)} bytes"
    parsed = packet.parse(inner)
    body = inner[size:]
    check = train.transport_checksum(parsed.source, parsed.destination, protocol, body)
    assert check == 0, f"a wrong checksum of protocol {protocol}: {body[:20].hex()}"
    head = 8 if protocol == packet.UDP else (body[12] >> 4) * 4
    return inner[:size], body[:head], body[head:]


def _inner(wire: Endpoint, protocol: int, timeout: float = 5) -> bytes:
    """The next packet of this protocol, options and extensions or not."""
    while True:
        inner = wire.receive_ip(timeout).inner
        if (inner[9] if inner[0] >> 4 == 4 else inner[6]) in (protocol, 60):
            return inner


def _pattern(size: int) -> bytes:
    return bytes(n * 7 + (n >> 8) & 0xFF for n in range(size))


def _same_network(heads: list[bytes], step: int | None) -> None:
    """All but length, id and checksum is equal; ids go up by `step`."""

    def fixed(head: bytes) -> bytes:
        return head[:4] + head[6:] if head[0] >> 4 == 6 else head[:2] + head[6:10] + head[12:]

    assert len({fixed(head) for head in heads}) == 1, [head.hex() for head in heads]
    if step is not None and heads[0][0] >> 4 == 4:
        ids = [struct.unpack_from("!H", head, 4)[0] for head in heads]
        assert ids == [(ids[0] + n * step) & 0xFFFF for n in range(len(ids))], ids


# -- UDP ----------------------------------------------------------------------------------


@contextlib.contextmanager
def _udp(
    alpha: Namespace, version: int, options: bool = False, tos: int = 0
) -> Iterator[socket.socket]:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with alpha.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((NEAR[version], 0))
        if version == 4:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
            if options:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\1" * 8)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tos)
            if options:
                pad = bytes([0, 0, 1, 4, 0, 0, 0, 0])
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, pad)
        yield sock


def test_udp_segments(far: tuple[int, Interface, Endpoint], alpha: Namespace) -> None:
    """Trains of programs: few and many, small and large, the last one short, with options."""
    version, end, wire = far
    for size, total, options, tos in (
        *((1000, 20000, False, 0), (1000, 20001, False, 0), (1300, 60000, False, 3)),
        *((1, 64, False, 0), (100, 12800, False, 0xB8), (1200, 1201, False, 0)),
        *((900, 9500, True, 0), (1200, 2400, True, 2)),
    ):
        data = _pattern(total)
        with _udp(alpha, version, options, tos) as sock:
            control = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", size))]
            sock.sendmsg([data], control, 0, (FAR[version], 99))
            what = f"{total} bytes by {size}, options {options}"
            heads, payloads = [], []
            for start in range(0, total, size):
                network, transport, payload = _split(_inner(wire, packet.UDP))
                wanted = data[start : start + size]
                assert payload == wanted, f"{what}: other bytes at {start}"
                assert struct.unpack("!HHH", transport[:6]) == (
                    *(sock.getsockname()[1], 99),
                    8 + len(wanted),
                ), what
                heads.append(network)
                payloads.append(payload)
        _same_network(heads, None)
        klass = heads[0][1] if version == 4 else (heads[0][0] & 15) << 4 | heads[0][1] >> 4
        assert klass == tos, f"{what}: the class is {klass:#x}, not {tos:#x}"
        assert (len(heads[0]) > {4: 20, 6: 40}[version]) == options, what
    assert end.peer(1).vpn_tx.packets == end.peer(1).link_tx.packets


# -- TCP ----------------------------------------------------------------------------------


class Receiver:
    """The passive end of a TCP connection, in user space: takes what comes and says so."""

    def __init__(self, wire: Endpoint, version: int, ecn: bool) -> None:
        self.wire, self.version, self.ecn = wire, version, ecn
        self.seq, self.next, self.port = 1000, 0, 0
        self.received = bytearray()
        self.heads: list[tuple[bytes, bytes, int]] = []

    def say(self, flags: int, options: bytes = b"") -> None:
        """Send a segment without data."""
        self.wire.send(
            train.tcp(
                *((FAR[self.version], 80), (NEAR[self.version], self.port), self.seq, b""),
                ack=self.next,
                flags=flags,
                options=options,
                window=65535,
            )
        )

    def accept(self) -> None:
        """The handshake; the window is 1 MiB and more."""
        _, transport, _ = _split(_inner(self.wire, train.TCP))
        self.port, seq = struct.unpack_from("!H2xI", transport)
        assert transport[13] == (SYN | ECE | CWR if self.ecn else SYN), transport.hex()
        self.next = seq + 1 & 0xFFFFFFFF
        options = b"\2\4" + struct.pack("!H", 1300) + b"\3\3\7\1"
        self.say(SYN | ACK | (ECE if self.ecn else 0), options)
        self.seq += 1

    def take(self, total: int) -> None:
        """Receive so many bytes, and answer after some segments."""
        unsaid = 0
        while len(self.received) < total:
            network, transport, payload = _split(_inner(self.wire, train.TCP))
            seq = struct.unpack_from("!I", transport, 4)[0]
            if not payload:
                continue
            assert seq == self.next, f"segment at {seq - self.next:+} of what is due"
            assert len(payload) <= 1300
            self.heads.append((network, transport, len(payload)))
            self.received += payload
            self.next = self.next + len(payload) & 0xFFFFFFFF
            unsaid += 1
            if unsaid == 8 or transport[13] & PSH or len(self.received) >= total:
                congested = self.ecn and 20 < len(self.heads) < 40
                self.say(ACK | (ECE if congested else 0))
                unsaid = 0


@pytest.mark.parametrize("ecn", [False, True], ids=["", "ecn"])
def test_tcp_segments(far: tuple[int, Interface, Endpoint], alpha: Namespace, ecn: bool) -> None:
    """A stream in large packets: sequence, ids, flags, checksums, and each byte of it."""
    version, end, wire = far
    alpha.sysctl("ipv4.tcp_ecn", 1 if ecn else 2)
    alpha.run("ethtool", "-K", end.name, "gso", "on", "tso", "on")
    total = 150_000
    data = _pattern(total)
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with alpha.socket(family, socket.SOCK_STREAM) as sock:
        receiver = Receiver(wire, version, ecn)
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.connect((FAR[version], 80))
        receiver.accept()
        deadline = time.monotonic() + 5
        while sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
            with contextlib.suppress(BlockingIOError):
                sock.setsockopt(socket.SOL_SOCKET, 32, 1 << 20)  # SO_SNDBUFFORCE
                sock.send(b"")
                break
            assert time.monotonic() < deadline, "no connection within 5 s"
        sock.settimeout(5)
        sent = sock.send(data)
        assert sent == total, f"the socket took {sent} of {total} bytes"
        receiver.take(total)
        receiver.say(ACK | FIN | train.RST)
    assert receiver.received == data, "other bytes came than were sent"
    congestion = [transport[13] & CWR for _, transport, _ in receiver.heads]
    assert all(transport[13] & ~(PSH | CWR) == ACK for _, transport, _ in receiver.heads)
    if ecn:
        assert 1 <= sum(map(bool, congestion)) <= 4, f"CWR on {sum(map(bool, congestion))} segments"
        _same_network([network for network, _, _ in receiver.heads], 1)
    else:
        assert not any(congestion), "CWR without ECN"
        _same_network([network for network, _, _ in receiver.heads], 1)
    sizes = [size for _, _, size in receiver.heads]
    assert sizes.count(1300) >= len(sizes) * 3 // 4, f"segments are not full: {sizes}"
