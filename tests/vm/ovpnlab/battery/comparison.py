# SPDX-License-Identifier: GPL-2.0
"""Two modules' answers and the table of differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from .bench import NOT_SENT, OK, Answer

FACETS = ("outcome", "message", "reply", "heard", "after")


@dataclass(frozen=True)
class Difference:
    """One row of the table: where the modules differ, how, and why that is wanted.

    `cases`, `c` and `ours` are shell patterns: of the names of requests, and of the
    facet of the C module's answer and of ours. Where `c` is NOT_SENT the C module is
    spared the request.
    """

    cases: str
    facet: str
    c: str
    ours: str
    reason: str

    def covers(self, name: str, facet: str, c: str, ours: str) -> bool:
        """Whether this row is about that."""
        return (
            self.facet == facet
            and fnmatchcase(name, self.cases)
            and fnmatchcase(c, self.c)
            and fnmatchcase(ours, self.ours)
        )


def differences(c: Answer, ours: Answer) -> list[tuple[str, str, str]]:
    """Facet and both values of what is not as it should be."""
    if c.outcome == NOT_SENT:
        return [("outcome", NOT_SENT, ours.outcome)]
    found = []
    for facet in FACETS:
        theirs, mine = getattr(c, facet), getattr(ours, facet)
        if facet == "message":
            # Each refusal of ours says why; the C module leaves that to the netlink core.
            wrong = ours.outcome != OK and (not mine or (theirs and theirs != mine))
        else:
            wrong = theirs != mine
        if wrong:
            found.append((facet, theirs, mine))
    return found


def compare(
    c: dict[str, Answer], ours: dict[str, Answer], table: Sequence[Difference]
) -> list[str]:
    """What is wrong, one sentence each: differences without a row, rows without a difference."""
    wrong = []
    used: set[Difference] = set()
    for name in sorted(c.keys() ^ ours.keys()):
        wrong.append(f"{name}: only {'the C module' if name in c else 'ours'} was asked this")
    for name in [name for name in ours if name in c]:
        for facet, theirs, mine in differences(c[name], ours[name]):
            rows = [row for row in table if row.covers(name, facet, theirs, mine)]
            used.update(rows)
            if not rows:
                wrong.append(
                    f"{name}: {facet}: the C module answers {theirs!r}, ours answers {mine!r}"
                )
    for row in table:
        if row not in used:
            wrong.append(f"the table's row {row.cases!r} ({row.facet}) does not differ any more")
    return wrong
