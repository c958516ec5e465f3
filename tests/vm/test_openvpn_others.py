# SPDX-License-Identifier: GPL-2.0
"""The other end is OpenVPN 2.7, with the kernel's own module `ovpn` or with none."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from ovpnlab import command, iperf, link, module
from ovpnlab.family import Control, Peer
from ovpnlab.office import CLIENT_VPN, SERVER_VPN, Office, connect, reach
from ovpnlab.openvpn import OPENVPN_27, Daemon
from ovpnlab.ping import ping

SLACK = 8192
# Bytes of the largest packet on the link, of an inner one of 1,500.
LARGEST = 1524


@pytest.fixture(scope="module", autouse=True)
def _modules() -> None:
    assert Path(OPENVPN_27).exists(), f"{OPENVPN_27} is not there: run scripts/counterparts first"
    command.run("modprobe", "-a", "ovpn", "tun")


def assert_ours(daemon: Daemon) -> None:
    """OpenVPN 2.6, with our module."""
    assert daemon.find(r"^.*OpenVPN 2\.6\."), daemon.tail()
    assert daemon.find(rf"DCO version: {re.escape(module.version())}$"), daemon.tail()
    assert daemon.find(r"net_iface_new: add tun0 type ovpn-dco$"), daemon.tail()
    assert link.get(daemon.namespace, "tun0").kind == link.KIND


def assert_theirs(daemon: Daemon, offload: bool) -> None:
    """OpenVPN 2.7, with the kernel's module or without any."""
    assert daemon.find(r"^.*OpenVPN 2\.7"), daemon.tail()
    kind = link.get(daemon.namespace, "tun0").kind
    if offload:
        if Path("/sys/module/ovpn").exists():  # not if it is part of the kernel itself
            assert daemon.find(rf"DCO version: {re.escape(os.uname().release)}"), daemon.tail()
        assert daemon.find(r"net_iface_new: add tun0 type ovpn$"), daemon.tail()
        assert daemon.find(r"DCO device tun0 opened$"), daemon.tail()
        assert kind == "ovpn", f"the interface of OpenVPN 2.7 is of kind {kind}, not ovpn"
    else:
        assert daemon.find(r"TUN/TAP device tun0 opened$"), daemon.tail()
        assert not daemon.find(r"DCO device"), daemon.tail()
        assert kind == "tun", f"the interface of OpenVPN 2.7 is of kind {kind}, not tun"


@pytest.mark.parametrize("protocol", ["udp4", "tcp4"])
@pytest.mark.parametrize("offload", [True, False], ids=["ovpn", "without"])
@pytest.mark.parametrize("role", ["server", "client"])
def test_openvpn_27(
    office: Office, daemons: list[Daemon], role: str, offload: bool, protocol: str
) -> None:
    """Pings of both families and both ways, big ones, and bytes that both ends count alike."""
    name = f"{role}-27-{'ovpn' if offload else 'without'}-{protocol}"
    options = [] if offload else ["disable-dco"]
    if role == "server":
        server = office.server_daemon(*options, name=name, protocol=protocol, program=OPENVPN_27)
        client = office.client_daemon(1, name=f"client-of-{name}", protocol=protocol)
        ours, theirs = client, server
    else:
        server = office.server_daemon(name=f"server-of-{name}", protocol=protocol)
        client = office.client_daemon(1, *options, name=name, protocol=protocol, program=OPENVPN_27)
        ours, theirs = server, client
    daemons += [server, client]
    connect(*daemons)
    assert_ours(ours)
    assert_theirs(theirs, offload)

    reach(client.namespace, SERVER_VPN.ipv4)
    own = CLIENT_VPN["client1"]
    for namespace, address, size in (
        (client.namespace, SERVER_VPN.ipv6, 56),
        (office.server, own.ipv4, 1472),
        (office.server, own.ipv6, 56),
        (client.namespace, SERVER_VPN.ipv4, 5000),
    ):
        result = ping(namespace, address, count=2, size=size)
        assert result.complete, f"{size} bytes from {namespace.name} to {address}: {result}"

    up = iperf.measure(office.server, client.namespace, SERVER_VPN.ipv4, amount="1M")
    down = iperf.measure(
        office.server, client.namespace, SERVER_VPN.ipv6, amount="1M", reverse=True
    )
    sent, received = (down, up) if ours is server else (up, down)
    peer = peer_of(ours)
    for what, counted, moved in (
        ("received", peer.link_rx.bytes, received.bytes),
        ("sent", peer.link_tx.bytes, sent.bytes),
    ):
        assert moved <= counted <= moved * 1.5, f"{what} {counted} bytes, of these {moved} data"
    assert_same_counts(ours, theirs, role)
    for daemon in daemons:
        assert not daemon.find(r"(?i)dco_\w+: .*(failed|error|netlink reports)"), daemon.tail()


def peer_of(daemon: Daemon) -> Peer:
    """The one peer of a daemon's interface."""
    control = Control(daemon.namespace)
    try:
        (peer,) = control.peers(daemon.namespace.index("tun0"))
        return peer
    finally:
        control.close()


def bytes_of(theirs: Daemon, role: str, newer_than: float) -> tuple[int, int]:
    """What OpenVPN 2.7 says that it has sent and received, outside."""
    if role == "server":
        status = theirs.server_status(newer_than)["client1"]
        return status.sent, status.received
    counters = theirs.client_status(newer_than)
    return counters["TCP/UDP write bytes"], counters["TCP/UDP read bytes"]


def assert_same_counts(ours: Daemon, theirs: Daemon, role: str) -> None:
    """What we received is what they sent, and the other way, but for control packets.

    Over TCP the kernel's `ovpn` counts as sent what it then drops while the packet before is not all
    in the socket's buffer (`ovpn_tcp_send_sock_skb`); its interface counts those drops.
    """
    counts = ""
    # Over TCP, the last of it may still be on its way.
    for _ in range(5):
        sent, received = bytes_of(theirs, role, newer_than=time.time())
        peer = peer_of(ours)
        there, back = sent - peer.link_rx.bytes, received - peer.link_tx.bytes
        drops = link.get(theirs.namespace, "tun0").statistics["tx_dropped"]
        if -SLACK <= there <= SLACK + drops * LARGEST and abs(back) <= SLACK:
            return
        counts = (
            f"OpenVPN 2.7 says that it sent {sent} bytes, of which we count {peer.link_rx.bytes},"
            f" and received {received}, of which we count {peer.link_tx.bytes};"
            f" its interface has dropped {drops} packets"
        )
    pytest.fail(counts)
