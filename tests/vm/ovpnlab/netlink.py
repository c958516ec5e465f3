# SPDX-License-Identifier: GPL-2.0
"""Netlink: attributes, messages and sockets.

Attributes are built byte by byte by the caller's order, so that a request may be
as wrong as a test wants it to be.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import ClassVar, Self

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 0x001
NLM_F_MULTI = 0x002
NLM_F_ACK = 0x004
NLM_F_DUMP_INTR = 0x010
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200
NLM_F_DUMP = 0x300
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400

NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF

NETLINK_ROUTE = 0
NETLINK_GENERIC = 16
SOL_NETLINK = 270
NETLINK_ADD_MEMBERSHIP = 1
NETLINK_EXT_ACK = 11

GENL_ID_CTRL = 16
CTRL_CMD_GETFAMILY = 3
CTRL_ATTR_FAMILY_ID = 1
CTRL_ATTR_FAMILY_NAME = 2
CTRL_ATTR_VERSION = 3
CTRL_ATTR_OPS = 6
CTRL_ATTR_MCAST_GROUPS = 7

_HEADER = struct.Struct("=IHHII")
_GENERIC_HEADER = struct.Struct("=BBH")


# -- attributes ---------------------------------------------------------------------------


def attribute(kind: int, payload: bytes = b"") -> bytes:
    """One attribute, padded to 4 bytes."""
    length = 4 + len(payload)
    return struct.pack("=HH", length, kind) + payload + bytes(-length % 4)


def u8(kind: int, value: int) -> bytes:
    """An attribute of 1 byte."""
    return attribute(kind, struct.pack("=B", value))


def u16(kind: int, value: int) -> bytes:
    """An attribute of 2 bytes."""
    return attribute(kind, struct.pack("=H", value))


def u32(kind: int, value: int) -> bytes:
    """An attribute of 4 bytes."""
    return attribute(kind, struct.pack("=I", value))


def text(kind: int, value: str) -> bytes:
    """An attribute that holds a string and its final NUL."""
    return attribute(kind, value.encode() + b"\0")


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def walk(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes in `data`: type without flags, and payload."""
    position = 0
    while position + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, position)
        if length < 4 or position + length > len(data):
            raise ValueError(f"malformed attribute at {position} of {data.hex()}")
        yield kind & NLA_TYPE_MASK, data[position + 4 : position + length]
        position += length + (-length % 4)


def parse(data: bytes) -> dict[int, bytes]:
    """The attributes in `data` by type; one that stands there twice is an error."""
    found: dict[int, bytes] = {}
    for kind, payload in walk(data):
        if kind in found:
            raise ValueError(f"attribute {kind} stands twice in {data.hex()}")
        found[kind] = payload
    return found


# -- messages -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Message:
    """One netlink message, without its header."""

    kind: int
    flags: int
    sequence: int
    payload: bytes = field(repr=False)


def message(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    """A message as it is sent, padded to 4 bytes."""
    length = _HEADER.size + len(payload)
    return _HEADER.pack(length, kind, flags, sequence, 0) + payload + bytes(-length % 4)


class NetlinkError(OSError):
    """The kernel refused a request: `errno`, and the extack `message` ("" if there is none)."""

    def __init__(self, errno: int, message: str) -> None:
        super().__init__(errno, os.strerror(errno), message or "(no message)")
        self.message = message


def _messages(data: bytes) -> Iterator[Message]:
    position = 0
    while position + _HEADER.size <= len(data):
        length, kind, flags, sequence, _port = _HEADER.unpack_from(data, position)
        yield Message(kind, flags, sequence, data[position + _HEADER.size : position + length])
        position += length + (-length % 4)


def outcome(message: Message) -> None:
    """Raise what an NLMSG_ERROR or NLMSG_DONE says; return if it says success."""
    error = struct.unpack_from("=i", message.payload)[0] if len(message.payload) >= 4 else 0
    if error == 0:
        return
    said = ""
    if message.flags & NLM_F_ACK_TLVS:
        start = 4
        if message.kind == NLMSG_ERROR:
            request_length = struct.unpack_from("=I", message.payload, 4)[0]
            start += _HEADER.size
            if not message.flags & NLM_F_CAPPED:
                start += (request_length - _HEADER.size + 3) & ~3
        for kind, payload in walk(message.payload[start:]):
            if kind == 1:  # NLMSGERR_ATTR_MSG
                said = payload.rstrip(b"\0").decode(errors="replace")
    raise NetlinkError(-error, said)


# -- sockets ------------------------------------------------------------------------------


class NetlinkSocket:
    """A netlink socket of the namespace that the thread is in."""

    # What goes on around each message on its way into the kernel; see `faults`.
    within: ClassVar[AbstractContextManager[object]] = nullcontext()

    def __init__(self, protocol: int, timeout: float = 10) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        self.socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        self.socket.bind((0, 0))
        self.timeout = timeout
        self._sequence = int(time.time()) & 0xFFFFFF

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def send(self, kind: int, flags: int, payload: bytes) -> int:
        """Send one message; returns its sequence number."""
        self._sequence += 1
        request = message(kind, flags, self._sequence, payload)
        with NetlinkSocket.within:
            self.socket.send(request)
        return self._sequence

    def receive(self, timeout: float | None = None) -> list[Message]:
        """The messages of the next datagram; `TimeoutError` if none comes."""
        self.socket.settimeout(self.timeout if timeout is None else timeout)
        return list(_messages(self.socket.recv(1 << 18)))

    def request(self, kind: int, payload: bytes, flags: int = 0) -> list[Message]:
        """Send a request and return the replies to it; `NetlinkError` if it is refused."""
        sequence = self.send(kind, NLM_F_REQUEST | NLM_F_ACK | flags, payload)
        replies: list[Message] = []
        while True:
            for message in self.receive():
                if message.sequence != sequence:
                    continue
                if message.kind in (NLMSG_ERROR, NLMSG_DONE):
                    outcome(message)
                    return replies
                replies.append(message)


class RouteSocket(NetlinkSocket):
    """An rtnetlink socket."""

    def __init__(self) -> None:
        super().__init__(NETLINK_ROUTE)


class GenericSocket(NetlinkSocket):
    """A generic netlink socket."""

    def __init__(self) -> None:
        super().__init__(NETLINK_GENERIC)

    def command(
        self, family: int, command: int, attributes: bytes, flags: int = 0, version: int = 1
    ) -> list[Message]:
        """Send a command to a family; the replies come without the generic header."""
        header = _GENERIC_HEADER.pack(command, version, 0)
        return [
            Message(reply.kind, reply.flags, reply.sequence, reply.payload[4:])
            for reply in self.request(family, header + attributes, flags)
        ]

    def family(self, name: str) -> dict[int, bytes]:
        """What the controller says of a family (this loads its module by its alias)."""
        name_attribute = text(CTRL_ATTR_FAMILY_NAME, name)
        (reply,) = self.command(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, name_attribute)
        return parse(reply.payload)

    def join(self, group: int) -> None:
        """Listen to a multicast group."""
        self.socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)

    def heard(self, timeout: float = 5) -> list[tuple[int, bytes]]:
        """The next multicast messages: command and attributes."""
        return [
            (message.payload[0], message.payload[4:])
            for message in self.receive(timeout)
            if message.kind >= GENL_ID_CTRL
        ]
