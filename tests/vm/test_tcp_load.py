# SPDX-License-Identifier: GPL-2.0
"""A peer over TCP under load: bulk, a reader that does not read, a slow link with losses."""

from __future__ import annotations

import contextlib
import functools
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import pytest
from ovpnlab import iperf, kmemleak, link, logs, stream
from ovpnlab.family import KeyPair
from ovpnlab.flow import Flow, Result
from ovpnlab.interface import Interface
from ovpnlab.namespace import Namespace
from ovpnlab.network import cable
from ovpnlab.openvpn import Daemon
from ovpnlab.ping import ping
from ovpnlab.pki import Pki
from ovpnlab.stream import control, frame
from ovpnlab.tcp_peer import FAR, TcpLab
from ovpnlab.waiting import until
from ovpnlab.wire import DATA_V2

QUEUE = 1024  # packets that may wait for the connection to take them


@pytest.mark.smoke
@pytest.mark.parametrize("version", [4, 6])
def test_bulk(alpha: Namespace, beta: Namespace, version: int) -> None:
    """TCP, in packets larger than the wire takes, through TCP, in both directions."""
    with contextlib.ExitStack() as stack:
        ends = []
        keys = KeyPair.random()
        sockets = stream.connect(alpha, beta, FAR[version])
        for number, namespace in enumerate((alpha, beta), start=1):
            addresses = (f"10.8.0.{number}/24", f"fd00:8::{number}/64")
            end = Interface(namespace, None, *addresses)
            stack.callback(end.close)
            ends.append(end)
        for end, sock, pair in zip(ends, sockets, (keys, keys.flipped()), strict=True):
            stack.callback(sock.close)
            end.control.new_peer(end.index, 1, sock)
            end.add_key(1, pair)
        assert ping(alpha, "10.8.0.2").complete
        assert ping(alpha, "fd00:8::2", size=1400).complete
        for address, backwards in (("10.8.0.2", False), ("fd00:8::2", True)):
            moved = iperf.measure(beta, alpha, address, amount="2M", reverse=backwards)
            print(f"{address}, {'backwards' if backwards else 'forwards'}: {moved}")
        # The programs are done before what they sent last is through the connection.
        for here, there in (ends, reversed(ends)):
            with contextlib.suppress(TimeoutError):
                until(functools.partial(_all_arrived, here, there), "all has arrived")
            sent, received = here.peer(1).link_tx, there.peer(1).link_rx
            assert sent == received, "the connection lost packets"
        assert ends[1].peer(1).link_rx.packets > 500


def _all_arrived(here: Interface, there: Interface) -> bool:
    return here.peer(1).link_tx == there.peer(1).link_rx


@pytest.mark.parametrize("send_buffer", [4608, None], ids=["small buffer", "default buffer"])
def test_far_end_does_not_read(alpha: Namespace, beta: Namespace, send_buffer: int | None) -> None:
    """Packets are dropped, counted and do not block; the daemon's go out whole; all goes on."""
    count, size = 6000, 1000
    with TcpLab(alpha, beta) as lab:
        peer = lab.peer(send_buffer=send_buffer, receive_buffer=4608)
        before = link.get(alpha, "tun0").statistics
        began = time.monotonic()
        peer.flood(count, size)
        seconds = time.monotonic() - began
        assert seconds < 20 * kmemleak.slowness(), f"{count} packets took {seconds:.1f} s"
        messages = [control(number, 500) for number in range(20)]
        peer.daemon.setblocking(False)
        for message in messages:
            assert peer.daemon.send(frame(message)) == len(message) + 2

        dropped = link.get(alpha, "tun0").statistics["tx_dropped"] - before["tx_dropped"]
        kept = count - dropped
        # What the buffers of the sockets hold, at its most.
        buffered = peer.daemon.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // size + 20
        assert QUEUE <= kept <= QUEUE + buffered, f"{kept} of {count} packets are kept"

        got: list[bytes] = []
        data = 0
        while len(got) < len(messages) or data < kept:
            received, _ = peer.far.receive_raw(10)
            if received[0] >> 3 == DATA_V2:
                peer.far.open(received)
                data += 1
            else:
                got.append(received)
        assert got == messages
        peer.ping(timeout=2)


