# SPDX-License-Identifier: GPL-2.0
"""Inside: which peer gets a packet, and that the kernel's own tools work on the interface."""

from __future__ import annotations

import contextlib
import errno
import json
import socket
from collections.abc import Callable, Iterator
from typing import Literal

import pytest
from conftest import MakeEndpoint, MakeInterface
from ovpnlab import iperf, link, packet, waiting
from ovpnlab.family import Control, KeyPair, Reason, Removal, Removals
from ovpnlab.firewall import Firewall
from ovpnlab.interface import Interface, udp_socket
from ovpnlab.namespace import Namespace
from ovpnlab.netlink import NetlinkError
from ovpnlab.network import cable
from ovpnlab.ping import ping
from ovpnlab.wire import Endpoint

# A network behind the peers, and the VPN addresses of alpha and of the two peers.
FAR = {4: "203.0.113.0/24", 6: "2001:db8:113::/64"}
FAR_HOST = {4: "203.0.113.7", 6: "2001:db8:113::7"}
OWN = {4: "10.8.0.1", 6: "fd00:8::1"}
FIRST = {4: "10.8.0.2", 6: "fd00:8::2"}
SECOND = {4: "10.8.0.3", 6: "fd00:8::3"}
versions = pytest.mark.parametrize("version", [4, 6])

Two = tuple[Interface, Endpoint, Endpoint]


@pytest.fixture
def two(interface: MakeInterface, endpoint: MakeEndpoint) -> Two:
    """A multi-peer interface with peers 1 and 2 in user space."""
    end = interface()
    first = endpoint(end, 1, FIRST[4], FIRST[6])
    return end, first, endpoint(end, 2, SECOND[4], SECOND[6])


@pytest.fixture
def rules(alpha: Namespace) -> Iterator[Callable[[int, str], None]]:
    """Adds rules of `ip rule` that are gone after the test."""
    made: list[tuple[int, str]] = []

    def add(version: int, rule: str) -> None:
        alpha.ip(f"rule add {rule}", version=version)
        made.append((version, rule))

    yield add
    for version, rule in made:
        alpha.ip(f"rule del {rule}", version=version)


# -- policy routing -----------------------------------------------------------------------


@pytest.mark.smoke
@versions
def test_rule_by_source(two: Two, rules: Callable[[int, str], None], version: int) -> None:
    """The table that a rule names says which peer is the next hop."""
    end, first, second = two
    own = {4: "198.51.100.1", 6: "2001:db8:51::1"}[version]
    end.namespace.ip(
        f"addr add {own} dev lo" + (" nodad" if version == 6 else ""),
        f"route add {FAR[version]} via {FIRST[version]}",
        f"route add {FAR[version]} via {SECOND[version]} table 100",
    )
    try:
        rules(version, f"from {own} lookup 100")
        end.say(FAR_HOST[version])
        assert first.receive_ip(protocol=packet.UDP).peer_id == 1
        end.say(FAR_HOST[version], source=own)
        got = second.receive_ip(protocol=packet.UDP)
        assert (got.peer_id, got.ip.source) == (2, own)
        assert first.is_silent(0.2)
    finally:
        end.namespace.ip(f"addr del {own} dev lo")


@pytest.mark.smoke
@versions
def test_rule_by_mark(two: Two, rules: Callable[[int, str], None], version: int) -> None:
    """nftables marks what is for one port, and a rule gives the mark its own table."""
    end, first, second = two
    end.namespace.ip(
        f"route add {FAR[version]} via {FIRST[version]}",
        f"route add {FAR[version]} via {SECOND[version]} table 100",
    )
    rules(version, "fwmark 7 lookup 100")
    marking = (
        "chain out { type route hook output priority mangle; udp dport 4242 meta mark set 7; }"
    )
    with Firewall(end.namespace, marking):
        for port, wire, other in ((9, first, second), (4242, second, first), (9, first, second)):
            end.say(FAR_HOST[version], port=port)
            assert wire.receive_ip(protocol=packet.UDP).ip.destination == FAR_HOST[version]
            assert other.is_silent(0.1)
    # Without the mark the route is the other again.
    end.say(FAR_HOST[version], port=4242)
    assert first.receive_ip(protocol=packet.UDP)


