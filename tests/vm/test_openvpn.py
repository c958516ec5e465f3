# SPDX-License-Identifier: GPL-2.0
"""OpenVPN 2.6, unchanged, on top of the module: what the demo shows, and more."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator

import pytest
from ovpnlab import command, iperf, module, waiting
from ovpnlab.capture import Capture
from ovpnlab.family import Control, Reason, Removals
from ovpnlab.office import (
    CLIENT_VPN,
    LAN_HOST,
    PORT,
    RENEGOTIATE,
    SERVER_VPN,
    Office,
    connect,
    end,
    reach,
)
from ovpnlab.openvpn import Daemon
from ovpnlab.ping import ping

# AES-256-GCM is what all other tests use.
CIPHERS = ("AES-128-GCM", "AES-192-GCM", "CHACHA20-POLY1305")


@pytest.fixture(scope="class")
def vpn(office: Office) -> Iterator[list[Daemon]]:
    """A server and two clients, connected: shared by the tests that only look."""
    daemons = [office.server_daemon(), office.client_daemon(1), office.client_daemon(2)]
    try:
        connect(*daemons)
        yield daemons
    finally:
        end(*daemons)


# -- those that only look -----------------------------------------------------------------


class TestConnected:
    """A server and two clients that stay connected for all of these."""

    @pytest.mark.smoke
    def test_log_proves_offload(self, vpn: list[Daemon]) -> None:
        for daemon in vpn:
            assert daemon.find(rf"DCO version: {re.escape(module.version())}$"), daemon.tail()
            assert daemon.find(r"net_iface_new: add tun0 type ovpn-dco$"), daemon.tail()
            assert daemon.find(r"DCO device tun0 opened$"), daemon.tail()
            assert daemon.find(r"Data Channel: cipher 'AES-256-GCM'"), daemon.tail()
            assert not daemon.find(r"(?i)dco_\w+: .*(failed|error|netlink reports)"), daemon.tail()
        for daemon in vpn:
            driver = daemon.namespace.run("ethtool", "-i", "tun0")
            assert re.search(r"^driver: ovpn-dco$", driver, re.MULTILINE)

    @pytest.mark.smoke
    @pytest.mark.parametrize("client", [1, 2])
    def test_ping(self, office: Office, vpn: list[Daemon], client: int) -> None:
        namespace = office.clients[client - 1]
        own = CLIENT_VPN[namespace.name]
        assert ping(namespace, SERVER_VPN.ipv4).complete
        assert ping(namespace, SERVER_VPN.ipv6).complete
        assert ping(office.server, own.ipv4).complete
        assert ping(office.server, own.ipv6).complete

    @pytest.mark.smoke
    def test_only_data_v2_outside(self, office: Office, vpn: list[Daemon]) -> None:
        switch, port = office.switch.namespace, office.server_port
        file = office.directory / "outer.pcap"
        with Capture(switch, port, f"udp port {PORT}", file) as outer:
            for client in office.clients:
                assert ping(client, SERVER_VPN.ipv4, count=5).complete
                assert ping(client, SERVER_VPN.ipv6, count=5).complete
        seen = outer.opcodes()
        assert set(seen) == {"P_DATA_V2"}, seen
        assert seen["P_DATA_V2"] >= 40, seen
        assert all(packet[1:4] != b"\xff\xff\xff" for packet in outer.payloads())

    @pytest.mark.smoke
    def test_client_to_client(self, office: Office, vpn: list[Daemon]) -> None:
        first, second = office.clients
        assert ping(first, CLIENT_VPN["client2"].ipv4).complete
        assert ping(second, CLIENT_VPN["client1"].ipv4).complete
        assert ping(first, CLIENT_VPN["client2"].ipv6).complete

    @pytest.mark.smoke
    def test_iroute(self, office: Office, vpn: list[Daemon]) -> None:
        assert ping(office.server, LAN_HOST).complete
        assert ping(office.clients[1], LAN_HOST).complete
        assert ping(office.lan, SERVER_VPN.ipv4).complete
        assert ping(office.lan, CLIENT_VPN["client2"].ipv4).complete

    def test_spoofed_client_is_dropped(self, office: Office, vpn: list[Daemon]) -> None:
        """client2 sends in the name of client1's LAN."""
        second = office.clients[1]
        second.ip("addr add 10.99.1.77/32 dev lo")
        try:
            assert ping(second, SERVER_VPN.ipv4, source="10.99.1.77", wait=0.5).received == 0
            assert ping(second, SERVER_VPN.ipv4).complete
        finally:
            second.ip("addr del 10.99.1.77/32 dev lo")

    def test_big_pings(self, office: Office, vpn: list[Daemon]) -> None:
        client = office.clients[0]
        for size in (1400, 1472, 5000):
            assert ping(client, SERVER_VPN.ipv4, count=2, size=size).complete, size

    @pytest.mark.smoke
    def test_tcp_and_byte_counts(self, office: Office, vpn: list[Daemon]) -> None:
        """What iperf3 moves stands in both status files, and in GET_PEER."""
        server, client, _ = vpn
        before = server.server_status()["client1"]
        up = iperf.measure(office.server, client.namespace, SERVER_VPN.ipv4, amount="4M")
        down = iperf.measure(
            office.server, client.namespace, SERVER_VPN.ipv6, amount="4M", reverse=True
        )
        began = time.time()
        time.sleep(1)
        after = server.server_status(newer_than=began)
        received = after["client1"].received - before.received
        sent = after["client1"].sent - before.sent
        for counted, moved in ((received, up.bytes), (sent, down.bytes)):
            assert moved <= counted <= moved * 1.5, (before, after["client1"], up, down)
        assert set(after) == {"client1", "client2"}
        assert all(row.cipher == "AES-256-GCM" for row in after.values())
        counters = client.client_status(newer_than=began)
        assert abs(counters["TCP/UDP write bytes"] - after["client1"].received) < 4096
        assert abs(counters["TCP/UDP read bytes"] - after["client1"].sent) < 4096
        control = Control(office.server)
        peers = {peer.ipv4: peer for peer in control.peers(office.server.index("tun0"))}
        control.close()
        assert set(peers) == {address.ipv4 for address in CLIENT_VPN.values()}
        # OpenVPN adds the control packets, which it counts itself.
        link_rx = peers[CLIENT_VPN["client1"].ipv4].link_rx.bytes
        assert 0 <= after["client1"].received - link_rx < 20_000


