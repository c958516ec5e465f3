# SPDX-License-Identifier: GPL-2.0
"""Fifty OpenVPN clients at once on one server."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from ovpnlab import kmemleak, module
from ovpnlab.crowd import Crowd
from ovpnlab.family import Control
from ovpnlab.office import Office
from ovpnlab.openvpn import Daemon

SIZE = 50
PINGS = 4
# An IPv4 ping of the default size, with what OpenVPN adds.
PING_BYTES = 84 + 24


@pytest.fixture
def crowd(office: Office) -> Iterator[Crowd]:
    """The clients, not connected yet."""
    made = Crowd(office, SIZE)
    yield made
    made.close()


@pytest.mark.timeout(420 * kmemleak.slowness())
def test_fifty_clients(office: Office, daemons: list[Daemon], crowd: Crowd) -> None:
    """All connect at once, are served and counted, and the server ends with all of them."""
    server = office.server_daemon("duplicate-cn", "hand-window 120", name="server-crowd")
    daemons.append(server)
    server.start()
    server.wait_ready()
    crowd.connect(timeout=240 * kmemleak.slowness())
    for client in crowd.clients:
        assert client.find(r"DCO device tun\d+ opened"), client.tail()

    control = Control(office.server)
    index = office.server.index("tun0")
    try:
        before = {peer.peer_id: peer for peer in control.peers(index)}
        failed = crowd.ping_server(PINGS)
        assert not failed, f"{len(failed)} clients lost pings: {failed}"
        after = {peer.peer_id: peer for peer in control.peers(index)}
        assert len(after) == SIZE and set(after) == set(before)
        assert len({peer.ipv4 for peer in after.values()}) == SIZE
        assert len({peer.remote for peer in after.values()}) == SIZE
        for number, peer in after.items():
            for got, had in (
                (peer.link_rx, before[number].link_rx),
                (peer.link_tx, before[number].link_tx),
            ):
                moved = got.bytes - had.bytes
                assert moved >= PINGS * PING_BYTES, f"peer {number} moved {moved} bytes"

        began = time.time()
        # A client that began anew leaves a handshake behind, which has no name yet.
        rows = [row for row in server.server_clients(newer_than=began) if row.name == "crowd"]
        assert len(rows) == SIZE, f"the status file shows {len(rows)} clients, not {SIZE}"
        by_address = {peer.ipv4: peer for peer in after.values()}
        for row in rows:
            # OpenVPN adds the control packets, which it counts itself.
            assert row.received >= by_address[row.ipv4].link_rx.bytes, row
            assert row.sent >= by_address[row.ipv4].link_tx.bytes, row
    finally:
        control.close()
    server.stop(timeout=15)
    office.server.wait_gone("tun0", timeout=1)
    crowd.kill()
    assert module.users() == 0
