# SPDX-License-Identifier: GPL-2.0
"""OpenVPN's own data channel takes what the module sends, whatever the network card can do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ovpnlab import command, iperf
from ovpnlab.namespace import Namespace
from ovpnlab.office import SERVER_VPN, Office, connect, end, reach
from ovpnlab.openvpn import Daemon

# What can be asked of veth, and what a card without it leaves to the stack.
FEATURES = ("tx", "sg", "tso", "gso", "gro", "tx-udp-segmentation")
OFFS = (
    (),
    ("tx-udp-segmentation",),
    ("gso", "tso", "tx-udp-segmentation"),
    ("gro",),
    FEATURES,
)
BAD_PACKET = r"Authenticate/Decrypt packet error|bad packet ID|TCP/UDP packet too large"


@pytest.fixture(scope="module", params=["udp4", "udp6", "tcp4"])
def pair(request: pytest.FixtureRequest, office: Office) -> Iterator[tuple[Daemon, Daemon]]:
    """A server with the module, and a connected client without it."""
    command.run("modprobe", "tun")
    protocol = request.param
    server = office.server_daemon(name=f"server-nic-{protocol}", protocol=protocol)
    client = office.client_daemon(
        1, "disable-dco", name=f"client-nic-{protocol}", protocol=protocol
    )
    connect(server, client)
    yield server, client
    end(client, server)


@pytest.fixture(params=OFFS, ids=lambda off: "-".join(off) or "all-on")
def offloads(
    request: pytest.FixtureRequest, pair: tuple[Daemon, Daemon]
) -> Iterator[tuple[str, ...]]:
    """These are off, at both ends, on the cards that the tunnel goes over, and the others are on."""
    for daemon in pair:
        _switch(daemon.namespace, request.param)
    yield request.param
    for daemon in pair:
        _switch(daemon.namespace, ("gro",))  # as veth comes


def _switch(namespace: Namespace, off: tuple[str, ...]) -> None:
    states = ((name, "off" if name in off else "on") for name in FEATURES)
    namespace.run("ethtool", "-K", "eth0", *(word for state in states for word in state))


def test_every_packet_is_taken(
    office: Office, pair: tuple[Daemon, Daemon], offloads: tuple[str, ...]
) -> None:
    """Bulk both ways: OpenVPN complains of no packet, and all arrives."""
    server, client = pair
    shown = server.namespace.run("ethtool", "-k", "eth0")
    for feature, name in (("gso", "generic-segmentation-offload"), ("gro", "generic-receive")):
        state = "off" if feature in offloads else "on"
        assert any(name in line and f": {state}" in line for line in shown.splitlines()), shown
    reach(client.namespace, SERVER_VPN.ipv4)
    for address, reverse in ((SERVER_VPN.ipv4, True), (SERVER_VPN.ipv6, False)):
        iperf.measure(office.server, client.namespace, address, amount="2M", reverse=reverse)
    for daemon in pair:
        assert not daemon.find(BAD_PACKET), daemon.tail()
