# SPDX-License-Identifier: GPL-2.0
"""The figures of a run: all of them as JSON, and a table with ratios."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .load import LOADS
from .rivals import RIVALS, Variant


@dataclass
class Record:
    """All runs, in the order in which they were made."""

    conditions: dict[str, Any]
    runs: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self, variant: Variant, load: str, figures: dict[str, float], failed: str = ""
    ) -> None:
        """Keep a run, or what is said of why there are no figures."""
        why = {"failed": failed} if failed else {}
        self.runs.append({**variant.__dict__, "load": load, **figures, **why})

    def failures(self, rival: str) -> list[str]:
        """Why loads did not come through."""
        return [run["failed"] for run in self.runs if run["rival"] == rival and "failed" in run]

    def save(self, file: Path) -> None:
        """Write everything."""
        content = {"conditions": self.conditions, "runs": self.runs}
        file.write_text(json.dumps(content, indent=1) + "\n")

    @classmethod
    def read(cls, file: Path) -> Record:
        """Read what `save` wrote."""
        content = json.loads(file.read_text())
        return cls(content["conditions"], content["runs"])

    def value(
        self, load: str, rival: str, cipher: str, transport: str, figure: str = "value"
    ) -> float | None:
        """The median of the runs of one kind; what has no cipher stands in every row."""
        if rival == "none":
            cipher = transport = ""
        values = [
            run[figure]
            for run in self.runs
            if (run["load"], run["rival"], run["cipher"], run["transport"])
            == (load, rival, cipher, transport)
            and figure in run
        ]
        return statistics.median(values) if values else None

    def rivals(self) -> list[str]:
        """Those that were measured."""
        return [name for name in RIVALS if any(run["rival"] == name for run in self.runs)]

    def rows(self) -> list[tuple[str, str, str]]:
        """Transport, cipher and load of each row that has figures of a tunnel."""
        there = {(run["transport"], run["cipher"], run["load"]) for run in self.runs}
        return [
            (transport, cipher, load)
            for transport in ("udp", "tcp")
            for cipher in ("aes", "chacha")
            for load in LOADS
            if (transport, cipher, load) in there
        ]

    def _failed(self, *what: str) -> bool:
        return any(
            (run["load"], run["rival"], run["cipher"], run["transport"]) == what
            for run in self.runs
            if "failed" in run
        )

    def table(self) -> str:
        """One row for each kind of traffic; in brackets: how many times as good ours is."""
        rivals = self.rivals()
        lines = [["outer", "cipher", "traffic", "unit", *(RIVALS[name].title for name in rivals)]]
        for transport, cipher, load in self.rows():
            for figure, title in LOADS[load].titles.items():
                values = [self.value(load, name, cipher, transport, figure) for name in rivals]
                ours = values[rivals.index("ours")] if "ours" in rivals else None
                cells = [
                    "failed"
                    if value is None and self._failed(load, name, cipher, transport)
                    else _cell(load, name, value, ours)
                    for name, value in zip(rivals, values)
                ]
                lines.append([transport, cipher, title, LOADS[load].unit, *cells])
        return _aligned(lines)


def ratio(load: str, ours: float, theirs: float) -> float:
    """How many times as good ours is."""
    return ours / theirs if LOADS[load].more_is_better else theirs / ours


def _cell(load: str, name: str, value: float | None, ours: float | None) -> str:
    if value is None:
        return "-"
    if ours is None or name == "ours":
        return f"{value:,.0f}"
    return f"{value:,.0f} ({ratio(load, ours, value):.2f}x)"


def _aligned(lines: list[list[str]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < 4 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in lines
    )
