# SPDX-License-Identifier: GPL-2.0
"""Where the instructions go: perf's samples of the whole machine while a load runs."""

from __future__ import annotations

import os
import re
import select
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from ovpnlab import command

from .load import LOADS
from .site import Site

# The clock counts instructions, one a nanosecond: a sample for every 100,000 of them.
PERIOD = 100_000
TOP = 60


@dataclass(frozen=True)
class Symbol:
    """A function and its share of all samples, in percent."""

    name: str
    module: str
    share: float


class Recorder:
    """perf, which samples the whole machine while the context lasts, once it is ready."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __enter__(self) -> Recorder:
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        self._process = subprocess.Popen(
            [
                *("perf", "record", "-B", "-a", "-e", "cpu-clock", "-c", str(PERIOD)),
                *("-D", "-1", "--control", f"fd:{commands},{answers}", "-o", str(self._file)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=(commands, answers),
        )
        os.close(commands)
        os.close(answers)
        self._say("enable")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._say("stop")
                self._process.communicate(timeout=120)
        finally:
            command.stop(self._process)
            os.close(self._commands)
            os.close(self._answers)

    def _say(self, what: str) -> None:
        os.write(self._commands, f"{what}\n".encode())
        ready, _, _ = select.select([self._answers], [], [], 120)
        if not ready or not os.read(self._answers, 16).startswith(b"ack"):
            command.stop(self._process)
            raise RuntimeError(f"perf does not answer to `{what}`")


def profile(site: Site, load: str, seconds: int, file: Path) -> list[Symbol]:
    """Run a load under perf; the samples stay in `file`, the functions are sorted by share."""
    with Recorder(file):
        LOADS[load].measure(site, seconds)
    return symbols(file)


def symbols(file: Path) -> list[Symbol]:
    """The functions in what perf recorded."""
    report = command.run(
        *("perf", "report", "--stdio", "-i", str(file), "--sort", "dso,symbol"),
        *("--kallsyms", "/proc/kallsyms", "--percent-limit", "0", "-w", "20,120"),
        timeout=600,
    )
    shares: dict[tuple[str, str], float] = {}
    for line in report.splitlines():
        match = re.match(r"\s+([\d.]+)%\s+(\S+)\s+\[[.kgu]\] (.*?)(?:\s+-\s+-)?\s*$", line)
        if match:
            module, name = match[2].strip("[]"), match[3]
            if module.startswith("python"):
                # The benchmark itself waits: this is the process that lets no time leap.
                module, name = "(idle)", "(idle)"
            shares[module, name] = shares.get((module, name), 0) + float(match[1])
    if not shares:
        raise RuntimeError(f"perf reports no functions:\n{report[:2000]}")
    found = [Symbol(name, module, share) for (module, name), share in shares.items()]
    return sorted(found, key=lambda symbol: -symbol.share)


def table(symbols_: list[Symbol], limit: int = TOP) -> str:
    """The first functions, and the sum for each module and program."""
    lines = [f"{s.share:6.2f} %  {s.module:<24} {s.name}" for s in symbols_[:limit]]
    sums: dict[str, float] = {}
    for symbol in symbols_:
        sums[symbol.module] = sums.get(symbol.module, 0) + symbol.share
    by_share = sorted(sums.items(), key=lambda item: -item[1])
    lines += ["", *(f"{share:6.2f} %  {name}" for name, share in by_share if share >= 0.1)]
    return "\n".join(lines)
