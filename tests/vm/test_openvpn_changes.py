# SPDX-License-Identifier: GPL-2.0
"""What changes while an OpenVPN session lasts, or ends it: addresses, keys, daemons."""

from __future__ import annotations

import signal
import time

import pytest
from ovpnlab import iperf, waiting
from ovpnlab.family import Control, Peer, Reason, Removals
from ovpnlab.office import CLIENT_VPN, RENEGOTIATE, SERVER_VPN, Office, connect, reach
from ovpnlab.openvpn import Daemon
from ovpnlab.ping import ping


def peers_of(daemon: Daemon) -> list[Peer]:
    """The peers of a daemon's interface."""
    control = Control(daemon.namespace)
    try:
        return control.peers(daemon.namespace.index("tun0"))
    finally:
        control.close()


def test_silent_client_expires(office: Office, daemons: list[Daemon]) -> None:
    """The cable is pulled: both ends give the other up, and find each other again."""
    daemons += [
        office.server_daemon("keepalive 1 4", name="server-silent", status_seconds=600),
        office.client_daemon(1, name="client1-silent"),
    ]
    server, client = daemons
    connect(*daemons)
    reach(client.namespace, SERVER_VPN.ipv4)
    (peer,) = peers_of(server)
    # --keepalive doubles the time-out of the server itself.
    assert (peer.keepalive_interval, peer.keepalive_timeout) == (1, 8)
    (peer,) = peers_of(client)
    assert (peer.keepalive_interval, peer.keepalive_timeout) == (1, 4)

    removals = Removals(office.server)
    switch, port = office.switch.namespace, client.namespace.name
    switch.ip(f"link set {port} down")
    pulled = time.monotonic()
    try:
        removal = removals.next(timeout=25)
        lasted = time.monotonic() - pulled
        assert removal.reason == Reason.EXPIRED, removal
        assert lasted > 6, f"the server gave the client up after {lasted:.1f} s, not 8"
        server.wait(r"client1/.*SIGTERM\[soft,ovpn-dco: ping expired\]", timeout=5)
        client.wait(r"ping expired|ping-restart", timeout=5)
        waiting.until(lambda: not peers_of(server), "the server has no peer", timeout=5)
    finally:
        removals.close()
        switch.ip(f"link set {port} up")
    client.wait("Initialization Sequence Completed", timeout=30, count=2)
    reach(client.namespace, SERVER_VPN.ipv4)
    assert server.is_running() and client.is_running()


def test_idle_session_lives_by_keepalive(office: Office, daemons: list[Daemon]) -> None:
    """Nothing but keepalive messages for longer than the time-out, and nobody expires."""
    daemons += [
        office.server_daemon("keepalive 1 4", name="server-idle", status_seconds=600),
        office.client_daemon(1, name="client1-idle"),
    ]
    server, client = daemons
    connect(*daemons)
    reach(client.namespace, SERVER_VPN.ipv4)
    (before,) = peers_of(server)
    time.sleep(9)
    (after,) = peers_of(server)
    assert after.link_rx.packets >= before.link_rx.packets + 4, (before, after)
    assert after.link_tx.packets >= before.link_tx.packets + 4, (before, after)
    assert len(client.find("Initialization Sequence Completed")) == 1, client.tail()
    assert ping(client.namespace, SERVER_VPN.ipv4).complete


@pytest.mark.parametrize("restarted", ["server", "client"])
def test_persist_tun(office: Office, daemons: list[Daemon], restarted: str) -> None:
    """SIGUSR1 with --persist-tun: a new session over the same interface."""
    options = ("persist-tun", "persist-key")
    daemons += [
        office.server_daemon("keepalive 1 4", *options, name=f"server-persist-{restarted}"),
        office.client_daemon(1, *options, name=f"client1-persist-{restarted}"),
    ]
    server, client = daemons
    connect(*daemons)
    reach(client.namespace, SERVER_VPN.ipv4)
    daemon = server if restarted == "server" else client
    indices = {each: each.namespace.index("tun0") for each in daemons}
    daemon.signal(signal.SIGUSR1)
    daemon.wait("Preserving previous TUN/TAP instance: tun0", timeout=20)
    client.wait("Initialization Sequence Completed", timeout=45, count=2)
    for each, index in indices.items():
        now = each.namespace.index("tun0")
        assert now == index, f"the interface of {each.name} was made anew"
    reach(client.namespace, SERVER_VPN.ipv4)
    assert ping(office.server, CLIENT_VPN["client1"].ipv6).complete
    for each in daemons:
        left = peers_of(each)
        assert len(left) == 1, f"{each.name} has other than one peer: {left}"


