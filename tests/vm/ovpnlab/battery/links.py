# SPDX-License-Identifier: GPL-2.0
"""The link type: modes, MTU, what `ip` and `ethtool` show."""

from __future__ import annotations

import json
from collections.abc import Callable

from .. import link
from ..netlink import NLM_F_CREATE, NLM_F_EXCL, attribute, nested, text, u8, u16, u32
from .bench import Bench

# What counts up from the boot of the machine, or is the module's own number.
VOLATILE = {"link_netnsid", "stats64"}


def links(bench: Bench) -> None:
    """The requests about the link type."""
    modes(bench)
    sizes(bench)
    shown(bench)
    changes(bench)


def make(bench: Bench, what: str, data: bytes | None = None, mtu: int | None = None) -> None:
    """Make an interface, note what it is, and delete it again."""
    shown: dict[int, str] = {}

    def action() -> list[str]:
        link.create(bench.near, "new0", data=data, mtu=mtu)
        found = link.get(bench.near, "new0")
        link.delete(bench.near, "new0")
        shown.update({kind: value.hex() for kind, value in found.data.items()})
        return [f"mtu {found.mtu}, flags {found.flags:#x}, type {found.hardware:#x}"]

    bench.observe(f"links/{what}", action)
    bench.note(f"links/{what}: the mode that is shown", str(shown))


def modes(bench: Bench) -> None:
    """What IFLA_INFO_DATA may hold."""
    mode = link.IFLA_OVPN_MODE
    contents = {
        "mode 0": u8(mode, 0),
        "mode 1": u8(mode, 1),
        "mode 2": u8(mode, 2),
        "mode 255": u8(mode, 255),
        "mode of 0 bytes": attribute(mode),
        "mode of 2 bytes": u16(mode, 1),
        "mode of 4 bytes": u32(mode, 1),
        "mode with nested flag": attribute(mode | 0x8000, b"\1"),
        "mode twice": u8(mode, 0) + u8(mode, 1),
        "mode twice, last bad": u8(mode, 0) + u8(mode, 2),
        "nothing inside": b"",
        "unknown attribute 2": u8(mode, 1) + u32(2, 1),
        "unknown attribute 0": u8(mode, 1) + u32(0, 1),
        "trailing bytes": u8(mode, 1) + b"\1\2",
    }
    make(bench, "no data")
    for what, data in contents.items():
        make(bench, what, data=data)


def sizes(bench: Bench) -> None:
    """The MTU at creation and later."""
    index = link.create(bench.near, "new1")
    for mtu in (0, 67, 68, 1280, 1428, 1500, 9000, 65463, 65464, 65535, 65536):
        make(bench, f"created with mtu {mtu}", mtu=mtu)

        def change() -> list[str]:
            link.set_mtu(bench.near, "new1", mtu)
            return [str(link.get(bench.near, "new1").mtu)]

        bench.observe(f"links/mtu {mtu}", change)
    found = link.get(bench.near, "new1")
    bench.note("links/mtu limits", f"{found.min_mtu} to {found.max_mtu}, index {index}")
    link.delete(bench.near, "new1")


def shown(bench: Bench) -> None:
    """What `ip -d link show` and `ethtool` say of both interfaces, value by value."""
    for name in ("mp0", "p2p0"):
        (said,) = json.loads(bench.near.run("ip", "-d", "-j", "link", "show", "dev", name))
        for key, value in said.items():
            if key not in VOLATILE:
                bench.note(f"links/ip shows {key} of {name}", json.dumps(value, sort_keys=True))
        driver = bench.near.run("ethtool", "-i", name)
        for line in driver.splitlines():
            key, _, value = line.partition(": ")
            bench.note(f"links/ethtool shows {key} of {name}", value)
        for line in bench.near.run("ethtool", "-k", name).splitlines()[1:]:
            key, _, value = line.strip().partition(": ")
            bench.note(f"links/feature {key} of {name}", value)
        settings = " ".join(bench.near.run("ethtool", name).split())
        bench.note(f"links/settings of {name}", settings)


def changes(bench: Bench) -> None:
    """What may be done to an interface that is there."""

    def request(attributes: bytes, flags: int = 0) -> Callable[[], list[str]]:
        def send() -> list[str]:
            with bench.near.route_socket() as rtnl:
                name = text(link.IFLA_IFNAME, "mp0")
                rtnl.request(link.RTM_NEWLINK, link.request_head() + name + attributes, flags)
            return []

        return send

    mode = nested(link.IFLA_INFO_DATA, u8(link.IFLA_OVPN_MODE, 0))
    kind = nested(link.IFLA_LINKINFO, text(link.IFLA_INFO_KIND, link.KIND) + mode)
    bench.observe("links/change of mode", request(kind))
    bench.observe("links/made twice", request(kind, NLM_F_CREATE | NLM_F_EXCL))
    bench.observe("links/hardware address", request(attribute(1, bytes(6))))
    bench.observe("links/queue length", request(u32(13, 77)))
    peers = [peer.peer_id for peer in bench.control.peers(bench.mp)]
    bench.note("links/peers afterwards", str(peers))
