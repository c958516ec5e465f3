# SPDX-License-Identifier: GPL-2.0
"""Many peers: what a packet costs, what a peer costs, how fast they come and are listed.

Two interfaces in mode MP. Peer N of the left one has the address 10.8.a.b and sends from
172.16.a.b, which has a socket of its own, as each client of a server has; peer N of the right
one has 10.9.a.b. So each packet is sealed by the key of one of many and opened likewise.
"""

from __future__ import annotations

import json
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ovpnlab import link
from ovpnlab.family import Command, Control, KeyPair, Top
from ovpnlab.namespace import Namespace
from ovpnlab.netlink import u32

from . import kernel_ovpn
from .batch import Batch, dump
from .rivals import NAME, RIVALS, loaded
from .site import LEFT, MTU, PORT, Site

COUNTS = (1, 100, 10_000)
PACKETS = 20_000
SIZE = 64
FIRST = 256
AnyControl = Control | kernel_ovpn.Control
CONTROLS = {"ours": Control, "c-dco": Control, "ovpn": kernel_ovpn.Control}
KINDS = {"ours": link.KIND, "c-dco": link.KIND, "ovpn": kernel_ovpn.KIND}


@dataclass(frozen=True)
class Scale:
    """What was measured with so many peers. Times are microseconds, sizes are bytes."""

    rival: str
    peers: int
    packet_to_one: float
    packet_to_all: float
    lost: int
    new_peer: float
    new_key: float
    dump_per_peer: float
    bytes_per_peer: float
    bytes_per_key: float


def _address(network: str, number: int) -> str:
    return f"{network}.{number >> 8}.{number & 255}"


def _free() -> int:
    """Bytes of memory that nothing holds, once what waits to be freed is freed."""
    Path("/proc/sys/vm/drop_caches").write_text("3\n")
    fields = Path("/proc/meminfo").read_text().split()
    return int(fields[fields.index("MemFree:") + 1]) * 1024


def _received(namespace: Namespace) -> int:
    return link.get(namespace, NAME).statistics["rx_packets"]


class End:
    """One end: an interface in mode MP and its control."""

    def __init__(self, rival: str, namespace: Namespace, stack: ExitStack) -> None:
        self.namespace = namespace
        self.index = link.create(namespace, NAME, link.MODE_MP, mtu=MTU, kind=KINDS[rival])
        stack.callback(link.delete, namespace, NAME)
        namespace.sysctl(f"ipv6.conf.{NAME}.disable_ipv6", 1)
        link.set_up(namespace, NAME)
        self.control: AnyControl = CONTROLS[rival](namespace)
        self.batch = Batch(namespace, self.control)
        stack.callback(self.batch.close)

    def dump(self) -> tuple[int, float]:
        """How many peers a dump tells of, and how many seconds it takes."""
        # The attribute with the index has the same number in both families.
        request = u32(Top.IFINDEX, self.index)
        dco = isinstance(self.control, Control)
        command = Command.GET_PEER if dco else kernel_ovpn.Command.PEER_GET
        return dump(self.namespace, self.control.family, command, request)


@contextmanager
def _site() -> Iterator[Site]:
    site = Site()
    try:
        site.left.ip("route add 172.16.0.0/16 via 192.0.2.2", "route add local 10.9.0.0/16 dev lo")
        site.right.ip(
            "route add local 172.16.0.0/16 dev lo", "route add local 10.8.0.0/16 dev lo"
        )
        yield site
    finally:
        site.close()