# -- a slow link with losses --------------------------------------------------------------

VPN = "10.7.0"
SECONDS = 20
PAUSE = 5


class SlowTunnel:
    """OpenVPN over TCP, point to point, over a link with 100 ms and 1 % loss."""

    def __init__(self, name: str, pki: Pki, directory: Path, *more: str) -> None:
        self.namespaces = Namespace(f"{name}-1"), Namespace(f"{name}-2")
        one, other = self.namespaces
        cable(one, "eth0", ("192.0.2.1/24",), other, "eth0", ("192.0.2.2/24",))
        identities = [pki.self_signed(f"{name}-1"), pki.self_signed(f"{name}-2")]
        self.daemons = []
        for own, namespace in enumerate(self.namespaces):
            options = [
                "dev tun0",
                "proto tcp4-server" if own == 0 else "proto tcp4-client",
                "port 1194" if own == 0 else "remote 192.0.2.1 1194",
                "tls-server" if own == 0 else "tls-client",
                "dh none" if own == 0 else "connect-retry 1 2",
                f"cert {identities[own].certificate}",
                f"key {identities[own].key}",
                f"peer-fingerprint {identities[1 - own].fingerprint()}",
                f"ifconfig {VPN}.{1 + own} {VPN}.{2 - own}",
                "data-ciphers AES-256-GCM",
                "cipher AES-256-GCM",
                "keepalive 5 60",
                "sndbuf 32768",
                "verb 3",
                *more,
            ]
            self.daemons.append(Daemon(namespace.name, namespace, directory, options))

    def start(self) -> None:
        """Start both daemons; they need some seconds."""
        for daemon in self.daemons:
            daemon.start()

    def slow_down(self) -> None:
        """From now on the link is slow and loses packets."""
        for namespace in self.namespaces:
            namespace.run(
                *("tc", "qdisc", "add", "dev", "eth0", "root", "netem"),
                *("delay", "50ms", "loss", "1%", "limit", "1000", "seed", "42"),
            )

    def measure(self) -> Flow:
        """Begin to send from the first to the second."""
        return Flow(*self.namespaces, f"{VPN}.2", SECONDS)

    def close(self) -> None:
        """End the daemons and take the link away."""
        for daemon in self.daemons:
            daemon.kill()
        for namespace in self.namespaces:
            namespace.close()


@pytest.fixture
def tunnels(loaded: None, results: Path) -> Iterator[tuple[SlowTunnel, SlowTunnel]]:
    """With the module and without, ready."""
    with contextlib.ExitStack() as stack:
        secrets = stack.enter_context(TemporaryDirectory(prefix="pki-"))
        pki = Pki(Path(secrets))
        directory = Path(mkdtemp(prefix="slow-"))
        stack.callback(logs.keep, directory, results / "slow")
        made = (
            SlowTunnel("slow", pki, directory),
            SlowTunnel("user", pki, directory, "disable-dco"),
        )
        for tunnel in made:
            stack.callback(tunnel.close)
            tunnel.start()
        for tunnel in made:
            for daemon in tunnel.daemons:
                daemon.wait_ready()
            tunnel.slow_down()
        yield made


def test_slow_link_with_losses(tunnels: tuple[SlowTunnel, SlowTunnel]) -> None:
    """As fast as OpenVPN without the module over an equal link at the same time; no long pause."""
    for tunnel, dco in zip(tunnels, (True, False), strict=True):
        for daemon in tunnel.daemons:
            assert bool(daemon.find("DCO device tun0 opened")) == dco, daemon.tail()
        assert ping(tunnel.namespaces[0], f"{VPN}.2", attempts=5).complete
    flows = [tunnel.measure() for tunnel in tunnels]
    ours, theirs = (flow.result() for flow in flows)
    report = f"with the module {ours}; without {theirs}"
    print(report)
    assert isinstance(ours, Result)
    assert ours.longest_pause < PAUSE, report
    assert ours.kbit_per_second >= 0.8 * theirs.kbit_per_second, report
    # And it is not stuck afterwards.
    until(
        lambda: ping(tunnels[0].namespaces[0], f"{VPN}.2", count=1, wait=2).complete,
        "a ping after the bulk",
        timeout=30,
    )