@versions
def test_marked_in_forwarding(two: Two, rules: Callable[[int, str], None], version: int) -> None:
    """From one client into the network behind another one: the mark of a router's rule decides."""
    end, first, second = two
    end.namespace.forward()
    end.namespace.ip(f"route add {FAR[version]} via {SECOND[version]} table 100")
    rules(version, "fwmark 7 lookup 100")
    marking = (
        'chain in { type filter hook prerouting priority mangle; iifname "tun0" meta mark set 7; }'
    )
    with Firewall(end.namespace, marking):
        first.send(packet.echo_request(FIRST[version], FAR_HOST[version], 5))
        got = second.receive_ip()
        assert (got.peer_id, got.ip.destination) == (2, FAR_HOST[version])


# -- the reverse path filter --------------------------------------------------------------


@pytest.mark.smoke
@versions
def test_reverse_path_filter_follows_iroutes(two: Two, version: int) -> None:
    """Who may send from a network is who would get what is for it; the longest prefix counts."""
    end, first, second = two
    narrow = {4: "203.0.113.7/32", 6: "2001:db8:113::7/128"}[version]
    neighbour = {4: "203.0.113.8", 6: "2001:db8:113::8"}[version]

    def heard(wire: Endpoint, source: str) -> bool:
        before = link.get(end.namespace, "tun0").statistics
        wire.send(packet.echo_request(source, OWN[version], 1))
        wire.send(packet.echo_request(wire_address[wire], OWN[version], 2))
        wire.receive_reply(2)
        after = link.get(end.namespace, "tun0").statistics
        heard, dropped = (after[n] - before[n] for n in ("rx_packets", "rx_dropped"))
        assert heard + dropped == 2, "each packet is either delivered or counted as dropped"
        return heard == 2

    wire_address = {first: FIRST[version], second: SECOND[version]}
    assert not heard(first, FAR_HOST[version]) and not heard(second, FAR_HOST[version])
    end.namespace.ip(f"route add {FAR[version]} via {FIRST[version]}")
    assert heard(first, FAR_HOST[version]) and not heard(second, FAR_HOST[version])
    end.namespace.ip(f"route add {narrow} via {SECOND[version]}")
    assert not heard(first, FAR_HOST[version]) and heard(second, FAR_HOST[version])
    assert heard(first, neighbour) and not heard(second, neighbour)
    end.namespace.ip(f"route del {narrow}", f"route del {FAR[version]}")
    assert not heard(first, FAR_HOST[version]) and not heard(second, FAR_HOST[version])


# -- networks behind both ends ------------------------------------------------------------


@pytest.fixture(scope="module")
def lans(alpha: Namespace, beta: Namespace) -> Iterator[tuple[Namespace, Namespace]]:
    """A machine behind alpha (10.99.0.2, fd00:99::2), one behind beta (10.99.1.2, fd00:99:1::2)."""
    machines = []
    for number, router in enumerate((alpha, beta)):
        machine = Namespace(f"lan{number}")
        machines.append(machine)
        four, six = f"10.99.{number}", f"fd00:99:{number}:"
        cable(
            *(router, "lan0", (f"{four}.1/24", f"{six}:1/64")),
            *(machine, "eth0", (f"{four}.2/24", f"{six}:2/64")),
        )
        router.forward()
        machine.ip(f"route add default via {four}.1", f"route add default via {six}:1")
    yield machines[0], machines[1]
    for machine in machines:
        machine.close()


