# SPDX-License-Identifier: GPL-2.0
"""Who may ask: nobody, root of a user namespace, somebody in another namespace."""

from __future__ import annotations

import functools
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from .. import link
from ..command import run
from ..family import (
    NAME,
    NEST,
    Command,
    Control,
)
from ..netlink import (
    CTRL_ATTR_FAMILY_ID,
    CTRL_ATTR_MCAST_GROUPS,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    GenericSocket,
    NetlinkError,
    RouteSocket,
    nested,
    parse,
    text,
    u32,
    walk,
)
from .bench import Bench
from .malformed import good

NOBODY = 65534


def privileges(bench: Bench) -> None:
    """A caller without CAP_NET_ADMIN, and one from another namespace."""
    with bench.near.entered():
        os.seteuid(NOBODY)
        try:
            with GenericSocket() as generic:
                said = generic.family(NAME)
                number = int.from_bytes(said[CTRL_ATTR_FAMILY_ID], "little")
                for command in Command:
                    request = u32(1, bench.mp) + nested(
                        NEST[command], *good(bench, command).values()
                    )
                    _noted(
                        *(bench, f"{command.name} as nobody"),
                        functools.partial(generic.command, number, command, request),
                    )
                _noted(
                    *(bench, "dump as nobody"),
                    functools.partial(
                        generic.command, number, Command.GET_PEER, u32(1, bench.mp), NLM_F_DUMP
                    ),
                )
                group = parse(next(walk(said[CTRL_ATTR_MCAST_GROUPS]))[1])[2]
                _noted(
                    *(bench, "notifications as nobody"),
                    functools.partial(generic.join, int.from_bytes(group, "little")),
                )
        finally:
            os.seteuid(0)
    _root_of_a_user_namespace(bench)
    foreign = Control(bench.far)
    try:
        for command in Command:
            attributes = b"".join(good(bench, command).values())
            request = u32(1, bench.mp) + nested(NEST[command], attributes)
            bench.observe(
                f"privileges/{command.name} from another namespace",
                lambda: [str(foreign.send(command, request))],
            )
    finally:
        foreign.close()


def _noted(bench: Bench, name: str, action: Callable[[], object]) -> None:
    """Note whether something is allowed; the peers cannot be looked at by this caller."""
    try:
        action()
        answer = "allowed"
    except OSError as error:
        answer = f"{error.errno} {getattr(error, 'message', '')}"
    bench.note(f"privileges/{name}", answer)


def _root_of_a_user_namespace(bench: Bench) -> None:
    """Whoever has all rights in namespaces of their own, over an interface of their own."""
    answers = run(
        *("unshare", "--user", "--map-root-user", "--net"),
        *("env", f"PYTHONPATH={Path(__file__).parents[2]}"),
        *(sys.executable, "-c", f"from {__name__} import ask_as_root; ask_as_root()"),
    )
    bench.note("privileges/as root of a user namespace", answers)


def ask_as_root() -> None:
    """Print how each command is answered to this process about an interface that it makes."""
    with RouteSocket() as rtnl:
        info = nested(link.IFLA_LINKINFO, text(link.IFLA_INFO_KIND, link.KIND))
        request = link.request_head() + text(link.IFLA_IFNAME, "own0") + info
        rtnl.request(link.RTM_NEWLINK, request, NLM_F_CREATE | NLM_F_EXCL)
    index = socket.if_nametoindex("own0")
    with GenericSocket() as generic:
        number = int.from_bytes(generic.family(NAME)[CTRL_ATTR_FAMILY_ID], "little")
        for command in Command:
            for flags in (0, NLM_F_DUMP) if command == Command.GET_PEER else (0,):
                try:
                    generic.command(number, command, u32(1, index), flags)
                    print(f"{command.name}: allowed")
                except NetlinkError as error:
                    print(f"{command.name}: {error.errno}")
