# SPDX-License-Identifier: GPL-2.0
"""IP packets, made and read byte by byte."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

ICMP = 1
ICMPV6 = 58
UDP = 17


def checksum(data: bytes) -> int:
    """The Internet checksum."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    """An IPv4 or IPv6 packet, by the addresses."""
    one, other = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    if one.version == 6:
        head = struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64)
        return head + one.packed + other.packed + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0)
    head += one.packed + other.packed
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def echo_request(source: str, destination: str, sequence: int = 1, data: bytes = b"") -> bytes:
    """An ICMP or ICMPv6 echo request."""
    kind = 128 if ":" in source else 8
    body = struct.pack("!BBHHH", kind, 0, 0, 0x4F56, sequence) + data
    if ":" in source:
        one, other = ipaddress.ip_address(source), ipaddress.ip_address(destination)
        pseudo = one.packed + other.packed + struct.pack("!II", len(body), ICMPV6)
        check = checksum(pseudo + body)
        protocol = ICMPV6
    else:
        check = checksum(body)
        protocol = ICMP
    body = body[:2] + struct.pack("!H", check) + body[4:]
    return ip(source, destination, protocol, body)


def udp(source: tuple[str, int], destination: tuple[str, int], data: bytes) -> bytes:
    """A UDP datagram over IPv4, without a checksum."""
    head = struct.pack("!HHHH", source[1], destination[1], 8 + len(data), 0)
    return ip(source[0], destination[0], UDP, head + data)


@dataclass(frozen=True)
class Parsed:
    """What a test asks of an IP packet."""

    version: int
    source: str
    destination: str
    protocol: int
    payload: bytes

    @property
    def is_multicast(self) -> bool:
        """For a group: what the kernel says of its own accord (MLD, router solicitations)."""
        return ipaddress.ip_address(self.destination).is_multicast

    @property
    def is_echo_reply(self) -> bool:
        """An ICMP or ICMPv6 echo reply."""
        wanted = (ICMPV6, 129) if self.version == 6 else (ICMP, 0)
        return (self.protocol, self.payload[0]) == wanted

    @property
    def echo_sequence(self) -> int:
        """The sequence number of an echo request or reply."""
        return int.from_bytes(self.payload[6:8])


def parse(packet: bytes) -> Parsed:
    """Take an IP packet apart (extension headers stay in the payload)."""
    version = packet[0] >> 4
    if version == 4:
        addresses, protocol, head = (packet[12:16], packet[16:20]), packet[9], (packet[0] & 15) * 4
    elif version == 6:
        addresses, protocol, head = (packet[8:24], packet[24:40]), packet[6], 40
    else:
        raise ValueError(f"not an IP packet: {packet.hex()}")
    source, destination = (str(ipaddress.ip_address(address)) for address in addresses)
    return Parsed(version, source, destination, protocol, packet[head:])