@pytest.fixture
def site(pair: Callable) -> tuple[Interface, Interface]:
    """A tunnel between alpha and beta, multi-peer at both ends, with iroutes to both networks."""
    near, far = pair(mode="mp")
    near.namespace.ip(
        "route add 10.99.1.0/24 via 10.8.0.2", "route add fd00:99:1::/64 via fd00:8::2"
    )
    far.namespace.ip("route add 10.99.0.0/24 via 10.8.0.1", "route add fd00:99::/64 via fd00:8::1")
    return near, far


@pytest.mark.smoke
def test_lan_behind_a_client(
    site: tuple[Interface, Interface], lans: tuple[Namespace, Namespace]
) -> None:
    """Between the networks and between each router and the other's network, both ways."""
    near, far = site
    left, right = lans
    for namespace, address in (
        (left, "10.99.1.2"),
        (left, "fd00:99:1::2"),
        (right, "10.99.0.2"),
        (right, "fd00:99::2"),
        (near.namespace, "10.99.1.2"),
        (near.namespace, "fd00:99:1::2"),
        (far.namespace, "10.99.0.2"),
        (right, "10.8.0.1"),
    ):
        found = ping(namespace, address, count=2)
        assert found.complete, f"from {namespace} to {address}: {found}"
    for address in ("10.99.1.2", "fd00:99:1::2"):
        # In fragments; over IPv6 both machines have to be told the MTU of the tunnel first.
        found = ping(left, address, count=2, size=4000, attempts=3)
        assert found.complete, f"4000 bytes to {address}: {found.output}"
    assert iperf.measure(right, left, "10.99.1.2", amount="1M").bytes >= 1 << 19
    assert iperf.measure(right, left, "fd00:99:1::2", amount="1M", reverse=True).bytes >= 1 << 19


# -- nftables and tc ----------------------------------------------------------------------


@pytest.mark.smoke
def test_nftables_sees_the_packets(pair: Callable) -> None:
    """Counters in all hooks count each packet once; a rule that drops, drops."""
    near, _ = pair()
    rules = """
        counter in4 { }
        counter in6 { }
        counter out4 { }
        counter out6 { }
        counter dropped { }
        chain input {
            type filter hook input priority filter;
            iifname "tun0" icmp type echo-reply counter name in4
            iifname "tun0" icmpv6 type echo-reply counter name in6
        }
        chain output {
            type filter hook output priority filter;
            oifname "tun0" icmp type echo-request counter name out4
            oifname "tun0" icmpv6 type echo-request counter name out6
            oifname "tun0" icmp type echo-request meta length 128 counter name dropped drop
        }
    """
    with Firewall(near.namespace, rules) as firewall:
        assert ping(near.namespace, "10.8.0.2", count=4).complete
        assert ping(near.namespace, "fd00:8::2", count=3).complete
        seen = {name: firewall.packets(name) for name in ("in4", "in6", "out4", "out6", "dropped")}
        assert seen == {"in4": 4, "in6": 3, "out4": 4, "out6": 3, "dropped": 0}
        assert ping(near.namespace, "10.8.0.2", count=2, size=100, wait=0.2).received == 0
        assert firewall.packets("dropped") == 2


@pytest.mark.smoke
def test_masquerade_out_of_the_tunnel(pair: Callable, lans: tuple[Namespace, Namespace]) -> None:
    """A network that the other end knows nothing of gets out in the name of its router."""
    near, far = pair(mode="mp")
    left, _ = lans
    for address in ("10.8.0.2", "fd00:8::2"):
        assert ping(left, address, count=1, wait=0.3).received == 0, "there is no way back yet"
    rule = 'chain post { type nat hook postrouting priority srcnat; oifname "tun0" masquerade; }'
    with Firewall(near.namespace, rule):
        for address in ("10.8.0.2", "fd00:8::2"):
            assert ping(left, address, attempts=2).complete, address
        assert iperf.measure(far.namespace, left, "10.8.0.2", amount="512K").bytes >= 1 << 18


def _tc(namespace: Namespace, *lines: str) -> None:
    namespace.run("tc", "-batch", "-", stdin="\n".join(lines) + "\n")


