# SPDX-License-Identifier: GPL-2.0
"""Cables and a switch between namespaces."""

from __future__ import annotations

from .namespace import Namespace


def _addresses(interface: str, addresses: tuple[str, ...]) -> list[str]:
    return [
        f"addr add {address} dev {interface}" + (" nodad" if ":" in address else "")
        for address in addresses
    ]


def cable(
    one: Namespace,
    one_interface: str,
    one_addresses: tuple[str, ...],
    other: Namespace,
    other_interface: str,
    other_addresses: tuple[str, ...],
) -> None:
    """Join two namespaces with a veth pair that is up and has its addresses."""
    one.ip(
        f"link add {one_interface} type veth peer name {other_interface} netns {other.name}",
        *_addresses(one_interface, one_addresses),
        f"link set {one_interface} up",
    )
    other.ip(
        *_addresses(other_interface, other_addresses),
        f"link set {other_interface} up",
    )


class Switch:
    """A namespace with a bridge, into which other namespaces are plugged."""

    BRIDGE = "br0"

    def __init__(self, name: str) -> None:
        self.namespace = Namespace(name)
        self.namespace.ip(
            f"link add {self.BRIDGE} type bridge forward_delay 0 mcast_snooping 0",
            f"link set {self.BRIDGE} up",
        )

    def plug(self, namespace: Namespace, *addresses: str, interface: str = "eth0") -> str:
        """Give a namespace an interface on the switch; returns the switch's port."""
        port = namespace.name[-15:]
        cable(self.namespace, port, (), namespace, interface, addresses)
        self.namespace.ip(f"link set {port} master {self.BRIDGE}")
        return port

    def close(self) -> None:
        """Take the switch away."""
        self.namespace.close()
