# SPDX-License-Identifier: GPL-2.0
"""Trains: datagrams that one call sends and that travel as one packet (UDP GSO)."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Sequence

from . import packet

UDP_SEGMENT = 103
MOST = 128  # UDP_MAX_SEGMENTS
LARGEST = 65507

TCP = 6
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << n for n in range(8))
DF, MF = 0x4000, 0x2000


def send(sock: socket.socket, datagrams: Sequence[bytes], remote: tuple[str, int]) -> None:
    """Send datagrams as one train: all are of one size, but the last may be shorter."""
    size = len(datagrams[0])
    if any(len(each) != size for each in datagrams[:-1]) or len(datagrams[-1]) > size:
        raise ValueError(f"no train has the sizes {[len(each) for each in datagrams]}")
    if len(datagrams) == 1:
        sock.sendto(datagrams[0], remote)
        return
    control = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", size))]
    sock.sendmsg([b"".join(datagrams)], control, 0, remote)


def transport_checksum(source: str, destination: str, protocol: int, body: bytes) -> int:
    """The checksum over pseudo-header and body; 0 if the body has the right one in it."""
    one, other = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    pseudo = one.packed + other.packed + struct.pack("!II", len(body), protocol)
    return packet.checksum(pseudo + body)


def tcp(
    source: tuple[str, int],
    destination: tuple[str, int],
    seq: int,
    payload: bytes,
    *,
    ack: int = 1,
    flags: int = ACK,
    options: bytes = b"",
    window: int = 500,
    ident: int = 0,
    fragment: int = DF,
    tos: int = 0,
    hops: int = 64,
    ip_options: bytes = b"",
) -> bytes:
    """A TCP segment over IPv4 or IPv6 with right checksums.

    `ip_options` are those of IPv4, or a whole extension header of destination options.
    """
    offset = (20 + len(options)) // 4 << 4
    head = struct.pack(
        *("!HHIIBBHHH", source[1], destination[1], seq & 0xFFFFFFFF, ack),
        *(offset, flags, window, 0, 0),
    )
    body = head + options + payload
    check = transport_checksum(source[0], destination[0], TCP, body)
    body = body[:16] + struct.pack("!H", check) + body[18:]
    one, other = ipaddress.ip_address(source[0]), ipaddress.ip_address(destination[0])
    if one.version == 6:
        following = 60 if ip_options else TCP
        length = len(ip_options) + len(body)
        network = struct.pack("!IHBB", 6 << 28 | tos << 20, length, following, hops)
        return network + one.packed + other.packed + ip_options + body
    size = 20 + len(ip_options)
    network = struct.pack(
        *("!BBHHHBBH", 0x40 | size // 4, tos, size + len(body)),
        *(ident & 0xFFFF, fragment, hops, TCP, 0),
    )
    network += one.packed + other.packed + ip_options
    return with_header_checksum(network) + body


def with_header_checksum(network: bytes) -> bytes:
    """An IPv4 header with its checksum put right."""
    bare = network[:10] + b"\0\0" + network[12:]
    return bare[:10] + struct.pack("!H", packet.checksum(bare)) + bare[12:]


def forwarded(inner: bytes) -> bytes:
    """A packet as a router sends it on."""
    if inner[0] >> 4 == 6:
        return inner[:7] + bytes([inner[7] - 1]) + inner[8:]
    size = (inner[0] & 15) * 4
    network = inner[:8] + bytes([inner[8] - 1]) + inner[9:size]
    return with_header_checksum(network) + inner[size:]


def flow(inner: bytes) -> tuple[str, str, int, bool, bytes]:
    """What packets that may not overtake one another have in common.

    The stack's receive offload lets fragments pass what it holds back.
    """
    parsed = packet.parse(inner)
    fragment = parsed.version == 4 and bool(int.from_bytes(inner[6:8]) & 0x3FFF)
    return parsed.source, parsed.destination, parsed.protocol, fragment, parsed.payload[:4]