# -- those that start their own -----------------------------------------------------------


@pytest.mark.smoke
def test_clean_stop(office: Office, daemons: list[Daemon]) -> None:
    """SIGTERM: all end in time, without a complaint, and their interfaces go."""
    daemons += [office.server_daemon(), office.client_daemon(1)]
    connect(*daemons)
    reach(office.clients[0], SERVER_VPN.ipv4)
    for daemon in reversed(daemons):
        assert daemon.stop(timeout=10) < 10
        assert daemon.find("SIGTERM.* received, process exiting"), daemon.tail()
        daemon.namespace.wait_gone("tun0", timeout=1)
    assert module.users() == 0


def test_clean_stop_of_the_server_under_traffic(office: Office, daemons: list[Daemon]) -> None:
    daemons += [office.server_daemon(), office.client_daemon(1)]
    server, client = daemons
    connect(*daemons)
    reach(client.namespace, SERVER_VPN.ipv4)
    flood = client.namespace.start("ping", "-f", "-q", "-w", "30", SERVER_VPN.ipv4)
    try:
        time.sleep(0.5)
        server.stop(timeout=10)
        server.namespace.wait_gone("tun0", timeout=1)
        client.stop(timeout=10)
        client.namespace.wait_gone("tun0", timeout=1)
    finally:
        command.stop(flood)
    assert module.users() == 0


