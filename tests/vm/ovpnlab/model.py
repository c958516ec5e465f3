# SPDX-License-Identifier: GPL-2.0
"""What the peers of a multi-peer interface ought to be, by the requests that were accepted."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass, field

from .family import (
    NEST,
    Cipher,
    Command,
    DelKey,
    DelPeer,
    Key,
    KeyDirection,
    KeyPair,
    NewKey,
    NewPeer,
    Peer,
    SetPeer,
    Top,
    parse_sockaddr,
)
from .netlink import walk

Attributes = dict[int, bytes]


@dataclass
class Entry:
    """A peer: what GET_PEER tells, and the keys, which nobody tells."""

    remote: tuple[str, int]
    ipv4: str | None
    ipv6: str | None
    local_ip: str | None
    keepalive: tuple[int, int] = (0, 0)
    slots: list[KeyPair | None] = field(default_factory=lambda: [None, None])
    gone: list[KeyPair] = field(default_factory=list)

    def tells(self) -> tuple[object, ...]:
        """What is to be seen of it."""
        return self.remote, self.ipv4, self.ipv6, self.local_ip, self.keepalive

    def put(self, slot: int, key: KeyPair | None) -> None:
        """A key comes in place of another."""
        old = self.slots[slot]
        if old is not None:
            self.gone = [*self.gone[-3:], old]
        self.slots[slot] = key


def seen(peer: Peer) -> tuple[object, ...]:
    """What is to be seen of a peer in a dump, as of an entry."""
    keepalive = (peer.keepalive_interval, peer.keepalive_timeout)
    # Where there is none yet, a dump has all zero.
    local_ip = None if peer.local_ip in ("0.0.0.0", "::") else peer.local_ip
    return peer.remote, peer.ipv4, peer.ipv6, local_ip, keepalive


def _last(data: bytes) -> Attributes:
    """The attributes by type; of several the last one counts."""
    return dict(walk(data))


def _number(data: bytes, size: int) -> int:
    if len(data) != size:
        raise ValueError(f"{len(data)} bytes where {size} belong")
    return int.from_bytes(data, "little")


def _address(data: bytes | None) -> str | None:
    if data is None:
        return None
    parsed = ipaddress.ip_address(data)
    return None if parsed.is_unspecified else str(parsed)


def _key(data: bytes) -> Key:
    nest = _last(data)
    return Key(nest[KeyDirection.CIPHER_KEY], nest[KeyDirection.NONCE_TAIL])


class Model:
    """The peers by their ids."""

    def __init__(self) -> None:
        self.peers: dict[int, Entry] = {}

    def apply(self, command: int, request: bytes) -> None:
        """A request was accepted. `KeyError`, `ValueError` if it should not have been."""
        top = _last(request)
        _number(top[Top.IFINDEX], 4)
        nest = _last(top[NEST[Command(command)]])
        kind = DelPeer.PEER_ID if command == Command.DEL_PEER else 1
        peer_id = _number(nest[kind], 4)
        if command == Command.NEW_PEER:
            if peer_id in self.peers:
                raise ValueError(f"there is a peer {peer_id} already")
            self.peers[peer_id] = self._entry(nest)
            return
        entry = self.peers[peer_id]
        if command == Command.SET_PEER:
            given = [nest.get(SetPeer.KEEPALIVE_INTERVAL), nest.get(SetPeer.KEEPALIVE_TIMEOUT)]
            if given[0] is not None and given[1] is not None:
                entry.keepalive = _number(given[0], 4), _number(given[1], 4)
        elif command == Command.DEL_PEER:
            del self.peers[peer_id]
        elif command == Command.NEW_KEY:
            pair = KeyPair(
                _key(nest[NewKey.ENCRYPT_KEY]),
                _key(nest[NewKey.DECRYPT_KEY]),
                _number(nest[NewKey.KEY_ID], 1),
                Cipher(_number(nest[NewKey.CIPHER_ALG], 2)),
            )
            entry.put(_number(nest[NewKey.KEY_SLOT], 1), pair)
        elif command == Command.SWAP_KEYS:
            entry.slots.reverse()
        elif command == Command.DEL_KEY:
            entry.put(_number(nest[DelKey.KEY_SLOT], 1), None)

    def _entry(self, nest: Attributes) -> Entry:
        _number(nest[NewPeer.SOCKET], 4)
        if NewPeer.IPV4 not in nest and NewPeer.IPV6 not in nest:
            raise ValueError("a peer without a VPN address")
        remote = nest[NewPeer.SOCKADDR_REMOTE]
        (family,) = struct.unpack_from("=H", remote)
        return Entry(
            parse_sockaddr(remote[: 16 if family == 2 else 28]),
            _address(nest.get(NewPeer.IPV4)),
            _address(nest.get(NewPeer.IPV6)),
            _address(nest.get(NewPeer.LOCAL_IP)),
        )
