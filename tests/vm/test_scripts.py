# SPDX-License-Identifier: GPL-2.0
"""The shell tests, which use the test tool as a user does: tests/*.sh and tests/ovpn-cli."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ovpnlab import module

TESTS = Path(os.environ.get("OVPN_DCO_BUILD", Path(__file__).resolve().parents[2])) / "tests"

SCRIPTS = [
    ("netns-test.sh", "-c"),
    ("netns-test.sh", "-c", "-6"),
    ("netns-test.sh", "-c", "-t"),
    ("float-test.sh",),
    ("multihome-test.sh",),
]


@pytest.fixture(autouse=True, scope="module")
def loaded() -> Iterator[None]:
    """The scripts need the module and the tool."""
    module.ensure_loaded()
    assert (TESTS / "ovpn-cli").exists(), "build the tool with make tests"
    yield


@pytest.mark.parametrize("script", SCRIPTS, ids=" ".join)
def test_script(script: tuple[str, ...]) -> None:
    name, *arguments = script
    done = subprocess.run(
        [str(TESTS / name), *arguments],
        cwd=TESTS,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout
