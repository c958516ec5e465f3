# SPDX-License-Identifier: GPL-2.0
"""Inner packets that go through each branch of what opens and joins them."""

from __future__ import annotations

import random

from . import packet, train

SOURCE = {4: "10.8.0.2", 6: "fd00:8::2"}
TARGET = {4: "198.18.0.77", 6: "2001:db8:18::77"}


class Stream:
    """Makes the segments of one TCP flow, in order."""

    def __init__(self, version: int, port: int, seq: int = 1, ident: int = 1) -> None:
        self.source = (SOURCE[version], port)
        self.target = (TARGET[version], 80)
        self.seq, self.ident = seq, ident

    def segment(self, size: int, *, skip: int = 0, step: int = 1, **more: object) -> bytes:
        """The next segment; `skip` bytes are missing before it."""
        self.seq += skip
        payload = bytes((self.seq + n) * 7 & 0xFF for n in range(size))
        given: dict[str, object] = {"ident": self.ident} | more
        made = train.tcp(self.source, self.target, self.seq, payload, **given)  # type: ignore[arg-type]
        self.seq += size
        self.ident += step
        return made


NOPS = b"\1" * 12
STAMP = b"\1\1\x08\x0a" + bytes(8)


def plain(version: int, count: int, size: int, **more: object) -> list[bytes]:
    stream = Stream(version, 1000)
    return [stream.segment(size, **more) for _ in range(count)]  # type: ignore[arg-type]


def _one_other(version: int, **other: object) -> list[list[bytes]]:
    """Trains in which one packet differs: the first, one in the middle, the last."""
    trains = []
    for place in (0, 1, 4, 8):
        stream = Stream(version, 1000 + place)
        trains.append([stream.segment(200, **other if n == place else {}) for n in range(9)])  # type: ignore[arg-type]
    return trains


def _two(version: int, turns: str) -> list[bytes]:
    """Segments of two flows."""
    streams = {"a": Stream(version, 1001), "b": Stream(version, 1002)}
    return [streams[turn].segment(300) for turn in turns]


def _headers_vary(version: int) -> list[bytes]:
    """The same size, with options of TCP that come and go."""
    stream = Stream(version, 1000)
    made = []
    for options in (b"", b"", STAMP, STAMP, NOPS, NOPS, b"", STAMP, b"", NOPS, NOPS, NOPS):
        made.append(stream.segment(500 - len(options), options=options))
    return made


def _wraps(version: int) -> list[bytes]:
    stream = Stream(version, 1000, seq=0xFFFFFFFF - 700, ident=0xFFFE)
    return [stream.segment(400) for _ in range(8)]


def _short_last(version: int) -> list[bytes]:
    stream = Stream(version, 1000)
    return [stream.segment(700) for _ in range(9)] + [stream.segment(33)]


def _extended(version: int) -> list[bytes]:
    """Options of IPv4, an extension header of IPv6: nothing that is joined."""
    more = {4: b"\1" * 4, 6: bytes([6, 0, 1, 4, 0, 0, 0, 0])}[version]
    return plain(version, 6, 300, ip_options=more)


def _udp_and_acks() -> list[list[bytes]]:
    """What never is joined: short and long, alone and behind what is."""
    target = (TARGET[4], 99)
    long = [packet.udp(("10.8.0.2", 5), target, bytes([n]) * 1000) for n in range(12)]
    stream = Stream(4, 1000)
    mixed = []
    for n in range(12):
        mixed.append(stream.segment(988) if n % 3 else long[n])
    return [long, mixed, plain(4, 12, 0), [stream.segment(988) for _ in range(2)] + long[:1]]


def shapes(version: int) -> dict[str, list[list[bytes]]]:
    """Trains of inner packets that go through each branch of what opens and joins them."""
    shapes = {
        "in order": [plain(version, 20, 1000)],
        "backwards": [plain(version, 10, 300)[::-1]],
        "twice": [[each for each in plain(version, 6, 300) for _ in range(2)]],
        "two flows": [_two(version, "abababab"), _two(version, "aaabbbaab")],
        "options vary": [_headers_vary(version)],
        "all with options": [plain(version, 12, 300, options=STAMP)],
        "most options": [plain(version, 12, 300, options=b"\1" * 40)],
        "1 byte": [plain(version, 100, 1), plain(version, 128, 1, options=STAMP)],
        "7 bytes": [plain(version, 60, 7)],
        "64 KiB": [plain(version, 43, 1380), plain(version, 60, 1000)],
        "numbers wrap": [_wraps(version)],
        "short last": [_short_last(version)],
        "extended": [_extended(version)],
        "gap": _one_other(version, skip=10),
        "step back": _one_other(version, skip=-200),
        "window": _one_other(version, window=9),
        "acknowledgement": _one_other(version, ack=77),
        "class": _one_other(version, tos=3),
        "hops": _one_other(version, hops=9),
        "all pushed": [plain(version, 5, 200, flags=train.ACK | train.PSH)],
        "all with ECE": [plain(version, 5, 200, flags=train.ACK | train.ECE)],
    }
    for name in ("FIN", "SYN", "RST", "PSH", "URG", "ECE", "CWR"):
        shapes[name] = _one_other(version, flags=train.ACK | getattr(train, name))
    if version == 4:
        shapes |= {
            "one id": [plain(4, 9, 300, step=0), plain(4, 9, 300, step=0, fragment=0)],
            "ids by 2": [plain(4, 9, 300, step=2)],
            "an id stays": _one_other(4, step=0),
            "fragments": _one_other(4, fragment=train.MF) + _one_other(4, fragment=5),
            "may be fragmented": _one_other(4, fragment=0),
            "no TCP": _udp_and_acks(),
        }
    return shapes


def random_inner(chance: random.Random, streams: list[Stream], size: int) -> bytes:
    options = chance.choice((b"", b"", b"", STAMP))
    more: dict[str, object] = {"options": options}
    if chance.random() < 0.1:
        more["flags"] = train.ACK | chance.choice((train.PSH, train.CWR, train.ECE, train.FIN))
    if chance.random() < 0.05:
        more["skip"] = chance.choice((-size, 1, 5000))
    if chance.random() < 0.05:
        more["window"] = chance.randrange(65536)
    return chance.choice(streams).segment(max(size - len(options), 1), **more)  # type: ignore[arg-type]