def _filter_packets(namespace: Namespace, where: str) -> int:
    """How many packets the only filter there has seen."""
    shown = json.loads(namespace.run("tc", "-s", "-j", "filter", "show", "dev", "tun0", where))
    (found,) = [each["options"] for each in shown if "actions" in each.get("options", {})]
    return int(found["actions"][0]["stats"]["packets"])


@pytest.mark.smoke
def test_tc_filters_both_directions(pair: Callable) -> None:
    """clsact at the interface: what it drops on its way in or out is gone, and counted there."""
    near, _ = pair(inner6=False)
    namespace = near.namespace
    _tc(namespace, "qdisc add dev tun0 clsact")
    drop = "protocol ip pref 1 flower ip_proto {} action drop"
    _tc(namespace, f"filter add dev tun0 ingress {drop.format('icmp')}")
    before = near.peer(21)
    assert ping(namespace, "10.8.0.2", count=3, wait=0.3).received == 0
    assert _filter_packets(namespace, "ingress") == 3
    assert near.peer(21).vpn_rx.packets == before.vpn_rx.packets + 3, "they came this far"
    _tc(namespace, "filter del dev tun0 ingress")
    assert ping(namespace, "10.8.0.2").complete

    _tc(namespace, f"filter add dev tun0 egress {drop.format('udp')}")
    before = near.peer(21)
    for _ in range(3):
        near.say("10.8.0.2")
    assert _filter_packets(namespace, "egress") == 3
    assert ping(namespace, "10.8.0.2", count=1).complete
    assert near.peer(21).vpn_tx.packets == before.vpn_tx.packets + 1, "the ping and nothing else"


def test_tc_shapes_what_goes_out(pair: Callable) -> None:
    """netem delays, tbf limits the rate; what they let pass, and nothing else, is sealed."""
    near, _ = pair(inner6=False)
    namespace = near.namespace
    _tc(namespace, "qdisc add dev tun0 root netem delay 300ms")
    found = ping(namespace, "10.8.0.2", count=2)
    assert found.complete and found.average_ms >= 300, found

    _tc(namespace, "qdisc replace dev tun0 root tbf rate 400kbit burst 20kb latency 400ms")
    before = near.peer(21).vpn_tx.packets
    with namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(200):
            sender.sendto(bytes(1000), ("10.8.0.2", 9))

    def drained() -> dict[str, int] | Literal[False]:
        (tbf,) = json.loads(namespace.run("tc", "-s", "-j", "qdisc", "show", "dev", "tun0"))
        return tbf if tbf["backlog"] == 0 else False

    tbf = waiting.until(drained, "the queue has drained")
    sent = near.peer(21).vpn_tx.packets - before
    assert 20 <= sent < 200, f"{sent} of 200 packets within a second through 400 kbit/s"
    assert (tbf["packets"], tbf["drops"]) == (sent, 200 - sent)
    _tc(namespace, "qdisc del dev tun0 root")
    assert ping(namespace, "10.8.0.2").complete


# -- VRFs and namespaces ------------------------------------------------------------------


@contextlib.contextmanager
def _vrf(namespace: Namespace, table: int) -> Iterator[str]:
    name = f"vrf{table}"
    namespace.ip(f"link add {name} type vrf table {table}", f"link set {name} up")
    try:
        yield name
    finally:
        namespace.ip(f"link del {name}")


