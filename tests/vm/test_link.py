# SPDX-License-Identifier: GPL-2.0
"""The link type `ovpn-dco`: what an interface is, what may be done to it, how it goes."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterator

import pytest
from conftest import OUTER, Refused
from ovpnlab import command, kmemleak, link, module, waiting
from ovpnlab.family import KeyPair, Reason, Removals
from ovpnlab.firewall import Firewall
from ovpnlab.interface import Interface
from ovpnlab.namespace import Namespace
from ovpnlab.netlink import attribute
from ovpnlab.network import cable
from ovpnlab.ping import ping

OVERHEAD = 24 + 8 + 40  # DATA_V2, UDP, IPv6


@pytest.fixture(autouse=True)
def no_interfaces(alpha: Namespace, beta: Namespace) -> Iterator[None]:
    """Whatever a test leaves in the namespaces goes."""
    yield
    for namespace in (alpha, beta):
        for name in set(namespace.interfaces()) - {"lo", "eth0"}:
            link.delete(namespace, name)


@pytest.fixture
def tunnel(alpha: Namespace, beta: Namespace) -> Iterator[list[Interface]]:
    """A P2P tunnel between the namespaces, keys and all."""
    ends = [
        Interface(alpha, "192.0.2.1", "10.8.0.1/24"),
        Interface(beta, "192.0.2.2", "10.8.0.2/24"),
    ]
    keys = KeyPair.random()
    ends[0].add_peer(1, ends[1].address, keys)
    ends[1].add_peer(1, ends[0].address, keys.flipped())
    yield ends
    for end in ends:
        end.close()


# -- creation -----------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize("mode", [link.MODE_P2P, link.MODE_MP])
@pytest.mark.differs_from_c("it does not report the mode")
def test_mode_is_reported(alpha: Namespace, mode: int) -> None:
    link.create(alpha, "tun0", mode)
    found = link.get(alpha, "tun0")
    assert found.kind == "ovpn-dco"
    assert found.data == {link.IFLA_OVPN_MODE: bytes([mode])}


@pytest.mark.differs_from_c("it does not report the mode")
def test_default_mode_is_p2p(alpha: Namespace) -> None:
    link.create(alpha, "tun0")
    assert link.get(alpha, "tun0").mode == link.MODE_P2P


@pytest.mark.parametrize("mode", [2, 7, 255])
def test_bad_mode(alpha: Namespace, refused: Refused, mode: int) -> None:
    with refused(errno.ERANGE, errno.EINVAL):
        link.create(alpha, "tun0", mode)
    assert not alpha.has("tun0")


def test_empty_mode(alpha: Namespace, refused: Refused) -> None:
    with refused(errno.ERANGE, errno.EINVAL):
        link.create(alpha, "tun0", data=attribute(link.IFLA_OVPN_MODE, b""))
    assert not alpha.has("tun0")


@pytest.mark.smoke
def test_flags_and_type(alpha: Namespace) -> None:
    link.create(alpha, "tun0")
    found = link.get(alpha, "tun0")
    wanted = link.IFF_POINTOPOINT | link.IFF_NOARP | link.IFF_MULTICAST
    assert found.flags == wanted
    assert found.hardware == link.ARPHRD_NONE
    link.set_up(alpha, "tun0")
    assert link.get(alpha, "tun0").flags & (wanted | link.IFF_UP) == wanted | link.IFF_UP


def test_features(alpha: Namespace) -> None:
    """Segmentation and checksums are left to the module: big packets reach it whole."""
    link.create(alpha, "tun0")
    shown = alpha.run("ethtool", "-k", "tun0")
    for feature in ("scatter-gather", "tx-checksumming", "generic-segmentation-offload"):
        assert re.search(rf"^{feature}: on", shown, re.MULTILINE), shown
    assert re.search(r"^tcp-segmentation-offload: on", shown, re.MULTILINE), shown


@pytest.mark.smoke
def test_ethtool_names_driver_and_version(alpha: Namespace) -> None:
    link.create(alpha, "tun0")
    shown = alpha.run("ethtool", "-i", "tun0")
    assert re.search(r"^driver: ovpn-dco$", shown, re.MULTILINE), shown
    assert re.search(rf"^version: {re.escape(module.version())}$", shown, re.MULTILINE), shown


def test_many_interfaces(alpha: Namespace) -> None:
    for number in range(50):
        link.create(alpha, f"tun{number}", number % 2)
    assert len([name for name in alpha.interfaces() if name.startswith("tun")]) == 50


def test_name_is_taken(alpha: Namespace) -> None:
    index = link.create(alpha, "tun0")
    with pytest.raises(OSError) as caught:
        link.create(alpha, "tun0")
    assert caught.value.errno == errno.EEXIST
    assert alpha.index("tun0") == index


# -- changes ------------------------------------------------------------------------------


@pytest.mark.smoke
def test_mtu(alpha: Namespace, refused: Refused) -> None:
    link.create(alpha, "tun0")
    found = link.get(alpha, "tun0")
    assert found.mtu == 1500 - OVERHEAD
    assert found.min_mtu == 68
    assert found.max_mtu == 65535 - OVERHEAD
    for good in (68, 1280, 1500, 65535 - OVERHEAD):
        link.set_mtu(alpha, "tun0", good)
        assert link.get(alpha, "tun0").mtu == good
    for bad in (67, 65536 - OVERHEAD, 65535):
        with refused(errno.EINVAL):
            link.set_mtu(alpha, "tun0", bad)
    assert link.get(alpha, "tun0").mtu == 65535 - OVERHEAD


def test_mtu_at_creation(alpha: Namespace, refused: Refused) -> None:
    link.create(alpha, "tun0", mtu=1400)
    assert link.get(alpha, "tun0").mtu == 1400
    with refused(errno.EINVAL):
        link.create(alpha, "tun1", mtu=67)


def test_up_and_down(alpha: Namespace) -> None:
    link.create(alpha, "tun0")
    for _ in range(20):
        link.set_up(alpha, "tun0")
        assert link.get(alpha, "tun0").flags & link.IFF_UP
        link.set_up(alpha, "tun0", False)
        assert not link.get(alpha, "tun0").flags & link.IFF_UP


def test_tunnel_survives_down_and_up(alpha: Namespace, tunnel: list[Interface]) -> None:
    """OpenVPN's peers stay when the interface goes down: they are its own to remove."""
    assert ping(alpha, "10.8.0.2", attempts=3).complete
    link.set_up(alpha, "tun0", False)
    assert tunnel[0].peer(1).remote == tunnel[1].address
    link.set_up(alpha, "tun0")
    alpha.ip("route replace 10.8.0.0/24 dev tun0")
    assert ping(alpha, "10.8.0.2", attempts=3).complete


