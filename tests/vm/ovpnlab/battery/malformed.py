# SPDX-License-Identifier: GPL-2.0
"""Each command with each attribute missing, doubled, too short or too long."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterator

from ..family import (
    NAME,
    NEST,
    Cipher,
    Command,
    DelKey,
    DelPeer,
    Key,
    NewKey,
    SetPeer,
    Top,
    key_attributes,
)
from ..netlink import (
    CTRL_ATTR_MCAST_GROUPS,
    CTRL_ATTR_OPS,
    NLM_F_DUMP,
    attribute,
    nested,
    parse,
    u8,
    u16,
    u32,
    walk,
)
from .bench import FRESH, STEADY, Bench

FLAG_NESTED, FLAG_BYTE_ORDER = 0x8000, 0x4000
NLM_F_ROOT = 0x100


def new_key(peer_id: int = STEADY, **other: bytes) -> dict[str, bytes]:
    """Good attributes of NEW_KEY; `other` replaces some."""
    return {
        "PEER_ID": u32(NewKey.PEER_ID, peer_id),
        "KEY_SLOT": u8(NewKey.KEY_SLOT, 0),
        "KEY_ID": u8(NewKey.KEY_ID, 1),
        "CIPHER_ALG": u16(NewKey.CIPHER_ALG, Cipher.AES_GCM),
        "ENCRYPT_KEY": key_attributes(NewKey.ENCRYPT_KEY, Key.random()),
        "DECRYPT_KEY": key_attributes(NewKey.DECRYPT_KEY, Key.random()),
    } | other


def good(bench: Bench, command: Command) -> dict[str, bytes]:
    """All attributes of a command, with good values."""
    if command == Command.NEW_PEER:
        return bench.new_peer(IPV6=bytes(15) + b"\6", LOCAL_IP=bytes([192, 0, 2, 1]))
    if command == Command.SET_PEER:
        return {
            "PEER_ID": u32(SetPeer.PEER_ID, STEADY),
            "KEEPALIVE_INTERVAL": u32(SetPeer.KEEPALIVE_INTERVAL, 0),
            "KEEPALIVE_TIMEOUT": u32(SetPeer.KEEPALIVE_TIMEOUT, 0),
        }
    if command == Command.DEL_PEER:  # of nobody: the steady one is to stay
        return {"REASON": u8(DelPeer.REASON, 1), "PEER_ID": u32(DelPeer.PEER_ID, FRESH)}
    if command == Command.NEW_KEY:
        return new_key()
    if command == Command.DEL_KEY:
        return {"PEER_ID": u32(DelKey.PEER_ID, STEADY), "KEY_SLOT": u8(DelKey.KEY_SLOT, 1)}
    return {"PEER_ID": u32(1, STEADY)}


def malformed(bench: Bench) -> None:
    """The requests."""
    family(bench)
    for command in Command:
        top_level(bench, command)
        inside(bench, command)
    for number in (0, 8, 255):
        bench.observe(
            f"malformed/command {number}",
            functools.partial(bench.send, number, u32(Top.IFINDEX, bench.mp)),
        )


def family(bench: Bench) -> None:
    """What the controller says."""
    said = bench.control.socket.family(NAME)
    groups = [parse(group)[1].decode() for _, group in walk(said[CTRL_ATTR_MCAST_GROUPS])]
    commands = sorted(
        struct.unpack("=II", parse(each)[1] + parse(each)[2])
        for _, each in walk(said[CTRL_ATTR_OPS])
    )
    bench.note("malformed/family: groups", str(groups))
    bench.note("malformed/family: commands and flags", str(commands))
    for kind, what in ((3, "version"), (4, "header size"), (5, "highest attribute")):
        bench.note(f"malformed/family: {what}", said[kind].hex())


def top_level(bench: Bench, command: Command) -> None:
    """IFINDEX and the nest, wrong in every way."""
    index = u32(Top.IFINDEX, bench.mp)
    kind = NEST[command]
    inner = b"".join(good(bench, command).values())
    nest = nested(kind, inner)
    other = nested(Top.SWAP_KEYS if command != Command.SWAP_KEYS else Top.DEL_KEY, u32(1, 5))
    long = struct.pack("=HH", 0xF0, kind | FLAG_NESTED) + inner
    requests = {
        "nothing": b"",
        "no ifindex": nest,
        "ifindex of lo": u32(1, 1) + nest,
        "ifindex of nobody": u32(1, 999_999) + nest,
        "ifindex 0": u32(1, 0) + nest,
        "ifindex -1": u32(1, 0xFFFFFFFF) + nest,
        "ifindex of 0 bytes": attribute(1) + nest,
        "ifindex of 1 byte": u8(1, bench.mp) + nest,
        "ifindex of 2 bytes": u16(1, bench.mp) + nest,
        "ifindex of 8 bytes": attribute(1, struct.pack("=Q", bench.mp)) + nest,
        "ifindex twice": index + index + nest,
        "ifindex twice, last good": u32(1, 999_999) + index + nest,
        "ifindex twice, last bad": index + u32(1, 999_999) + nest,
        "ifindex with nested flag": u32(1 | FLAG_NESTED, bench.mp) + nest,
        "ifindex with byte order flag": u32(1 | FLAG_BYTE_ORDER, bench.mp) + nest,
        "ifindex last": nest + index,
        "no nest": index,
        "empty nest": index + nested(kind),
        "nest without flag": index + attribute(kind, inner),
        "nest with byte order flag": index + attribute(kind | FLAG_BYTE_ORDER, inner),
        "nest twice": index + nest + nest,
        "nest twice, last empty": index + nest + nested(kind),
        "nest too long": index + long,
        "nest of rubbish": index + nested(kind, b"\xff\xff\xff\xff"),
        "nest of 3 bytes": index + nested(kind, b"\4\0\1"),
        "wrong nest": index + other,
        "wrong nest too": index + nest + other,
        "unknown attribute 0": index + nest + u32(0, 1),
        "unknown attribute 9": index + nest + u32(9, 1),
        "unknown attribute 100": index + nest + u32(100, 1),
        "trailing bytes": index + nest + b"\1\2",
    }
    for what, request in requests.items():
        bench.observe(
            f"malformed/{command.name}: {what}", functools.partial(bench.send, command, request)
        )
    whole = index + nest
    variants: dict[str, Callable[[], list[str]]] = {
        "version 0": lambda: bench.send(command, whole, version=0),
        "version 2": lambda: bench.send(command, whole, version=2),
        "reserved header": lambda: bench.send(command, whole, reserved=1),
        "flag root": lambda: bench.send(command, whole, NLM_F_ROOT),
    }
    if command != Command.GET_PEER:
        variants["dump"] = lambda: bench.send(command, whole, NLM_F_DUMP)
    for what, action in variants.items():
        bench.observe(f"malformed/{command.name}: {what}", action)


def spoiled(kind: int, payload: bytes) -> Iterator[tuple[str, bytes]]:
    """An attribute in bad shape."""
    one = attribute(kind, payload)
    size = len(payload)
    is_nest = kind & FLAG_NESTED
    yield "missing", b""
    yield "empty", attribute(kind)
    yield "twice", one + one
    yield "twice, last empty", one + attribute(kind)
    yield "byte order flag", attribute(kind | FLAG_BYTE_ORDER, payload)
    if is_nest:
        yield "no nested flag", attribute(kind & ~FLAG_NESTED, payload)
        yield "rubbish", attribute(kind, b"\xff\xff\xff\xff")
    else:
        yield "nested flag", attribute(kind | FLAG_NESTED, payload)
        yield "1 byte less", attribute(kind, payload[:-1])
        yield "1 byte more", attribute(kind, payload + b"\0")
        yield "twice as long", attribute(kind, payload + bytes(size))
        yield "200 bytes", attribute(kind, payload + bytes(200 - size))


def inside(bench: Bench, command: Command) -> None:
    """Each attribute of the nest, wrong in every way."""
    attributes = good(bench, command)
    bench.ask(f"malformed/{command.name}: good", command, *attributes.values())
    bench.ask(f"malformed/{command.name}: good, backwards", command, *reversed(attributes.values()))
    for name, whole in attributes.items():
        length, kind = struct.unpack_from("=HH", whole)
        for what, bad in spoiled(kind, whole[4:length]):
            changed = attributes | {name: bad}
            bench.ask(f"malformed/{command.name}.{name}: {what}", command, *changed.values())
    for number in (0, 7, 99, 0x3FFF):
        more = u32(number, 1)
        bench.ask(
            *(f"malformed/{command.name}: unknown inside {number}", command),
            *(*attributes.values(), more),
        )