@pytest.mark.smoke
@versions
def test_interface_in_a_vrf(
    interface: MakeInterface,
    endpoint: MakeEndpoint,
    stack: contextlib.ExitStack,
    version: int,
) -> None:
    """The VRF's table is asked for next hops and sources, though others say otherwise."""
    end = interface("10.8.0.1/24")
    namespace = end.namespace
    first = endpoint(end, 1, FIRST[4], FIRST[6])
    second = endpoint(end, 2, SECOND[4], SECOND[6])
    with _vrf(namespace, 200) as vrf:
        namespace.ip(f"link set tun0 master {vrf}")
        namespace.sysctl("ipv6.conf.tun0.disable_ipv6", 0)
        link.add_address(namespace, "tun0", "fd00:8::1/64")
        namespace.ip(
            f"route add {FAR[version]} via {SECOND[version]} vrf {vrf}",
            f"route add {FAR[version]} dev lo",
        )
        stack.callback(namespace.ip, f"route del {FAR[version]} dev lo")
        assert first.echo(FIRST[version], OWN[version], 1)
        assert second.echo(SECOND[version], OWN[version], 2)
        assert second.echo(FAR_HOST[version], OWN[version], 3)
        with pytest.raises(TimeoutError):
            first.echo(FAR_HOST[version], OWN[version], 4, timeout=0.3)
        # From inside the VRF outwards: to a peer, and to the network behind one.
        with namespace.socket(
            socket.AF_INET6 if version == 6 else socket.AF_INET, socket.SOCK_DGRAM
        ) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, vrf.encode() + b"\0")
            sock.sendto(b"x", (FIRST[version], 9))
            assert first.receive_ip(protocol=packet.UDP).ip.source == OWN[version]
            sock.sendto(b"x", (FAR_HOST[version], 9))
            assert second.receive_ip(protocol=packet.UDP).ip.destination == FAR_HOST[version]
        namespace.ip("link set tun0 nomaster")
    # And out of the VRF again.
    assert first.echo(FIRST[4], OWN[4], 9)


@pytest.mark.smoke
@versions
def test_socket_in_a_vrf(
    interface: MakeInterface, second_cable: None, beta: Namespace, version: int
) -> None:
    """The way out is in a VRF, the tunnel is not; a server with two addresses answers right."""
    end = interface("10.8.0.1/24", outer=None)
    namespace = end.namespace
    own = {4: "198.18.0.1", 6: "2001:db8:18::1"}[version]
    other = {4: "198.18.0.3", 6: "2001:db8:18::3"}[version]
    far = {4: "198.18.0.2", 6: "2001:db8:18::2"}[version]
    keys = KeyPair.random()
    with _vrf(namespace, 201) as vrf, contextlib.ExitStack() as made:
        namespace.sysctl("ipv6.conf.eth1.keep_addr_on_down", 1)
        namespace.ip(f"link set eth1 master {vrf}")
        if version == 4:
            namespace.ip("addr add 198.18.0.3/24 dev eth1")
        else:
            namespace.ip("addr add 2001:db8:18::3/64 dev eth1 nodad preferred_lft 0")
        sock = udp_socket(namespace, {4: "0.0.0.0", 6: "::"}[version])
        made.callback(sock.close)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, vrf.encode() + b"\0")
        port = sock.getsockname()[1]
        wire = Endpoint(beta, far, (own, port), 1, keys)
        made.callback(wire.close)
        end.add_peer(1, wire.address, keys.flipped(), "10.8.0.2", transport=sock)
        end.say("10.8.0.2")
        assert wire.receive_ip(protocol=packet.UDP).source == (own, port)
        for sequence, address in enumerate((other, own, other), start=1):
            wire.remote = (address, port)
            assert wire.echo("10.8.0.2", "10.8.0.1", sequence).source == wire.remote
            assert end.peer(1).local_ip == address
        namespace.ip(f"addr del {other}/{24 if version == 4 else 64} dev eth1")
        end.say("10.8.0.2")
        assert wire.receive_ip(protocol=packet.UDP).source == (own, port)
        namespace.ip("link set eth1 nomaster")


