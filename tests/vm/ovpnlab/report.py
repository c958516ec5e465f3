# SPDX-License-Identifier: GPL-2.0
"""The demo's output: headings, facts as they come, and a table at the end."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the closing table."""

    check: str
    passed: bool
    figure: str


class Report:
    """Prints what happens, and remembers what was checked."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._began = time.monotonic()
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def _paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colour else text

    @property
    def seconds(self) -> float:
        """Seconds since the report was begun."""
        return time.monotonic() - self._began

    @property
    def failures(self) -> list[Row]:
        """What was checked and found wrong."""
        return [row for row in self.rows if not row.passed]

    def heading(self, text: str) -> None:
        """A new part begins."""
        clock = self._paint("2", f"{self.seconds:6.1f} s")
        print(f"\n{clock}  {self._paint('1', text)}", flush=True)

    def fact(self, text: str) -> None:
        """Something that was seen."""
        for line in text.splitlines():
            print(f"            {line}", flush=True)

    def check(self, check: str, passed: object, figure: object = "") -> bool:
        """Something that had to be so, and whether it was."""
        row = Row(check, bool(passed), str(figure))
        self.rows.append(row)
        mark = self._paint("32", "ok  ") if passed else self._paint("31;1", "FAIL")
        print(f"      {mark}  {check}" + (f": {row.figure}" if row.figure else ""), flush=True)
        return row.passed

    def table(self) -> None:
        """The closing table."""
        width = max((len(row.check) for row in self.rows), default=10)
        rule = "-" * (width + 42)
        print(f"\n{'check'.ljust(width)}  result  figure\n{rule}")
        for row in self.rows:
            result = self._paint("32", "ok    ") if row.passed else self._paint("31;1", "FAILED")
            print(f"{row.check.ljust(width)}  {result}  {row.figure}".rstrip())
        print(rule)
        passed = len(self.rows) - len(self.failures)
        print(f"{passed} of {len(self.rows)} checks passed, in {self.seconds:.0f} s", flush=True)