def test_rename(alpha: Namespace, tunnel: list[Interface]) -> None:
    alpha.ip("link set tun0 name vpn7")
    tunnel[0].name = "vpn7"
    assert alpha.index("vpn7") == tunnel[0].index
    assert link.get(alpha, "vpn7").kind == "ovpn-dco"
    assert ping(alpha, "10.8.0.2", attempts=3).complete


@pytest.mark.differs_from_c("it does not count these drops")
def test_sending_without_a_peer(alpha: Namespace) -> None:
    """Nothing to send to: dropped and counted, in both modes."""
    for name, mode, net in (("tun0", link.MODE_P2P, 8), ("tun1", link.MODE_MP, 9)):
        end = Interface(alpha, None, f"10.{net}.0.1/24", mode=mode, name=name)
        assert ping(alpha, f"10.{net}.0.2", count=3, wait=0.3).received == 0
        found = link.get(alpha, name).statistics
        assert found["tx_dropped"] + found["tx_errors"] >= 3, found
        assert found["tx_packets"] == 0, found
        end.close()


# -- other namespaces ---------------------------------------------------------------------


def test_move_to_another_namespace(alpha: Namespace) -> None:
    other = Namespace("gamma")
    try:
        link.create(alpha, "tun0", link.MODE_MP)
        link.move(alpha, "tun0", other)
        assert not alpha.has("tun0")
        assert link.get(other, "tun0").kind == "ovpn-dco"
        link.delete(other, "tun0")
        assert not other.has("tun0")
    finally:
        other.close()


def test_moved_interface_keeps_its_tunnel(alpha: Namespace, tunnel: list[Interface]) -> None:
    """The socket stays where it is: the usual way to give a namespace nothing but a VPN."""
    other = Namespace("gamma")
    try:
        link.move(alpha, "tun0", other)
        other.ip("addr add 10.8.0.1/24 dev tun0", "link set tun0 up")
        assert ping(other, "10.8.0.2", attempts=3).complete
    finally:
        other.close()


@pytest.mark.parametrize(("near", "far"), OUTER.values())
def test_moved_interface_sends_with_the_mark_of_the_socket(
    alpha: Namespace, beta: Namespace, near: str, far: str
) -> None:
    """SO_MARK counts in the socket's namespace; what marked the packets inside, in theirs."""
    end = Interface(alpha, near, "10.8.0.1/24")
    end.add_peer(1, (far, 1194), KeyPair.random())
    end.transport.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 7)
    other = Namespace("gamma")
    outside = """
        counter marked { }
        counter other { }
        chain output {
            type filter hook output priority filter;
            udp dport 1194 meta mark 7 counter name marked
            udp dport 1194 meta mark != 7 counter name other
        }
    """
    inside = "chain output { type route hook output priority mangle; meta mark set 9; }"
    try:
        # What IPv6 sends of its own accord would count too.
        other.sysctl("ipv6.conf.all.disable_ipv6", 1)
        link.move(alpha, "tun0", other)
        other.ip("addr add 10.8.0.1/24 dev tun0", "link set tun0 up")
        with Firewall(alpha, outside) as firewall, Firewall(other, inside):
            ping(other, "10.8.0.2", count=3, wait=0.2)
            assert (firewall.packets("marked"), firewall.packets("other")) == (3, 0)
    finally:
        other.close()
        end.close()


