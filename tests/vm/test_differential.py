# SPDX-License-Identifier: GPL-2.0
"""The same requests to the C module and to ours, one after the other, in the same machine.

What differs stands in one table, each row with the reason why that is wanted. A
difference without a row fails the test, and so does a row without a difference.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from conftest import Overlooked
from ovpnlab import battery, module
from ovpnlab.battery.bench import NOT_SENT, Answer
from ovpnlab.battery.comparison import Difference, compare

STRICT = "uapi.md: attributes are validated strictly, and each command has its own"
CORE = "the kernel refuses this before it asks a module"
WIRE = "uapi.md: what does not fit the wire is ERANGE; the C module takes it"
SOCKET = "uapi.md: the C module answers ENOTSOCK to every unfit socket"
WHOLE = "uapi.md: a request is checked whole, before a peer is looked for"
TOMBSTONE = "uapi.md: a daemon must not die because the kernel was quicker than it"

TABLE = (
    # Malformed requests
    Difference("malformed/*: dump", "message", "", "", CORE),
    Difference("malformed/command *", "message", "", "", CORE),
    Difference("malformed/*: wrong nest too", "outcome", "ok", "EINVAL", STRICT),
    Difference("malformed/NEW_PEER: wrong nest too", "after", "mp 6: *", "", STRICT),
    Difference("malformed/DEL_PEER: wrong nest too", "outcome", "ENOENT", "EINVAL", STRICT),
    Difference("malformed/GET_PEER: wrong nest too", "reply", "* PEER_ID=05*", "", STRICT),
    # Peers
    *(
        row
        for number in ("0x1000000", "0x1000005", "0xffffffff")
        for row in (
            Difference(f"peers/NEW_PEER: peer id {number}", "outcome", "ok", "ERANGE", WIRE),
            Difference(f"peers/NEW_PEER: peer id {number}", "after", "mp *", "", WIRE),
        )
    ),
    Difference(
        *("peers/remote: IPv4, padding not zero", "after"),
        *("*=020004aac0000202eeeeeeeeeeeeeeee *", "*=020004aac00002020000000000000000 *"),
        "what is reported is the address in use, and the padding is no part of it",
    ),
    Difference(
        *("peers/remote: IPv6, flow label", "after", "*=0a0004aa00010203*", "*=0a0004aa00000000*"),
        "what is reported is the address in use; neither module sends with the flow label",
    ),
    *(
        Difference(
            *("peers/local of remote IPv6: IPv6 mapped", facet, c, ours),
            "the C module reads 12 bytes beyond the attribute",
        )
        for facet, c, ours in (("outcome", "ok", "EINVAL"), ("after", "mp 6: *", ""))
    ),
    # Sockets
    *(
        Difference(
            *(f"sockets/{kind}", "outcome", NOT_SENT, "EOPNOTSUPP"),
            "the C module takes it for a UDP socket and writes beyond its end",
        )
        for kind in ("packet of protocol 17", "raw udp", "raw udp over IPv6")
    ),
    *(
        Difference(f"sockets/{kind}", "outcome", "ENOTSOCK", "EOPNOTSUPP", SOCKET)
        for kind in ("unix *", "netlink", "packet", "raw icmp", "raw tcp", "mptcp")
    ),
    *(
        Difference(f"sockets/tcp? {state}", "outcome", "ENOTSOCK", "EINVAL", SOCKET)
        for state in ("new", "bound", "listening", "closed by the other", "half closed")
    ),
    Difference("sockets/udp4 of another interface", "outcome", "ENOTSOCK", "EBUSY", SOCKET),
    Difference("sockets/tcp4 of another peer", "outcome", "ENOTSOCK", "EBUSY", SOCKET),
    Difference(
        "p2p/new: the socket of the other interface", "outcome", "ENOTSOCK", "EBUSY", SOCKET
    ),
    *(
        Difference(f"sockets/{case}", facet, c, ours, reason)
        for case, error, reason in (
            ("udp4 *, IPv6", "EINVAL", "an IPv4 socket cannot reach an IPv6 address"),
            ("udp4 of IPsec", "EBUSY", "uapi.md: EBUSY for a socket that another user owns"),
        )
        for facet, c, ours in (("outcome", "ok", error), ("after", "mp 6: *", ""))
    ),
    # Keys
    Difference("keys/id *", "outcome", "ok", "ERANGE", WIRE),
    Difference("keys/a bad key id for peer 5", "outcome", "ok", "ERANGE", WIRE),
    Difference("keys/a bad key id for peer 6", "outcome", "ENOENT", "ERANGE", WHOLE),
    Difference("keys/a bad length for peer 6", "outcome", "ENOENT", "EINVAL", WHOLE),
    Difference("*/bad key*", "outcome", "EINVAL", "ERANGE", "its id, " + WIRE),
    Difference(
        *("keys/cipher 0*", "outcome", "EINVAL", "EOPNOTSUPP"),
        "uapi.md: cipher none is for a module built with DEBUG=1, else EOPNOTSUPP",
    ),
    # P2P, expiry
    Difference(
        *("p2p/get: all", "reply", "", "* PEER_ID=01000000 *"),
        "uapi.md: a dump shows all peers; that of the C module none in P2P mode",
    ),
    *(
        Difference(f"expiry/{request}", "outcome", "ENOENT", "ok", TOMBSTONE)
        for request in (
            *("key", "swap", "key deleted", "keepalive", "keepalive of none", "removal"),
        )
    ),
    *(
        Difference(
            *("expiry/after 50 days", facet, c, ours),
            "in the C module the milliseconds overflow, and the peer expires at once",
        )
        for facet, c, ours in (
            ("reply", "?(6, 2)?", "??"),
            ("after", "mp 6: gone", "* KEEPALIVE_TIMEOUT=38894100 *"),
        )
    ),
    # The link type
    *(
        Difference(f"links/{case}", "message", "", "", CORE)
        for case in ("change of mode", "made twice", "hardware address")
    ),
    Difference(
        *("links/*: the mode that is shown", "reply", "{}", "{1: '0?'}"),
        "uapi.md: `ip -d link show` reports the mode back",
    ),
    *(
        Difference(
            *(f"links/ip shows {size} of *", "reply", "65536", "61000"),
            "performance.md: a large packet of the stack stays one when it is sealed",
        )
        for size in ("tso_max_size", "gso_max_size", "gso_ipv4_max_size")
    ),
    Difference(
        *("links/ethtool shows version of *", "reply", "2.0.0", "*"),
        "uapi.md: `ethtool -i` says the module's version, which is its own",
    ),
)


@pytest.fixture
def unloaded() -> Iterator[None]:
    """Neither module is loaded before and after."""
    module.ensure_unloaded()
    yield
    module.ensure_unloaded()


@pytest.mark.timeout(300)
@pytest.mark.differs_from_c("it would be compared with itself", run=False)
@pytest.mark.usefixtures("unloaded")
def test_same_answers_as_the_c_module(overlooked: Overlooked, results: Path) -> None:
    counterpart = module.c_path()
    assert counterpart.exists(), (
        f"the C module to compare with is not there: {counterpart}."
        " Run scripts/counterparts, which needs the network once."
    )
    not_sent = tuple(row.cases for row in TABLE if row.c == NOT_SENT)
    began = time.monotonic()
    with overlooked():
        module.load(counterpart)
        try:
            c = battery.run(not_sent)
        finally:
            module.unload()
    between = time.monotonic()
    module.load()
    ours = battery.run()
    ended = time.monotonic()
    keep(results, c, ours)
    wrong = compare(c, ours, TABLE)
    assert not wrong, f"{len(wrong)} of {len(ours)} answers:\n" + "\n".join(wrong)
    print(f"{len(ours)} requests: {between - began:.1f} s C, {ended - between:.1f} s ours")


def keep(results: Path, c: dict[str, Answer], ours: dict[str, Answer]) -> None:
    """Leave both modules' answers for whoever looks into a difference."""
    for name, answers in (("c", c), ("ours", ours)):
        listed = {question: asdict(answer) for question, answer in answers.items()}
        (results / f"battery-{name}.json").write_text(json.dumps(listed, indent=1))
