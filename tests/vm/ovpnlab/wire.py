# SPDX-License-Identifier: GPL-2.0
"""OpenVPN data channel endpoints in user space: they seal, open, and may misbehave."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass

from . import aead, packet
from .family import Cipher, Key, KeyPair
from .interface import Interface
from .namespace import Namespace

DATA_V2 = 9
OVERHEAD = 24
KEEPALIVE = bytes.fromhex("2a187bf3641eb4cb07ed2d0a981fc748")
EXIT_NOTIFICATION = bytes.fromhex("287f346bd4ef7a812d56b8d3afc5459c06")


@dataclass(frozen=True)
class Data:
    """A DATA_V2 packet that was received."""

    key_id: int
    peer_id: int
    packet_id: int
    inner: bytes
    source: tuple[str, int]

    @property
    def is_keepalive(self) -> bool:
        """The keepalive message."""
        return self.inner == KEEPALIVE

    @property
    def ip(self) -> packet.Parsed:
        """The inner packet, taken apart."""
        return packet.parse(self.inner)


def seal(
    key: Key, cipher: Cipher, key_id: int, peer_id: int, packet_id: int, inner: bytes
) -> bytes:
    """A DATA_V2 packet."""
    head = struct.pack("!II", DATA_V2 << 27 | key_id << 24 | peer_id, packet_id)
    nonce = head[4:] + key.nonce_tail
    chacha = cipher == Cipher.CHACHA20_POLY1305
    sealed, tag = aead.seal(key.cipher_key, nonce, head, inner, chacha)
    return head + tag + sealed


def open_(key: Key, cipher: Cipher, datagram: bytes) -> bytes:
    """The inner packet of a DATA_V2 packet; `aead.TagMismatch` if it is not authentic."""
    head, tag, sealed = datagram[:8], datagram[8:24], datagram[24:]
    nonce = head[4:] + key.nonce_tail
    chacha = cipher == Cipher.CHACHA20_POLY1305
    return aead.open_(key.cipher_key, nonce, head, sealed, tag, chacha)


class Channel(ABC):
    """Speaks the data channel of one peer with the keys it is given, over any transport."""

    def __init__(self, peer_id: int, *keys: KeyPair) -> None:
        self.peer_id = peer_id
        self.keys = {pair.key_id: pair for pair in keys}
        self.packet_ids = dict.fromkeys(self.keys, 0)

    @abstractmethod
    def send_raw(self, datagram: bytes) -> bytes:
        """Send a packet as it is; returns it."""

    @abstractmethod
    def receive_raw(self, timeout: float = 5) -> tuple[bytes, tuple[str, int]]:
        """The next packet and its sender; `TimeoutError` if none comes."""

    def add_key(self, pair: KeyPair) -> None:
        """Use another key too; its packet ids start from 1."""
        self.keys[pair.key_id] = pair
        self.packet_ids[pair.key_id] = 0

    def seal(
        self,
        inner: bytes,
        key_id: int | None = None,
        packet_id: int | None = None,
        peer_id: int | None = None,
    ) -> bytes:
        """A DATA_V2 packet; what is not given is what an honest sender would take."""
        if key_id is None:
            key_id = next(iter(self.keys))
        if packet_id is None:
            self.packet_ids[key_id] += 1
            packet_id = self.packet_ids[key_id]
        pair = self.keys[key_id]
        chosen = self.peer_id if peer_id is None else peer_id
        return seal(pair.encrypt, pair.cipher, key_id, chosen, packet_id, inner)

    def send(
        self,
        inner: bytes,
        key_id: int | None = None,
        packet_id: int | None = None,
        peer_id: int | None = None,
    ) -> bytes:
        """Seal and send; returns the datagram."""
        return self.send_raw(self.seal(inner, key_id, packet_id, peer_id))

    def receive(self, timeout: float = 5) -> Data:
        """The next DATA_V2 packet, opened; another datagram is an error."""
        return self.open(*self.receive_raw(timeout))

    def open(self, datagram: bytes, source: tuple[str, int] = ("", 0)) -> Data:
        """Open a DATA_V2 packet that came from `source`."""
        first, packet_id = struct.unpack_from("!II", datagram)
        if first >> 27 != DATA_V2:
            raise ValueError(f"not DATA_V2: {datagram[:32].hex()}")
        key_id, peer_id = first >> 24 & 7, first & 0xFFFFFF
        pair = self.keys[key_id]
        inner = open_(pair.decrypt, pair.cipher, datagram)
        return Data(key_id, peer_id, packet_id, inner, source)

    def receive_ip(self, timeout: float = 5, protocol: int | None = None) -> Data:
        """The next packet with IP inside (of this protocol); others are passed over.

        So are packets to multicast groups: an IPv6 interface sends them of its own accord.
        """
        deadline = time.monotonic() + timeout
        while True:
            data = self.receive(max(deadline - time.monotonic(), 0.001))
            if data.is_keepalive or data.ip.is_multicast:
                continue
            if protocol is None or data.ip.protocol == protocol:
                return data

    def echo(
        self,
        source: str,
        destination: str,
        sequence: int = 1,
        timeout: float = 5,
        key_id: int | None = None,
        packet_id: int | None = None,
        peer_id: int | None = None,
    ) -> Data:
        """Send an echo request and return its reply; `TimeoutError` if none comes."""
        request = packet.echo_request(source, destination, sequence)
        self.send(request, key_id, packet_id, peer_id)
        return self.receive_reply(sequence, timeout)

    def receive_reply(self, sequence: int, timeout: float = 5) -> Data:
        """The echo reply with that sequence number; other packets are passed over."""
        deadline = time.monotonic() + timeout
        while True:
            data = self.receive(max(deadline - time.monotonic(), 0.001))
            if data.is_keepalive:
                continue
            if data.ip.is_echo_reply and data.ip.echo_sequence == sequence:
                return data

    def is_silent(self, seconds: float = 0.5) -> bool:
        """Whether no IP packet comes for so long."""
        try:
            self.receive_ip(seconds)
        except TimeoutError:
            return True
        return False


class Endpoint(Channel):
    """A UDP socket that speaks the data channel of one peer."""

    def __init__(
        self,
        namespace: Namespace,
        address: str,
        remote: tuple[str, int],
        peer_id: int,
        *keys: KeyPair,
        port: int = 0,
    ) -> None:
        super().__init__(peer_id, *keys)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = namespace.socket(family, socket.SOCK_DGRAM)
        self.socket.bind((address, port))
        self.address: tuple[str, int] = self.socket.getsockname()[:2]
        self.remote = remote

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def send_raw(self, datagram: bytes) -> bytes:
        """Send a datagram as it is; returns it."""
        self.socket.sendto(datagram, self.remote)
        return datagram

    def receive_raw(self, timeout: float = 5) -> tuple[bytes, tuple[str, int]]:
        """The next datagram and its sender; `TimeoutError` if none comes."""
        self.socket.settimeout(timeout)
        datagram, source = self.socket.recvfrom(65536)
        return datagram, source[:2]

    def is_reached(self, end: Interface, destination: str) -> bool:
        """Send a datagram from an interface; whether it comes to this endpoint."""
        data = b"are you there?"
        end.say(destination, data)
        with contextlib.suppress(TimeoutError):
            return self.receive_ip(2, packet.UDP).ip.payload[8:] == data
        return False
