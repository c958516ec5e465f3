# SPDX-License-Identifier: GPL-2.0
"""Configurations of OpenVPN 2.6: point to point, packet sizes, and what offload cannot do."""

from __future__ import annotations

import pytest
from ovpnlab import command, iperf, link
from ovpnlab.office import (
    CLIENT_VPN,
    POINTS,
    POINTS6,
    SERVER_VPN,
    Office,
    connect,
    reach,
)
from ovpnlab.openvpn import Daemon
from ovpnlab.ping import ping

INCOMPATIBLE = {
    "fragment": (
        ["fragment 1300"],
        "Note: --fragment disables data channel offload.",
    ),
    "comp-lzo": (
        ["comp-lzo yes", "allow-compression yes"],
        "Note: '--allow-compression' is not set to 'no', disabling data channel offload.",
    ),
    "allow-compression": (
        ["allow-compression asym"],
        "Note: '--allow-compression' is not set to 'no', disabling data channel offload.",
    ),
    "tap": (
        ["dev tap0"],
        "Note: dev-type not tun, disabling data channel offload.",
    ),
}


def start_points(points: list[Daemon]) -> None:
    """Start both ends of a point-to-point tunnel and wait for their data channel."""
    for daemon in points:
        daemon.start()
    for daemon in points:
        daemon.wait_ready()
        daemon.wait("Data Channel: cipher 'AES-256-GCM'")


@pytest.mark.parametrize("protocol", ["udp4", "udp6", "tcp4", "tcp6"])
def test_point_to_point(office: Office, daemons: list[Daemon], protocol: str) -> None:
    """No --server, no pushing: two equals that know each other's fingerprint."""
    daemons += office.points(name=f"p2p-{protocol}", protocol=protocol)
    start_points(daemons)
    for daemon in daemons:
        assert daemon.find(r"P2P mode NCP negotiation result: .*DATA_v2=1"), daemon.tail()
        assert daemon.find("DCO device tun0 opened"), daemon.tail()
    left, right = (daemon.namespace for daemon in daemons)
    assert link.get(left, "tun0").mode == link.MODE_P2P
    reach(left, POINTS[1])
    assert ping(right, POINTS[0]).complete
    assert ping(left, POINTS6[1]).complete
    assert ping(right, POINTS6[0], size=1472).complete
    assert iperf.measure(left, right, POINTS[0], amount="1M").bytes > 0
    for daemon in daemons:
        daemon.stop()
        daemon.namespace.wait_gone("tun0", timeout=1)


def assert_offloaded_with_mtu(wanted: int, daemons: list[Daemon]) -> None:
    """Each uses the module, on an interface of this MTU."""
    for daemon in daemons:
        assert daemon.find("DCO device tun0 opened"), daemon.tail()
        mtu = link.get(daemon.namespace, "tun0").mtu
        assert mtu == wanted, f"the MTU of {daemon.name} is {mtu}, not {wanted}"


@pytest.mark.parametrize("protocol", ["udp4", "tcp4"])
def test_large_mtu(office: Office, daemons: list[Daemon], protocol: str) -> None:
    """--tun-mtu 9000: packets inside are six times as long as those of the network outside."""
    name = f"mtu-{protocol}"
    options = ("tun-mtu 9000", "tun-mtu-max 9000")
    daemons += [
        office.server_daemon(*options, name=f"server-{name}", protocol=protocol),
        office.client_daemon(1, *options, name=f"client1-{name}", protocol=protocol),
    ]
    connect(*daemons)
    client = daemons[1].namespace
    reach(client, SERVER_VPN.ipv4)
    assert_offloaded_with_mtu(9000, daemons)
    for size in (1500, 8972):
        there = ping(client, SERVER_VPN.ipv4, size=size, fragment=False)
        assert there.complete, f"{size} bytes to the server: {there}"
        back = ping(office.server, CLIENT_VPN["client1"].ipv4, size=size, fragment=False)
        assert back.complete, f"{size} bytes to the client: {back}"
    assert iperf.measure(office.server, client, SERVER_VPN.ipv4, amount="2M").bytes > 0


@pytest.mark.parametrize("option", ["mssfix 1200", "mssfix 0", "tun-mtu 1500"])
def test_packet_size_options(office: Office, daemons: list[Daemon], option: str) -> None:
    """Accepted, without a word against offload; what is as large as the MTU comes through."""
    name = option.replace(" ", "-")
    daemons += [
        office.server_daemon(option, name=f"server-{name}"),
        office.client_daemon(1, option, name=f"client1-{name}"),
    ]
    connect(*daemons)
    client = daemons[1].namespace
    reach(client, SERVER_VPN.ipv4)
    assert_offloaded_with_mtu(1500, daemons)
    assert ping(client, SERVER_VPN.ipv4, size=1472, fragment=False).complete
    assert iperf.measure(office.server, client, SERVER_VPN.ipv4, amount="1M").bytes > 0


@pytest.mark.parametrize("what", INCOMPATIBLE)
def test_incompatible_option_falls_back(office: Office, daemons: list[Daemon], what: str) -> None:
    """OpenVPN says why it does not use the module, and works without it."""
    command.run("modprobe", "tun")
    options, note = INCOMPATIBLE[what]
    daemons += office.points(*options, name=what)
    start_points(daemons)
    interface = "tap0" if what == "tap" else "tun0"
    for daemon in daemons:
        assert note in daemon.log, f"no note of --{what}\n{daemon.tail(60)}"
        assert daemon.find(rf"TUN/TAP device {interface} opened"), daemon.tail(60)
        assert "DCO device" not in daemon.log, daemon.tail(60)
        kind = link.get(daemon.namespace, interface).kind
        assert kind == "tun", f"{interface} is of kind {kind}, not tun"
    left, right = (daemon.namespace for daemon in daemons)
    reach(left, POINTS[1])
    assert ping(right, POINTS[0], size=1400).complete
