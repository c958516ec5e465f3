# SPDX-License-Identifier: GPL-2.0
"""The socket is the daemon's: its packets, and what is no data packet at all."""

from __future__ import annotations

import contextlib
import os

import pytest
from conftest import OUTER, MakeEndpoint, MakeInterface
from ovpnlab import packet, waiting
from ovpnlab.forgery import forgeries
from ovpnlab.interface import Interface, udp_socket
from ovpnlab.namespace import Namespace
from ovpnlab.wire import Endpoint


@pytest.mark.smoke
@pytest.mark.parametrize("version", [4, 6])
def test_control_packets_reach_the_daemon(
    interface: MakeInterface, endpoint: MakeEndpoint, beta: Namespace, version: int
) -> None:
    """Untouched, of peers and strangers, of all opcodes but one; and data packets do not."""
    near, far = OUTER[version]
    end = interface(outer=near)
    wire = endpoint(end, 1, "10.8.0.2", address=far)
    end.transport.settimeout(5)
    stranger = udp_socket(beta, far)
    for opcode in (1, 3, 4, 5, 6, 7, 8, 10, 11, 0, 31):
        for sender, size in ((wire.socket, 50), (stranger, 1200), (wire.socket, 3)):
            sent = bytes([opcode << 3 | 2]) + os.urandom(size)
            sender.sendto(sent, end.address)
            got, source = end.transport.recvfrom(65536)
            assert (got, source[:2]) == (sent, sender.getsockname()[:2])
    stranger.close()
    wire.echo("10.8.0.2", "10.8.0.1")
    for each in forgeries(wire):
        wire.send_raw(each)
    end.transport.settimeout(0.3)
    with pytest.raises(TimeoutError):
        end.transport.recv(65536)
    # And the other way: the daemon's own packets go out as they are.
    end.transport.sendto(b"\x20 from the daemon", wire.address)
    assert wire.receive_raw() == (b"\x20 from the daemon", end.address)


@pytest.mark.differs_from_c("it drops packets of less than 4 bytes")
def test_tiny_control_packets_reach_the_daemon(one: tuple[Interface, Endpoint]) -> None:
    end, wire = one
    end.transport.settimeout(5)
    for sent in (b"\x28", b"\x28\x01", b"\x28\x01\x02", b""):
        wire.send_raw(sent)
        assert end.transport.recv(100) == sent


def test_big_control_packet_in_fragments(one: tuple[Interface, Endpoint]) -> None:
    end, wire = one
    sent = b"\x20" + os.urandom(8000)
    wire.send_raw(sent)
    end.transport.settimeout(5)
    assert end.transport.recv(65536) == sent


def test_truncated_data_packets(one: tuple[Interface, Endpoint]) -> None:
    """DATA_V2 that ends in its header: dropped, not handed up, not counted, not fatal."""
    end, wire = one
    good = wire.seal(packet.echo_request("10.8.0.2", "10.8.0.1"))
    for length in range(4, 25):
        wire.send_raw(good[:length])
    end.transport.settimeout(0.3)
    with pytest.raises(TimeoutError):
        end.transport.recv(65536)
    assert end.peer(1).vpn_rx.packets == 0
    assert wire.echo("10.8.0.2", "10.8.0.1", 2)


def test_socket_is_free_after_the_last_peer(one: tuple[Interface, Endpoint]) -> None:
    """Without peers, the socket is a plain one: data packets come to its owner, too."""
    end, wire = one
    end.control.del_peer(end.index, 1)
    end.transport.settimeout(0.2)
    datagram = wire.seal(b"whatever")

    def arrives() -> bool:
        wire.send_raw(datagram)
        with contextlib.suppress(TimeoutError):
            return end.transport.recv(2048) == datagram
        return False

    waiting.until(arrives, "a data packet at the socket", timeout=5)