@pytest.mark.smoke
def test_interface_in_another_namespace(
    interface: MakeInterface, endpoint: MakeEndpoint, alpha: Namespace, beta: Namespace
) -> None:
    """Routes and control go with the interface; the socket, and what is outside, stays."""
    end = interface("10.8.0.1/24")
    first = endpoint(end, 1, FIRST[4])
    gamma = Namespace("gamma")
    removals, left_behind = Removals(gamma), Removals(alpha)
    control = Control(gamma)
    try:
        link.move(alpha, "tun0", gamma)
        index = gamma.index("tun0")
        gamma.ip("addr add 10.8.0.1/24 dev tun0", "link set tun0 up")
        gamma.ip("route add 203.0.113.0/24 via 10.8.0.3")
        assert first.echo(FIRST[4], OWN[4], 1)
        # The old namespace has nothing to say any more, the new one does.
        with pytest.raises(NetlinkError) as refused:
            end.peer(1)
        assert refused.value.errno == errno.ENODEV
        keys = KeyPair.random()
        second = Endpoint(beta, "192.0.2.2", end.address, 2, keys)
        control.new_peer(index, 2, end.transport, second.address, SECOND[4])
        control.new_key(index, 2, keys.flipped())
        assert second.echo(SECOND[4], OWN[4], 2)
        assert second.echo(FAR_HOST[4], OWN[4], 3), "the new namespace's iroute counts"
        with gamma.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", (FAR_HOST[4], 9))
        assert second.receive_ip(protocol=packet.UDP).source == end.address
        end.transport.sendto(b"\x28 control", second.address)
        assert second.receive_raw()[0] == b"\x28 control"
        second.close()
        control.del_peer(index, 2)
        assert removals.collect(1) == [Removal(index, 2, Reason.USERSPACE)]
        assert left_behind.collect(0) == []
    finally:
        for each in (removals, left_behind, control):
            each.close()
        gamma.close()
    # The interface went with its namespace, and the socket is the daemon's alone.
    end.transport.settimeout(0.2)

    def arrives() -> bool:
        first.send_raw(b"\x48 for the daemon")
        with contextlib.suppress(TimeoutError):
            return end.transport.recv(100) == b"\x48 for the daemon"
        return False

    waiting.until(arrives, "a data packet at the daemon's socket")


# -- neighbours ---------------------------------------------------------------------------


@versions
def test_neighbours_of_peers_that_go(
    interface: MakeInterface, beta: Namespace, stack: contextlib.ExitStack, version: int
) -> None:
    """Close addresses in one table, and every second one goes: the others are still found."""
    end = interface("10.8.0.1/16", "fd00:8::1/64")
    keys = KeyPair.random()
    wire = Endpoint(beta, "192.0.2.2", end.address, 0, keys)
    stack.callback(wire.close)
    prefix = {4: "10.8.1.", 6: "fd00:8::"}[version]
    addresses = {n: f"{prefix}{n if version == 4 else format(n, 'x')}" for n in range(2, 130)}
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)

    def reached(numbers: range) -> list[int]:
        """The peers that get what is sent to them, each tried once."""
        for number in numbers:
            end.say(addresses[number])
        found = []
        with contextlib.suppress(TimeoutError):
            for _ in numbers:
                got = wire.receive_ip(0.5, packet.UDP)
                assert got.ip.destination == addresses[got.peer_id], "another peer's packet"
                found.append(got.peer_id)
        return sorted(found)

    everyone = range(2, 130)
    for number in everyone:
        vpn = {f"ipv{version}": addresses[number]}
        end.add_peer(number, wire.address, keys.flipped(), **vpn)
    assert reached(everyone) == list(everyone)
    for number in everyone[::2]:
        end.control.del_peer(end.index, number)
    assert reached(everyone) == list(everyone[1::2])
    for number in everyone[::2]:
        vpn = {f"ipv{version}": addresses[number]}
        end.add_peer(number, wire.address, keys.flipped(), **vpn)
    assert reached(everyone) == list(everyone)
    # What comes in is told apart as well: a neighbour's source is not this peer's.
    wire.peer_id = 77
    assert wire.echo(addresses[77], OWN[version], 1).peer_id == 77
    wire.send(packet.echo_request(addresses[78], OWN[version], 2))
    assert wire.is_silent(0.3)
