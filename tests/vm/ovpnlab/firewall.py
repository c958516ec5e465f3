# SPDX-License-Identifier: GPL-2.0
"""nftables rules and their counters."""

from __future__ import annotations

import json

from .namespace import Namespace


class Firewall:
    """The rules of a namespace while the context lasts: a table `inet lab` with `rules` in it."""

    def __init__(self, namespace: Namespace, rules: str) -> None:
        self._namespace = namespace
        self._rules = rules

    def __enter__(self) -> Firewall:
        self._namespace.run("nft", "-f", "-", stdin=f"table inet lab {{\n{self._rules}\n}}\n")
        return self

    def __exit__(self, *_: object) -> None:
        self._namespace.run("nft", "delete", "table", "inet", "lab")

    def packets(self, counter: str) -> int:
        """How many packets a named counter has seen."""
        listed = self._namespace.run("nft", "-j", "list", "counter", "inet", "lab", counter)
        (found,) = [each["counter"] for each in json.loads(listed)["nftables"] if "counter" in each]
        return int(found["packets"])