@pytest.mark.smoke
@pytest.mark.parametrize("mode", [link.MODE_P2P, link.MODE_MP])
def test_namespace_exit_takes_interface_and_peers(
    alpha: Namespace, beta: Namespace, mode: int
) -> None:
    """A namespace dies with an interface, its peer and their socket in it.

    The kernel takes namespaces down one after the other: if this one stuck, a second
    one would not go either.
    """
    for name in ("gamma", "delta"):
        other = Namespace(name)
        cable(alpha, "probe", (), other, "eth0", ())
        if name == "gamma":
            end = Interface(other, "127.0.0.1", "10.9.0.1/24", mode=mode)
            end.add_peer(1, ("127.0.0.1", 9), KeyPair.random(), ipv4="10.9.0.2")
            assert ping(other, "10.9.0.2", count=1, wait=0.1).received == 0
            end.control.close()
            end.transport.close()
        other.close()
        alpha.wait_gone("probe", timeout=10)


def test_namespace_exit_under_traffic(beta: Namespace, alpha: Namespace) -> None:
    """The outer socket lives in a namespace that stays, the interface in one that ends."""
    keys = KeyPair.random()
    far = Interface(beta, "192.0.2.2", "10.8.0.2/24")
    for _ in range(3):
        other = Namespace("gamma")
        near = Interface(alpha, "192.0.2.1", "10.8.0.1/24")
        near.add_peer(1, far.address, keys)
        far.add_peer(1, near.address, keys.flipped())
        link.move(alpha, "tun0", other)
        other.ip("addr add 10.8.0.1/24 dev tun0", "link set tun0 up")
        assert ping(other, "10.8.0.2", attempts=3).complete
        flood = beta.start("ping", "-f", "-q", "-w", "20", "10.8.0.1")
        try:
            before = near.transport
            count = far.peer(1).vpn_tx.packets
            waiting.until(lambda: far.peer(1).vpn_tx.packets > count + 50, "pings flow")
            other.close()
            # The namespace is gone when the socket has no owner any more.
            probe = Interface(alpha, None, "10.9.0.1/24", name="tun9")

            def attached() -> bool:
                try:
                    probe.control.new_peer(probe.index, 1, before, far.address)
                except OSError as error:
                    assert error.errno in (errno.EBUSY, errno.ENOTSOCK)
                    return False
                return True

            waiting.until(attached, "the socket is free", timeout=10)
            probe.close()
        finally:
            command.stop(flood)
            near.control.close()
            near.transport.close()
    far.close()


# -- the end ------------------------------------------------------------------------------


@pytest.mark.smoke
def test_delete_under_traffic(alpha: Namespace, beta: Namespace) -> None:
    """Both directions are busy when the interface is deleted; it is gone at once, each time."""
    keys = KeyPair.random()
    far = Interface(beta, "192.0.2.2", "10.8.0.2/24")
    removals = Removals(alpha)
    try:
        for _ in range(10):
            near = Interface(alpha, "192.0.2.1", "10.8.0.1/24")
            near.add_peer(1, far.address, keys)
            far.add_peer(1, near.address, keys.flipped())
            floods = [
                beta.start("ping", "-f", "-q", "-w", "60", "10.8.0.1"),
                alpha.start("ping", "-f", "-q", "-w", "60", "10.8.0.2"),
            ]
            try:
                waiting.until(
                    lambda: near.peer(1).vpn_rx.packets > 100,
                    "pings flow",
                    10 * kmemleak.slowness(),
                )
                index = near.index
                link.delete(alpha, "tun0")
                alpha.wait_gone("tun0", timeout=1)
                found = removals.collect(1, quiet=0.1)
                assert [(r.index, r.peer_id, r.reason) for r in found] == [
                    (index, 1, Reason.TEARDOWN)
                ]
            finally:
                for flood in floods:
                    command.stop(flood)
                near.close()
    finally:
        removals.close()
        far.close()


def test_delete_under_tcp(alpha: Namespace, tunnel: list[Interface]) -> None:
    """Segmentation and GRO are at work when the interface is deleted."""
    beta = tunnel[1].namespace
    listener = beta.start("iperf3", "--server", "--one-off")
    sender = None
    try:
        waiting.until(lambda: beta.run("ss", "-Hltn", "sport = :5201").strip(), "iperf3 listens")
        sender = alpha.start("iperf3", "--client", "10.8.0.2", "--time", "20")
        waiting.until(lambda: tunnel[0].peer(1).vpn_tx.bytes > 1_000_000, "TCP flows", 20)
        link.delete(alpha, "tun0")
        alpha.wait_gone("tun0", timeout=1)
        link.delete(beta, "tun0")
        beta.wait_gone("tun0", timeout=1)
    finally:
        if sender:
            command.stop(sender)
        command.stop(listener)