@pytest.mark.differs_from_c("the kernel keeps the client's socket and answers for it")
def test_killed_client_is_removed(office: Office, daemons: list[Daemon]) -> None:
    """kill -9: the client's peers end with its socket; the server's keepalive notices."""
    daemons += [
        office.server_daemon("keepalive 1 4", name="server-keepalive", status_seconds=600),
        office.client_daemon(1),
        office.client_daemon(2),
    ]
    server, first, second = daemons
    connect(*daemons)
    reach(second.namespace, SERVER_VPN.ipv4)
    removals = Removals(office.server)
    first.kill()
    removal = removals.next(timeout=20)
    assert removal.reason == Reason.EXPIRED
    removals.close()
    server.wait(r"client1/.*SIGTERM\[soft,ovpn-dco: ping expired\]", timeout=5)
    assert ping(second.namespace, SERVER_VPN.ipv4).complete
    assert not server.find(r"client2/.*SIGTERM")
    # And it may come again.
    end(first)
    first.start()
    first.wait_ready()
    reach(first.namespace, SERVER_VPN.ipv4)
    assert server.is_running()


@pytest.mark.parametrize("protocol", ["udp4", "tcp4"])
def test_reconnect_after_server_restart(
    office: Office, daemons: list[Daemon], protocol: str
) -> None:
    """The server is killed and comes back; over TCP, the client's connection is reset under it."""
    daemons += [
        office.server_daemon("keepalive 1 4", protocol=protocol),
        office.client_daemon(1, protocol=protocol),
    ]
    server, client = daemons
    connect(*daemons)
    reach(client.namespace, SERVER_VPN.ipv4)
    end(server)
    server.start()
    server.wait_ready()
    client.wait("Initialization Sequence Completed", timeout=45, count=2)
    reach(client.namespace, SERVER_VPN.ipv4)
    assert server.is_running() and client.is_running()


def test_server_restarts_on_signal(office: Office, daemons: list[Daemon]) -> None:
    """SIGHUP: the server tears its interface down and makes it anew."""
    daemons += [office.server_daemon("keepalive 1 4"), office.client_daemon(1)]
    server, client = daemons
    connect(*daemons)
    server.signal(signal.SIGHUP)
    server.wait("Initialization Sequence Completed", timeout=30, count=2)
    client.wait("Initialization Sequence Completed", timeout=45, count=2)
    reach(client.namespace, SERVER_VPN.ipv4)


def test_reconnecting_client_replaces_itself(office: Office, daemons: list[Daemon]) -> None:
    """SIGUSR1 at the client: a new session of the same client, again and again."""
    daemons += [office.server_daemon(), office.client_daemon(1)]
    server, client = daemons
    connect(*daemons)
    for number in (2, 3):
        client.signal(signal.SIGUSR1)
        client.wait("Initialization Sequence Completed", timeout=30, count=number)
        reach(client.namespace, SERVER_VPN.ipv4)
    control = Control(office.server)
    peers = control.peers(office.server.index("tun0"))
    control.close()
    assert len(peers) == 1, peers
    assert server.is_running()


@pytest.mark.smoke
def test_udp6_outside(office: Office, daemons: list[Daemon]) -> None:
    daemons += [
        office.server_daemon(protocol="udp6", name="server-udp6"),
        office.client_daemon(1, protocol="udp6", name="client1-udp6"),
    ]
    connect(*daemons)
    client = daemons[1].namespace
    reach(client, SERVER_VPN.ipv4)
    assert ping(client, SERVER_VPN.ipv6).complete
    assert ping(office.server, CLIENT_VPN["client1"].ipv4, size=1472).complete
    control = Control(office.server)
    (peer,) = control.peers(office.server.index("tun0"))
    control.close()
    assert peer.remote is not None and peer.remote[0] == "2001:db8::11"