def measure(rival: str, peers: int, spray: str) -> Scale:
    """Make the peers, send through one and through all of them, and count."""
    numbers = range(FIRST, FIRST + peers)
    keys = [KeyPair.random() for _ in numbers]
    with loaded(RIVALS[rival]), ExitStack() as stack:
        site = stack.enter_context(_site())
        server = stack.enter_context(site.left.socket(socket.AF_INET, socket.SOCK_DGRAM))
        server.bind((LEFT, PORT))
        left = End(rival, site.left, stack)
        right = End(rival, site.right, stack)
        site.left.ip(f"route add 10.8.0.0/16 dev {NAME}")
        site.right.ip(f"route add 10.9.0.0/16 dev {NAME}")

        free = [_free()]
        for number in numbers:
            remote = (_address("172.16", number), PORT)
            left.control.new_peer(left.index, number, server, remote, _address("10.8", number))
        new_peer = left.batch.flush()
        free.append(_free())
        for number, pair in zip(numbers, keys):
            left.control.new_key(left.index, number, pair)
        new_key = left.batch.flush()
        free.append(_free())
        listed, dumping = left.dump()
        if listed != peers:
            raise RuntimeError(f"{rival}: a dump of {peers} peers tells of {listed}")

        for number, pair in zip(numbers, keys):
            sock = stack.enter_context(site.right.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.bind((_address("172.16", number), PORT))
            right.control.new_peer(
                right.index, number, sock, (LEFT, PORT), _address("10.9", number)
            )
            right.control.new_key(right.index, number, pair.flipped())
        right.batch.flush()

        # Nobody reads what arrives: the socket is there so that no complaint goes back.
        sink = stack.enter_context(site.left.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sink.bind(("0.0.0.0", 9))
        before = _received(site.left)
        to_one = _spray(site, spray, numbers[-1], 1, senders=1)
        # In turn, so that none of ours waits for another of its kind, also where there is one peer.
        to_all = _spray(site, spray, FIRST, peers, senders=2)
        lost = 2 * PACKETS + 1 + 2 * peers - (_received(site.left) - before)
        return Scale(
            rival,
            peers,
            to_one / PACKETS / 1e3,
            to_all / PACKETS / 1e3,
            lost,
            new_peer / peers * 1e6,
            new_key / peers * 1e6,
            dumping / peers * 1e6,
            (free[0] - free[1]) / peers,
            (free[1] - free[2]) / peers,
        )


def _spray(site: Site, program: str, first: int, count: int, senders: int) -> int:
    argv = [program, *map(str, (first, count, PACKETS, SIZE, senders))]
    return int(site.right.run(*argv, timeout=120))


def run(rivals: list[str], file: Path, spray: str) -> str:
    """Measure all, keep the figures in `file`, and return the table."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (65536, 65536))
    done: list[Scale] = []
    for rival in rivals:
        for peers in COUNTS:
            done.append(measure(rival, peers, spray))
            file.write_text(json.dumps([asdict(each) for each in done], indent=1) + "\n")
            print(done[-1], flush=True)
    return table(done)


def table(done: list[Scale]) -> str:
    """One line for each; in brackets: compared with one peer of the same driver."""
    lines = [
        f"{'driver':<18}{'peers':>7}{'us/packet, one':>22}{'us/packet, all':>22}"
        f"{'us/NEW_PEER':>13}{'us/NEW_KEY':>12}{'us/dumped':>11}{'B/peer':>9}{'B/key':>8}"
    ]
    for each in done:
        single = next(s for s in done if s.rival == each.rival)
        cells = [
            f"{cost:.2f} ({cost / base:.3f}x)"
            for cost, base in (
                (each.packet_to_one, single.packet_to_one),
                (each.packet_to_all, single.packet_to_all),
            )
        ]
        # What one or a hundred peers take is lost in the noise of whole pages.
        sizes = (each.bytes_per_peer, each.bytes_per_key)
        size_cells = [f"{size:,.0f}" if each.peers >= 1000 else "-" for size in sizes]
        lines.append(
            f"{RIVALS[each.rival].title:<18}{each.peers:>7,}{cells[0]:>22}{cells[1]:>22}"
            f"{each.new_peer:>13.1f}{each.new_key:>12.1f}{each.dump_per_peer:>11.2f}"
            f"{size_cells[0]:>9}{size_cells[1]:>8}"
        )
    return "\n".join(lines)
