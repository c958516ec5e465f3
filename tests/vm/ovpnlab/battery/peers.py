# SPDX-License-Identifier: GPL-2.0
"""NEW_PEER, SET_PEER, DEL_PEER, GET_PEER: numbers, addresses, times, reasons."""

from __future__ import annotations

import functools
import struct

from ..family import (
    Command,
    DelPeer,
    SetPeer,
    Top,
    sockaddr,
)
from ..netlink import (
    NLM_F_DUMP,
    nested,
    u8,
    u32,
)
from .bench import FRESH, REMOTE, REMOTE6, STEADY, Bench, ip
from .malformed import good

IDS = (0, 1, 0xFFFFFE, 0xFFFFFF, 0x1000000, 0x1000005, 0xFFFFFFFF)


def peers(bench: Bench) -> None:
    """The requests about peers of the multi-peer interface."""
    numbers(bench)
    remotes(bench)
    locals_(bench)
    vpn_addresses(bench)
    duplicates(bench)
    keepalives(bench)
    removals(bench)
    dumps(bench)


def numbers(bench: Bench) -> None:
    """Peer ids at the borders, for each command."""
    for number in IDS:
        for command in Command:
            attributes = good(bench, command)
            kind = struct.unpack_from("=H", attributes["PEER_ID"], 2)[0]
            attributes["PEER_ID"] = u32(kind, number)
            bench.ask(f"peers/{command.name}: peer id {number:#x}", command, *attributes.values())


def remotes(bench: Bench) -> None:
    """What SOCKADDR_REMOTE may hold."""
    payloads = {
        "IPv4": REMOTE,
        "IPv4, port 0": sockaddr("192.0.2.2", 0),
        "IPv4 any": sockaddr("0.0.0.0", 1194),
        "IPv4 broadcast": sockaddr("255.255.255.255", 1194),
        "IPv4 multicast": sockaddr("224.0.0.1", 1194),
        "IPv4 loopback": sockaddr("127.0.0.1", 1194),
        "IPv4, padding not zero": REMOTE[:8] + b"\xee" * 8,
        "IPv6": REMOTE6,
        "IPv6 any": sockaddr("::", 1194),
        "IPv6 multicast": sockaddr("ff02::1", 1194),
        "IPv6 mapped": sockaddr("::ffff:192.0.2.2", 1194),
        "IPv6 mapped any": sockaddr("::ffff:0.0.0.0", 1194),
        "IPv6 compatible": sockaddr("::192.0.2.2", 1194),
        "IPv6 link-local": sockaddr("fe80::2", 1194),
        "IPv6 link-local, scope 1": sockaddr("fe80::2", 1194)[:24] + struct.pack("=I", 1),
        "IPv6, scope 1": REMOTE6[:24] + struct.pack("=I", 1),
        "IPv6, flow label": REMOTE6[:4] + b"\0\1\2\3" + REMOTE6[8:],
        "IPv4 as AF_INET6": b"\x0a\0" + REMOTE[2:],
        "IPv6 as AF_INET": b"\2\0" + REMOTE6[2:],
        "AF_UNIX": b"\1\0" + REMOTE[2:],
        "AF_UNSPEC": b"\0\0" + REMOTE[2:],
        "AF_UNSPEC of 28 bytes": b"\0\0" + REMOTE6[2:],
    }
    for size in (2, 4, 15, 17, 27, 29, 128, 255):
        payloads[f"{size} bytes of IPv4"] = (REMOTE + bytes(255))[:size]
        payloads[f"{size} bytes of IPv6"] = (REMOTE6 + bytes(255))[:size]
    for what, payload in payloads.items():
        bench.ask(
            f"peers/remote: {what}",
            Command.NEW_PEER,
            *bench.new_peer(SOCKADDR_REMOTE=payload).values(),
        )


def locals_(bench: Bench) -> None:
    """What LOCAL_IP may hold, for a remote of each family."""
    remote = {"IPv4": REMOTE, "IPv6": REMOTE6, "mapped": sockaddr("::ffff:192.0.2.2", 1194)}
    payloads = {
        "IPv4": ip("192.0.2.1"),
        "IPv4 any": bytes(4),
        "IPv4 of nobody": ip("203.0.113.1"),
        "IPv6": ip("2001:db8::1"),
        "IPv6 any": bytes(16),
        "IPv6 mapped": ip("::ffff:192.0.2.1"),
        "nothing": b"",
    } | {f"{size} bytes": bytes(size) for size in (1, 3, 5, 8, 15, 17, 28)}
    for family, address in remote.items():
        for what, payload in payloads.items():
            bench.ask(
                f"peers/local of remote {family}: {what}",
                Command.NEW_PEER,
                *bench.new_peer(SOCKADDR_REMOTE=address, LOCAL_IP=payload).values(),
            )


