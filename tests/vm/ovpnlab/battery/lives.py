# SPDX-License-Identifier: GPL-2.0
"""How one peer follows another: P2P replacement, and what is left of an expired one."""

from __future__ import annotations

import functools
import socket
import struct
from collections.abc import Callable

from ..family import (
    Command,
    DelKey,
    DelPeer,
    KeyPair,
    NewKey,
    SetPeer,
    Top,
    sockaddr,
)
from ..netlink import (
    NLM_F_DUMP,
    nested,
    u8,
    u16,
    u32,
)
from .bench import FRESH, Bench, ip
from .malformed import new_key


def p2p(bench: Bench) -> None:
    """The one peer of a P2P interface: what it needs, and how another one replaces it.

    Each has a socket of its own: the C module frees one a moment after it told.
    """
    bench.watch_p2p(1, 2)

    def new(name: str, peer_id: int, removes: int = 0, **other: bytes | None) -> None:
        sock = bench.socket(socket.AF_INET, socket.SOCK_DGRAM, bind="")
        given = {"IPV4": None, "SOCKET": struct.pack("=I", sock.fileno())} | other
        attributes = bench.new_peer(peer_id, **given)
        bench.ask(name, Command.NEW_PEER, *attributes.values(), index=bench.p2p, removes=removes)

    for what, other in (
        ("no VPN address", {}),
        ("a VPN address", {"IPV4": ip("10.9.0.2")}),
        ("no remote", {"SOCKADDR_REMOTE": None}),
        ("no socket", {"SOCKET": None}),
        ("no peer id", {"PEER_ID": None}),
        ("the socket of the other interface", {"SOCKET": struct.pack("=I", bench.udp.fileno())}),
        ("a bad descriptor", {"SOCKET": b"\xff\xff\xff\x7f"}),
    ):
        new(f"p2p/new: {what}", 1, **other)

    def settle(peer_id: int) -> None:
        sock = bench.socket(socket.AF_INET, socket.SOCK_DGRAM, bind="")
        bench.control.new_peer(bench.p2p, peer_id, sock, ("192.0.2.2", 1194))
        bench.control.new_key(bench.p2p, peer_id, KeyPair.random())

    bench.prepare(lambda: settle(1))
    new("p2p/replaced: with nothing", 2, SOCKADDR_REMOTE=None)
    new("p2p/replaced: the same id, badly", 1, SOCKADDR_REMOTE=None)
    new("p2p/replaced: the same id", 1, removes=1, SOCKADDR_REMOTE=sockaddr("192.0.2.7", 7))
    for peer_id in (1, 2):
        for name, action in requests_about(bench, bench.p2p, peer_id).items():
            bench.observe(f"p2p/{name} of {peer_id}", action)
    for what, flags in (("one", 0), ("all", NLM_F_DUMP)):
        nest = nested(Top.GET_PEER, u32(1, 1)) if not flags else b""
        bench.observe(
            f"p2p/get: {what}",
            functools.partial(
                bench.send, Command.GET_PEER, u32(Top.IFINDEX, bench.p2p) + nest, flags
            ),
        )
    # This one is removed again by the bench: it adds 2.
    new("p2p/replaced: another id", 2)
    bench.prepare(lambda: settle(1))
    bench.ask("p2p/removed: 2", Command.DEL_PEER, u32(DelPeer.PEER_ID, 2), index=bench.p2p)
    bench.ask("p2p/removed: 1", Command.DEL_PEER, u32(DelPeer.PEER_ID, 1), index=bench.p2p)
    bench.ask("p2p/removed: 1 again", Command.DEL_PEER, u32(DelPeer.PEER_ID, 1), index=bench.p2p)
    bench.watch_p2p()


def requests_about(bench: Bench, index: int, peer_id: int) -> dict[str, Callable[[], list[str]]]:
    """What a daemon asks about a peer that it believes to be there, and two bad requests."""
    key = new_key(peer_id)
    bad = new_key(peer_id, KEY_ID=u8(NewKey.KEY_ID, 255), CIPHER_ALG=u16(NewKey.CIPHER_ALG, 3))
    slot = u32(DelKey.PEER_ID, peer_id) + u8(DelKey.KEY_SLOT, 0)
    times = u32(SetPeer.KEEPALIVE_INTERVAL, 0) + u32(SetPeer.KEEPALIVE_TIMEOUT, 0)
    whom = u32(1, peer_id)
    requests: dict[str, tuple[Command, bytes]] = {
        "key": (Command.NEW_KEY, b"".join(key.values())),
        "bad key": (Command.NEW_KEY, b"".join(bad.values())),
        "half a key": (Command.NEW_KEY, whom),
        "swap": (Command.SWAP_KEYS, whom),
        "key deleted": (Command.DEL_KEY, slot),
        "keepalive": (Command.SET_PEER, whom + times),
        "keepalive of none": (Command.SET_PEER, whom),
        "get": (Command.GET_PEER, whom),
    }
    return {
        what: functools.partial(bench.request, command, index, attributes)
        for what, (command, attributes) in requests.items()
    }


# -- what the kernel removes --------------------------------------------------------------


def expiry(bench: Bench) -> None:
    """A peer expires; then the daemon, which does not know yet, goes on with it."""

    def expires() -> list[str]:
        bench.control.set_peer(bench.mp, FRESH, 0, 1)
        removal = bench.removals.next(timeout=5)
        return [f"peer {removal.peer_id} reason {removal.reason}"]

    add = functools.partial(bench.request, Command.NEW_PEER, bench.mp)
    bench.prepare(lambda: add(*bench.new_peer().values()))
    # Its notification is heard here, so the bench must not wait for it.
    bench.observe("expiry/told", expires, removes=-1)
    for what, action in requests_about(bench, bench.mp, FRESH).items():
        bench.observe(f"expiry/{what}", action)
    remove = functools.partial(
        bench.request, Command.DEL_PEER, bench.mp, u32(DelPeer.PEER_ID, FRESH)
    )
    bench.observe("expiry/removal", remove)
    bench.observe("expiry/removal again", remove)
    for what, action in requests_about(bench, bench.mp, FRESH).items():
        bench.observe(f"expiry/{what} after the removal", action)

    def overflows() -> list[str]:
        # In milliseconds this is 2^32 and 704.
        bench.control.set_peer(bench.mp, FRESH, 0, 4_294_968)
        found = bench.removals.collect(1, timeout=1.5, quiet=0.1)
        return [str([(each.peer_id, each.reason) for each in found])]

    bench.prepare(lambda: add(*bench.new_peer().values()))
    bench.observe("expiry/after 50 days", overflows, removes=-1)
    peers_left = [peer.peer_id for peer in bench.control.peers(bench.mp)]
    if FRESH in peers_left:
        bench.control.del_peer(bench.mp, FRESH)
        bench.removals.next()
    bench.prepare()