def test_client_says_goodbye(office: Office, daemons: list[Daemon]) -> None:
    """--explicit-exit-notify at a client: its peer goes at once, long before a time-out."""
    daemons += [
        office.server_daemon("keepalive 10 60", name="server-bye", status_seconds=600),
        office.client_daemon(1, "explicit-exit-notify 2", name="client1-bye"),
    ]
    server, client = daemons
    connect(*daemons)
    reach(client.namespace, SERVER_VPN.ipv4)
    removals = Removals(office.server)
    try:
        client.stop(timeout=10)
        removal = removals.next(timeout=15)
    finally:
        removals.close()
    assert removal.reason == Reason.USERSPACE, removal
    # Told over the control channel; the server then waits 5 s for what is under way.
    assert server.find(r"client1/.*CC-EEN exit message received by peer"), server.tail()
    server.wait(r"client1/.*SIGTERM\[soft,delayed-exit\] received", timeout=5)
    assert not peers_of(server)


def test_server_says_goodbye(office: Office, daemons: list[Daemon]) -> None:
    """--explicit-exit-notify at the server: its clients come back as soon as it does."""
    daemons += [
        office.server_daemon("keepalive 10 60", "explicit-exit-notify 1", name="server-bye"),
        office.client_daemon(1, name="client1-bye"),
    ]
    server, client = daemons
    connect(*daemons)
    reach(client.namespace, SERVER_VPN.ipv4)
    server.stop(timeout=15)
    client.wait(r"SIGUSR1\[soft,server-pushed-connection-reset\]", timeout=10)
    server.namespace.wait_gone("tun0", timeout=1)
    server.start()
    server.wait_ready()
    client.wait("Initialization Sequence Completed", timeout=45, count=2)
    reach(client.namespace, SERVER_VPN.ipv4)


def test_client_changes_its_address(office: Office, daemons: list[Daemon]) -> None:
    """The client's old address is gone, and the session goes on from the new one."""
    daemons += [office.server_daemon(name="server-move"), office.client_daemon(1, name="c1-move")]
    server, client = daemons
    connect(*daemons)
    reach(client.namespace, SERVER_VPN.ipv4)
    (before,) = peers_of(server)
    assert before.remote is not None and before.remote[0] == "192.0.2.11", before
    old, new = "192.0.2.11/24", "192.0.2.99/24"
    client.namespace.ip(f"addr del {old} dev eth0", f"addr add {new} dev eth0")
    try:
        reach(client.namespace, SERVER_VPN.ipv4)
        (after,) = peers_of(server)
        assert after.remote == ("192.0.2.99", before.remote[1]), after
        assert after.peer_id == before.peer_id
        assert ping(office.server, CLIENT_VPN["client1"].ipv4).complete
        assert ping(client.namespace, SERVER_VPN.ipv6, size=1472).complete
        # The same session, without a word between the daemons.
        assert len(client.find("Initialization Sequence Completed")) == 1, client.tail()
        assert len(server.find("Peer Connection Initiated")) == 1, server.tail()
    finally:
        client.namespace.ip(f"addr del {new} dev eth0", f"addr add {old} dev eth0")
    # And back.
    reach(client.namespace, SERVER_VPN.ipv4)
    (back,) = peers_of(server)
    assert back.remote == before.remote, back
    assert len(client.find("Initialization Sequence Completed")) == 1, client.tail()


@pytest.mark.timeout(150)
def test_renegotiation_under_load(office: Office, daemons: list[Daemon]) -> None:
    """--reneg-sec 10 while iperf3 sends as fast as it can: keys change, the stream goes on."""
    on_server, on_client = RENEGOTIATE
    daemons += [
        office.server_daemon(on_server, name="server-busy-reneg"),
        office.client_daemon(1, on_client, name="client1-busy-reneg"),
    ]
    server, client = daemons
    connect(*daemons)
    reach(client.namespace, SERVER_VPN.ipv4)
    before = len(server.find("TLS: soft reset"))
    # iperf3's own client is told to receive, for a sender counts what it has only buffered.
    moved = iperf.measure(
        client.namespace, office.server, CLIENT_VPN["client1"].ipv4, seconds=24, reverse=True
    )
    renewals = len(server.find("TLS: soft reset")) - before
    assert renewals >= 2, f"{renewals} renewals of keys in 24 s\n{server.tail()}"
    pairs = zip(moved.each_second, moved.each_second[1:])
    stalled = [second for second, pair in enumerate(pairs) if not any(pair)]
    assert not stalled, f"nothing came for 2 s from second {stalled} on: {moved.each_second}"
    for daemon in daemons:
        assert not daemon.find("netlink reports|key state mismatch"), daemon.tail()
    assert ping(client.namespace, SERVER_VPN.ipv4).complete
