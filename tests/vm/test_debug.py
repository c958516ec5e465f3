# SPDX-License-Identifier: GPL-2.0
"""The module built with DEBUG=1: the cipher `none`, and keys that run out of packet ids."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import MakeEndpoint, MakeInterface, Refused
from ovpnlab import command, link, module, packet, waiting
from ovpnlab.family import Cipher, KeyPair, Slot
from ovpnlab.interface import Interface, udp_socket
from ovpnlab.kernel_log import KernelLog
from ovpnlab.namespace import Namespace
from ovpnlab.ping import ping
from ovpnlab.wire import Endpoint

LAST = 0xFFFFFFFF
PARAMETER = Path("/sys/module", module.NAME, "parameters/first_packet_id")
SAYS = "debug build: cipher `none` may be used, which protects nothing"


@pytest.fixture(scope="module", autouse=True)
def log() -> Iterator[str]:
    """The debug build is loaded in place of the other; what the kernel log said of it."""
    path = os.environ.get("OVPN_DCO_DEBUG_KO")
    if not path:
        pytest.skip("OVPN_DCO_DEBUG_KO is not set: no debug build is here")
    module.ensure_unloaded()
    kernel_log = KernelLog()
    module.load(Path(path))
    yield kernel_log.tail()
    kernel_log.close()
    module.unload()


@pytest.fixture
def first_packet_id() -> Iterator[Callable[[int], None]]:
    """Sets the id that new keys begin with."""

    def set_to(number: int) -> None:
        PARAMETER.write_text(f"{number}\n")

    yield set_to
    set_to(1)


# -- the cipher none ----------------------------------------------------------------------


def test_kernel_log_says_so(log: str) -> None:
    assert SAYS in log, f"the kernel log of loading a debug build:\n{log}"


def test_cipher_none(pair: Callable) -> None:
    """Traffic flows, in the clear."""
    near, far = pair(cipher=Cipher.NONE)
    for address in ("10.8.0.2", "fd00:8::2"):
        assert ping(near.namespace, address, size=1200).complete
    tap = udp_socket(far.namespace, "192.0.2.2")
    with tap:
        near.control.del_peer(near.index, 21)
        near.namespace.sysctl("ipv6.conf.tun0.disable_ipv6", 1)  # nothing but the test sends
        none = KeyPair.random(5, Cipher.NONE)
        near.add_peer(21, tap.getsockname(), none, ipv4="10.8.0.2")
        near.say("10.8.0.2", b"for all to read")
        tap.settimeout(5)
        seen = tap.recv(2048)
    assert seen[:24] == bytes.fromhex("4d000015 00000001") + bytes(16), "header and no tag"
    assert packet.parse(seen[24:]).payload[8:] == b"for all to read"


def test_release_build_refuses_cipher_none(
    alpha: Namespace, beta: Namespace, refused: Refused
) -> None:
    """And says why; its kernel log has nothing of a debug build."""
    debug = os.environ["OVPN_DCO_DEBUG_KO"]
    module.unload()
    log = KernelLog()
    try:
        module.load()
        end = Interface(alpha, "192.0.2.1", "10.8.0.1/24")
        try:
            end.add_peer(1, ("192.0.2.2", 9))
            with refused(errno.EOPNOTSUPP):
                end.add_key(1, KeyPair.random(cipher=Cipher.NONE))
        finally:
            end.close()
        assert SAYS not in log.tail()
        assert not PARAMETER.exists(), "the release build can be told to reuse packet ids"
    finally:
        log.close()
        module.ensure_unloaded()
        module.load(Path(debug))


# -- packet ids ---------------------------------------------------------------------------


def _drops(end: Interface) -> int:
    return link.get(end.namespace, end.name).statistics["tx_dropped"]


def test_key_runs_out_of_packet_ids(
    interface: MakeInterface, endpoint: MakeEndpoint, first_packet_id: Callable[[int], None]
) -> None:
    """The last ids are used once each; then nothing is sealed until there is a new key."""
    first_packet_id(LAST - 2)
    end = interface("10.8.0.1/24")
    wire = endpoint(end, 1, "10.8.0.2")
    seen = [wire.echo("10.8.0.2", "10.8.0.1", number).packet_id for number in (1, 2, 3)]
    assert seen == [LAST - 2, LAST - 1, LAST]
    before, told = _drops(end), end.peer(1)
    for _ in range(20):
        end.say("10.8.0.2")
    assert wire.is_silent(0.3), "something was sealed with a key that has no ids left"
    assert _drops(end) == before + 20, "what was not sealed is counted"
    assert end.peer(1).link_tx == told.link_tx
    # Opening goes on: the other end's ids have not run out.
    wire.send(packet.echo_request("10.8.0.2", "10.8.0.1", 4))
    waiting.until(
        lambda: end.peer(1).vpn_rx.packets == told.vpn_rx.packets + 1, "a packet is opened"
    )
    assert wire.is_silent(0.2)
    # The keepalive needs an id, too.
    end.control.set_peer(end.index, 1, 1, 0)
    with pytest.raises(TimeoutError):
        wire.receive(timeout=2.5)
    end.control.set_peer(end.index, 1, 0, 0)

    first_packet_id(1)
    keys = KeyPair.random(1)
    wire.add_key(keys)
    end.add_key(1, keys.flipped(), Slot.SECONDARY)
    assert wire.is_silent(0.2)
    end.control.swap_keys(end.index, 1)
    reply = wire.echo("10.8.0.2", "10.8.0.1", 5, key_id=1)
    assert (reply.key_id, reply.packet_id) == (1, 1)
    # The old key does not come back to life by changing places.
    end.control.swap_keys(end.index, 1)
    end.say("10.8.0.2")
    assert wire.is_silent(0.2)


def test_ids_run_out_within_a_gso_packet(
    interface: MakeInterface, endpoint: MakeEndpoint, first_packet_id: Callable[[int], None]
) -> None:
    """Ten segments and four ids: none is used twice, none comes after the last."""
    first_packet_id(LAST - 3)
    end = interface("10.8.0.1/24")
    wire = endpoint(end, 1, "10.8.0.2")
    before = _drops(end)
    udp_segment = 103
    with udp_socket(end.namespace, "10.8.0.1") as sock:
        sock.setsockopt(socket.IPPROTO_UDP, udp_segment, 100)
        for _ in range(3):
            sock.sendto(bytes(1000), ("10.8.0.2", 9))
    seen = _packet_ids(wire)
    assert len(seen) <= 4 and seen == list(range(LAST - 3, LAST + 1))[: len(seen)], seen
    assert _drops(end) - before == 30 - len(seen), "what was not sealed is counted"


def _packet_ids(wire: Endpoint) -> list[int]:
    """The packet ids of all that comes until nothing comes any more."""
    seen = []
    try:
        while True:
            seen.append(wire.receive(0.5).packet_id)
    except TimeoutError:
        return seen


def test_ids_run_out_on_two_cpus(
    interface: MakeInterface, beta: Namespace, first_packet_id: Callable[[int], None]
) -> None:
    """Two senders race for the last 300 ids: each id is seen once, in whatever order."""
    first_packet_id(LAST - 299)
    end = interface("10.8.0.1/24")
    keys = KeyPair.random()
    wire = Endpoint(beta, "192.0.2.2", end.address, 1, keys)
    so_rcvbufforce = 33
    wire.socket.setsockopt(socket.SOL_SOCKET, so_rcvbufforce, 1 << 22)
    try:
        end.add_peer(1, wire.address, keys.flipped(), "10.8.0.2")
        argv = ("ping", "-f", "-q", "-l", "200", "-c", "200", "-W", "0.1", "10.8.0.2")
        senders = [end.namespace.start("taskset", "-c", cpu, *argv) for cpu in ("0", "1")]
        try:
            waiting.until(lambda: all(s.poll() is not None for s in senders), "both sent", 60)
        finally:
            for sender in senders:
                command.stop(sender)
        seen = _packet_ids(wire)
    finally:
        wire.close()
    assert len(seen) == 300, f"{len(seen)} packets were sent under 300 packet ids"
    assert sorted(seen) == list(range(LAST - 299, LAST + 1))
