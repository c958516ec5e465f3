# SPDX-License-Identifier: GPL-2.0
"""TCP, UDP and pings through a tunnel, and their figures."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from ovpnlab import iperf

from . import clock
from .site import INNER_RIGHT, Site

# How many seconds more than it should a run may take. Where emulated time passes freely, iperf3's
# thread that ends a run was seen to wait for 14 s.
PATIENCE = 10 if clock.counts_instructions() else 60
# iperf3 counts per interval; those that begin in the warm-up are left out.
INTERVAL = 0.1
WARM_UP = 0.2

PINGS = 200
PING_INTERVAL = 0.002


@dataclass(frozen=True)
class Load:
    """A kind of traffic: its name, the unit of its figure, whether more is better."""

    name: str
    title: str
    unit: str
    measure: Callable[[Site, int], dict[str, float]]
    more_is_better: bool = True

    @property
    def titles(self) -> dict[str, str]:
        """The figures that stand in the table, and what they are called there."""
        if self.more_is_better:
            return {"value": self.title}
        return {"value": f"{self.title}, median", "p99": f"{self.title}, 99th percentile"}


def _received(
    site: Site, seconds: int, options: list[str], back: bool
) -> tuple[int, float, dict[str, float]]:
    """Bytes that the receiver got after the warm-up, in how many seconds, and what went wrong."""
    options = ["--time", str(seconds), *options, *(["--reverse"] if back else [])]
    client, server = iperf.reports(
        site.right, site.left, INNER_RIGHT, options, seconds + PATIENCE, INTERVAL
    )
    sums = [each["sum"] for each in (client if back else server)["intervals"]]
    # The last may be a fraction of one.
    kept = [s for s in sums if s["start"] >= WARM_UP - 0.01 and s["seconds"] > INTERVAL / 2]
    if not kept:
        raise RuntimeError(f"iperf3 {' '.join(options)}: no interval after the warm-up")
    end = client["end"]
    faults = {"lost": end["sum"]["lost_packets"]} if "lost_packets" in end.get("sum", {}) else {}
    if "retransmits" in end.get("sum_sent", {}):
        faults = {"retransmits": end["sum_sent"]["retransmits"]}
    return sum(s["bytes"] for s in kept), sum(s["seconds"] for s in kept), faults


def _tcp(streams: int, back: bool) -> Callable[[Site, int], dict[str, float]]:
    def measure(site: Site, seconds: int) -> dict[str, float]:
        amount, time, faults = _received(site, seconds, ["--parallel", str(streams)], back)
        return {"value": amount * 8 / time / 1e6, **faults}

    return measure


def _udp(length: int, back: bool) -> Callable[[Site, int], dict[str, float]]:
    def measure(site: Site, seconds: int) -> dict[str, float]:
        options = ["--udp", "--bitrate", "0", "--length", str(length)]
        amount, time, faults = _received(site, seconds, options, back)
        return {"value": amount / length / time, **faults}

    return measure


def _ping(site: Site, seconds: int) -> dict[str, float]:
    output = site.left.run(
        *("ping", "-n", "-c", str(PINGS), "-i", str(PING_INTERVAL), INNER_RIGHT), timeout=PATIENCE
    )
    times = sorted(float(found) * 1000 for found in re.findall(r"time=([\d.]+) ms", output))
    lost = PINGS - len(times)
    if lost > PINGS // 100:
        raise RuntimeError(f"{len(times)} of {PINGS} pings were answered")
    return {
        "value": statistics.median(times),
        "p99": times[len(times) * 99 // 100 - 1],
        "lost": lost,
    }


LOADS = {
    load.name: load
    for load in (
        Load("tcp1", "TCP, 1 stream", "Mbit/s", _tcp(1, False)),
        Load("tcp1-back", "TCP, 1 stream, back", "Mbit/s", _tcp(1, True)),
        Load("tcp8", "TCP, 8 streams", "Mbit/s", _tcp(8, False)),
        Load("tcp8-back", "TCP, 8 streams, back", "Mbit/s", _tcp(8, True)),
        Load("udp64", "UDP, 64 bytes", "packets/s", _udp(64, False)),
        Load("udp64-back", "UDP, 64 bytes, back", "packets/s", _udp(64, True)),
        Load("udp512", "UDP, 512 bytes", "packets/s", _udp(512, False)),
        Load("udp512-back", "UDP, 512 bytes, back", "packets/s", _udp(512, True)),
        Load("udp1300", "UDP, 1300 bytes", "packets/s", _udp(1300, False)),
        Load("udp1300-back", "UDP, 1300 bytes, back", "packets/s", _udp(1300, True)),
        Load("ping", "ping", "us", _ping, more_is_better=False),
    )
}