def vpn_addresses(bench: Bench) -> None:
    """What IPV4 and IPV6 may hold."""
    for what, ipv4, ipv6 in (
        ("none", None, None),
        ("IPv4", "10.8.0.6", None),
        ("IPv6", None, "fd00:8::6"),
        ("both", "10.8.0.6", "fd00:8::6"),
        ("IPv4 any", "0.0.0.0", None),
        ("IPv6 any", None, "::"),
        ("both any", "0.0.0.0", "::"),
        ("IPv4 broadcast", "255.255.255.255", None),
        ("IPv6 mapped", None, "::ffff:10.8.0.6"),
        ("IPv6 multicast", None, "ff02::1"),
        ("IPv4 of the steady peer", "10.8.0.5", None),
    ):
        attributes = bench.new_peer(
            IPV4=None if ipv4 is None else ip(ipv4), IPV6=None if ipv6 is None else ip(ipv6)
        )
        bench.ask(f"peers/vpn: {what}", Command.NEW_PEER, *attributes.values())


def duplicates(bench: Bench) -> None:
    """A peer id that is in use, with everything else the same and not."""
    for what, attributes in (
        ("the same", bench.new_peer(STEADY, IPV4=ip("10.8.0.5"))),
        ("another VPN address", bench.new_peer(STEADY, IPV4=ip("10.8.0.99"))),
        ("another remote", bench.new_peer(STEADY, SOCKADDR_REMOTE=REMOTE6)),
        ("no VPN address", bench.new_peer(STEADY, IPV4=None)),
        ("no remote", bench.new_peer(STEADY, SOCKADDR_REMOTE=None)),
        ("a bad descriptor", bench.new_peer(STEADY, SOCKET=b"\xff\xff\xff\x7f")),
    ):
        bench.ask(f"peers/duplicate: {what}", Command.NEW_PEER, *attributes.values())


def keepalives(bench: Bench) -> None:
    """Both values, one of them, none, great ones. Interface and peer stay quiet all the time."""
    bench.prepare(lambda: bench.control.set_peer(bench.mp, STEADY, 100, 600))
    hour = 3600
    for interval, timeout in (
        *((None, None), (7, None), (None, 7), (0, None), (None, 0)),
        *((hour, 2 * hour), (2 * hour, hour), (hour, 0), (0, hour), (0, 0)),
        *((0x7FFFFFFF, 0x7FFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF)),
    ):
        for peer_id in (STEADY, FRESH):
            attributes = [u32(SetPeer.PEER_ID, peer_id)]
            if interval is not None:
                attributes.append(u32(SetPeer.KEEPALIVE_INTERVAL, interval))
            if timeout is not None:
                attributes.append(u32(SetPeer.KEEPALIVE_TIMEOUT, timeout))
            what = f"peers/keepalive of {peer_id}: {interval}, {timeout}"
            bench.ask(what, Command.SET_PEER, *attributes)
    bench.prepare(lambda: bench.control.set_peer(bench.mp, STEADY, 0, 0))


def removals(bench: Bench) -> None:
    """DEL_PEER with each reason, twice, and NEW_PEER after it."""
    for reason in (None, *range(7), 255):
        bench.prepare(lambda: bench.request(Command.NEW_PEER, bench.mp, *bench.new_peer().values()))
        attributes = [u32(DelPeer.PEER_ID, FRESH)]
        if reason is not None:
            attributes.append(u8(DelPeer.REASON, reason))
        for time in ("once", "twice"):
            bench.ask(f"peers/removal, reason {reason}: {time}", Command.DEL_PEER, *attributes)
        if reason is not None and reason > 4:
            bench.ask(
                f"peers/removal, reason {reason}: properly",
                *(Command.DEL_PEER, u32(DelPeer.PEER_ID, FRESH)),
            )


def dumps(bench: Bench) -> None:
    """GET_PEER for one and for all."""
    for what, attributes, flags in (
        ("one", u32(1, bench.mp) + nested(Top.GET_PEER, u32(1, STEADY)), 0),
        ("one that is not there", u32(1, bench.mp) + nested(Top.GET_PEER, u32(1, FRESH)), 0),
        ("all", u32(1, bench.mp), NLM_F_DUMP),
        ("all, with a nest", u32(1, bench.mp) + nested(Top.GET_PEER, u32(1, FRESH)), NLM_F_DUMP),
        ("all, with an empty nest", u32(1, bench.mp) + nested(Top.GET_PEER), NLM_F_DUMP),
        ("all of nothing", b"", NLM_F_DUMP),
        ("all of lo", u32(1, 1), NLM_F_DUMP),
        ("all of nobody", u32(1, 999_999), NLM_F_DUMP),
        ("all, unknown attribute", u32(1, bench.mp) + u32(9, 1), NLM_F_DUMP),
        ("all, short ifindex", u8(1, bench.mp), NLM_F_DUMP),
        ("all, trailing bytes", u32(1, bench.mp) + b"\1\2", NLM_F_DUMP),
    ):
        bench.observe(
            f"peers/get: {what}",
            functools.partial(bench.send, Command.GET_PEER, attributes, flags),
        )