@pytest.mark.parametrize("cipher", CIPHERS)
def test_other_ciphers(office: Office, daemons: list[Daemon], cipher: str) -> None:
    daemons += [
        office.server_daemon(name=f"server-{cipher}", cipher=cipher),
        office.client_daemon(1, name=f"client1-{cipher}", cipher=cipher),
    ]
    connect(*daemons)
    for daemon in daemons:
        assert daemon.find(f"Data Channel: cipher '{cipher}'"), daemon.tail()
        assert daemon.find("DCO device tun0 opened"), daemon.tail()
    client = daemons[1].namespace
    reach(client, SERVER_VPN.ipv4)
    assert iperf.measure(office.server, client, SERVER_VPN.ipv4, seconds=2).bytes > 0


def test_renegotiation_loses_nothing(office: Office, daemons: list[Daemon]) -> None:
    """New keys every 10 s, under pings: keys come, change places and go; no ping is lost.

    See `office.RENEGOTIATE` for why both ends are told.
    """
    on_server, on_client = RENEGOTIATE
    daemons += [
        office.server_daemon(on_server, name="server-reneg"),
        office.client_daemon(1, on_client, name="client1-reneg"),
    ]
    server, client = daemons
    connect(*daemons)
    reach(client.namespace, SERVER_VPN.ipv4)
    pinger = client.namespace.start(
        *("ping", "-n", "-q", "-i", "0.05", "-w", "26", "-W", "2", SERVER_VPN.ipv4)
    )
    try:
        output, _ = pinger.communicate(timeout=45)
    finally:
        if pinger.poll() is None:
            pinger.kill()
            pinger.communicate()
    totals = re.search(r"(\d+) packets transmitted, (\d+) received", output)
    assert totals, output
    sent, received = map(int, totals.groups())
    # The last one may still be on its way when time is up.
    assert sent > 100 and sent - received <= 1, output
    assert len(server.find(r"client1/.*Data Channel: cipher|TLS: soft reset")) >= 3, server.tail()
    assert server.is_running() and client.is_running()
    assert not server.find("netlink reports"), server.tail()


@pytest.mark.parametrize("protocol", ["udp4", "tcp4"])
@pytest.mark.parametrize("plain", ["server", "client"])
def test_one_end_without_offload(
    office: Office, daemons: list[Daemon], plain: str, protocol: str
) -> None:
    """Our module against OpenVPN's own data channel."""
    command.run("modprobe", "tun")
    more = {plain: ["disable-dco"]}
    server = office.server_daemon(*more.get("server", []), name="server-x", protocol=protocol)
    client = office.client_daemon(1, *more.get("client", []), name="client1-x", protocol=protocol)
    daemons += [server, client]
    connect(*daemons)
    offloaded = client if plain == "server" else server
    assert offloaded.find("DCO device tun0 opened"), offloaded.tail()
    assert not (server if plain == "server" else client).find("DCO device tun0 opened")
    reach(client.namespace, SERVER_VPN.ipv4)
    assert ping(client.namespace, SERVER_VPN.ipv6).complete
    assert ping(office.server, CLIENT_VPN["client1"].ipv4, size=1400).complete
    assert iperf.measure(office.server, client.namespace, SERVER_VPN.ipv4, seconds=2).bytes > 0


def test_peer_expires_while_its_key_is_installed(office: Office, daemons: list[Daemon]) -> None:
    """The daemon outlives a peer that the kernel removed behind its back.

    The server is stopped (as when it is busy with others) while a client dies and its
    peer expires; when it goes on, it handles the renegotiation with a peer that is gone.
    """
    daemons += [
        office.server_daemon("keepalive 1 3", "reneg-sec 5 5", name="server-busy"),
        office.client_daemon(1),
        office.client_daemon(2),
    ]
    server, first, second = daemons
    connect(*daemons)
    reach(first.namespace, SERVER_VPN.ipv4)
    for _ in range(2):
        server.signal(signal.SIGSTOP)
        first.signal(signal.SIGSTOP)
        time.sleep(8)
        server.signal(signal.SIGCONT)
        first.signal(signal.SIGCONT)
        time.sleep(2)
        assert server.is_running(), server.tail()
    first.wait("Initialization Sequence Completed", timeout=30)
    reach(first.namespace, SERVER_VPN.ipv4, timeout=30)
    assert server.is_running(), server.tail()


