# SPDX-License-Identifier: GPL-2.0
"""Throughput, measured by iperf3."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from . import command, waiting
from .command import CommandFailed
from .namespace import Namespace

PORT = 5201


@dataclass(frozen=True)
class Throughput:
    """What one run of iperf3 moved, as the receiver saw it.

    The receiver stops counting when the sender says that it is done: with an amount
    given, the last of it may be missing. `each_second` is what iperf3's client counted.
    """

    mbit_per_second: float
    bytes: int
    seconds: float
    each_second: list[int]

    def __str__(self) -> str:
        return f"{self.mbit_per_second:.1f} Mbit/s"


def measure(
    server: Namespace,
    client: Namespace,
    address: str,
    seconds: float = 3,
    streams: int = 1,
    reverse: bool = False,
    amount: str | None = None,
) -> Throughput:
    """Send TCP from `client` to `address` in `server` (the other way with `reverse`).

    `amount` (such as "4M") sends so much instead of for so long.
    """
    options = ["--parallel", str(streams)]
    options += ["--bytes", amount] if amount else ["--time", str(seconds)]
    options += ["--reverse"] if reverse else []
    report, _ = reports(server, client, address, options, 60 if amount else seconds + 25)
    got = report["end"]["sum_received"]
    sums = [interval["sum"] for interval in report["intervals"]]
    # The last one may be a rest of a second.
    each_second = [sum_["bytes"] for sum_ in sums if sum_["seconds"] > 0.9]
    return Throughput(got["bits_per_second"] / 1e6, got["bytes"], got["seconds"], each_second)


def reports(
    server: Namespace,
    client: Namespace,
    address: str,
    options: list[str],
    limit: float,
    interval: float = 1,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run iperf3 with any options; what the client and what the server say of it."""
    common = ["iperf3", "--json", "--interval", str(interval)]
    listener = server.start(*common, "--server", "--one-off", "--bind", address)
    try:
        _wait_listening(server)
        argv = [*common, "--client", address, "--connect-timeout", "8000", *options]
        report = json.loads(client.run(*argv, timeout=limit, check=False))
        if "error" in report:
            raise CommandFailed(argv, 1, report["error"])
        return report, json.loads(listener.communicate(timeout=10)[0])
    finally:
        command.stop(listener)


def _wait_listening(namespace: Namespace) -> None:
    filter_ = f"sport = :{PORT}"
    waiting.until(
        lambda: namespace.run("ss", "-Hltn", filter_).strip(), "iperf3 listens", timeout=10
    )
