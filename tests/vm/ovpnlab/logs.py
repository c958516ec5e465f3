# SPDX-License-Identifier: GPL-2.0
"""Logs: written to the machine's own memory while daemons run, kept on the host after."""

from __future__ import annotations

import shutil
from pathlib import Path

KEPT = ("*.log", "*.conf", "*.status", "*.pcap")


def keep(directory: Path, results: Path) -> Path:
    """Move the logs of a finished run into `results`, which holds nothing else after.

    A file system that is shared with the host does not bear reading a file that is
    being appended to, so daemons do not write there.
    """
    if results.exists():
        shutil.rmtree(results)
    results.mkdir(parents=True)
    for pattern in KEPT:
        for file in directory.glob(pattern):
            shutil.copyfile(file, results / file.name)
    shutil.rmtree(directory)
    return results