def test_module_cannot_be_lost_by_the_daemon(office: Office, daemons: list[Daemon]) -> None:
    """The module is unloaded under a running server: it ends, or says so; nothing else breaks."""
    daemons += [office.server_daemon(), office.client_daemon(1)]
    connect(*daemons)
    reach(office.clients[0], SERVER_VPN.ipv4)
    try:
        command.run("rmmod", module.NAME)
        for namespace in office.namespaces():
            assert not namespace.has("tun0")
        for daemon in reversed(daemons):
            daemon.stop(timeout=10)
    finally:
        end(*daemons)
        module.ensure_loaded()
    connect(*daemons)
    reach(office.clients[0], SERVER_VPN.ipv4)


def test_many_restarts_leave_nothing(office: Office, daemons: list[Daemon]) -> None:
    """Killed under traffic, three times: the interface goes, the module is free at the end."""
    server, client = office.server_daemon(), office.client_daemon(1)
    daemons += [server, client]
    for _ in range(3):
        connect(server, client)
        reach(client.namespace, SERVER_VPN.ipv4)
        flood = client.namespace.start("ping", "-f", "-q", "-w", "20", SERVER_VPN.ipv4)
        try:
            time.sleep(0.3)
            for daemon in (server, client):
                end(daemon)
                assert not daemon.namespace.has("tun0")
        finally:
            command.stop(flood)
    assert module.users() == 0


@pytest.mark.smoke
@pytest.mark.parametrize("protocol", ["tcp4", "tcp6"])
def test_tcp_outside(office: Office, daemons: list[Daemon], protocol: str) -> None:
    """Data packets stay in the kernel, control packets reach the daemons by the same connection."""
    daemons += [
        office.server_daemon("reneg-sec 10 10", protocol=protocol, name=f"server-{protocol}"),
        office.client_daemon(1, "reneg-sec 0", protocol=protocol, name=f"client1-{protocol}"),
        office.client_daemon(2, "reneg-sec 0", protocol=protocol, name=f"client2-{protocol}"),
    ]
    server, client, other = daemons
    connect(*daemons)
    for daemon in daemons:
        assert daemon.find("DCO device tun0 opened"), daemon.tail()
    reach(client.namespace, SERVER_VPN.ipv4)
    reach(other.namespace, SERVER_VPN.ipv4)
    assert ping(client.namespace, SERVER_VPN.ipv6).complete
    assert ping(client.namespace, CLIENT_VPN["client2"].ipv4).complete
    assert ping(office.server, CLIENT_VPN["client1"].ipv4, size=1472).complete
    assert iperf.measure(office.server, client.namespace, SERVER_VPN.ipv4, seconds=3).bytes > 0
    # New keys have been agreed on over the connection that the data goes over.
    server.wait(r"client\d/.* Control Channel: TLS", timeout=30, count=2)
    assert ping(client.namespace, SERVER_VPN.ipv4).complete
    assert ping(other.namespace, SERVER_VPN.ipv4).complete


def test_tcp_client_killed(office: Office, daemons: list[Daemon]) -> None:
    """The connection of a daemon that is killed closes: its peer goes, and the next one comes."""
    daemons += [
        office.server_daemon(protocol="tcp4", name="server-killed"),
        office.client_daemon(1, protocol="tcp4", name="client1-killed"),
    ]
    server, client = daemons
    connect(*daemons)
    reach(client.namespace, SERVER_VPN.ipv4)
    control = Control(office.server)
    index = office.server.index("tun0")
    assert len(control.peers(index)) == 1
    end(client)
    waiting.until(lambda: not control.peers(index), "the peer to go", 10)
    control.close()
    client.start()
    client.wait_ready()
    reach(client.namespace, SERVER_VPN.ipv4)
    assert server.is_running()
