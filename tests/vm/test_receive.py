# SPDX-License-Identifier: GPL-2.0
"""What comes out of the tunnel for UDP sockets, with and without receive offload."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

import pytest
from ovpnlab.namespace import Namespace
from ovpnlab.train import UDP_SEGMENT

UDP_GRO = 104
NEAR = {4: "10.8.0.1", 6: "fd00:8::1"}
FAR = {4: "10.8.0.2", 6: "fd00:8::2"}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}

pytestmark = pytest.mark.usefixtures("one_processor")


def _receiver(namespace: Namespace, version: int, joined: bool) -> socket.socket:
    sock = namespace.socket(FAMILIES[version], socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, joined)
    sock.settimeout(10)
    sock.bind((FAR[version], 0))
    return sock


def _received(sock: socket.socket, total: int) -> list[bytes]:
    """What comes, until it is `total` bytes."""
    messages: list[bytes] = []
    while (left := total - sum(map(len, messages))) > 0:
        try:
            messages.append(sock.recv(1 << 16))
        except TimeoutError:
            pytest.fail(f"{left} of {total} bytes did not come")
    return messages


@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("version", [4, 6])
def test_a_train_of_udp(
    pair: Callable, alpha: Namespace, beta: Namespace, version: int, joined: bool
) -> None:
    """It is joined for a socket that asks for that, and only for such a one."""
    pair()
    data = b"".join(bytes([n]) * 1000 for n in range(20))
    with (
        alpha.socket(FAMILIES[version], socket.SOCK_DGRAM) as sock,
        _receiver(beta, version, joined) as receiver,
    ):
        control = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", 1000))]
        sock.sendmsg([data], control, 0, receiver.getsockname())
        messages = _received(receiver, len(data))
    assert b"".join(messages) == data, "the bytes came in another order"
    sizes = [len(message) for message in messages]
    if joined:
        assert len(sizes) < 20, f"20 packets of a flow were not joined: {sizes}"
    else:
        assert sizes == [1000] * 20, f"what came is {sizes}"


@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("version", [4, 6])
def test_order_of_mixed_packets(
    pair: Callable, alpha: Namespace, beta: Namespace, version: int, joined: bool
) -> None:
    """Small and large ones, alone and in trains, of one flow: none overtakes another."""
    pair()
    sent = bytearray()
    with (
        alpha.socket(FAMILIES[version], socket.SOCK_DGRAM) as sock,
        _receiver(beta, version, joined) as receiver,
    ):
        for n in range(40):
            size, count = (30, 1200, 300)[n % 3], (1, 4, 1, 1, 9)[n % 5]
            data = bytes([n]) * (size * count)
            control = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", size))]
            sock.sendmsg([data], control, 0, receiver.getsockname())
            sent += data
        messages = _received(receiver, len(sent))
    assert b"".join(messages) == sent, "the bytes came in another order"
