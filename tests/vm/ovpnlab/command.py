# SPDX-License-Identifier: GPL-2.0
"""Running programs, always with a time limit."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from . import kmemleak


class CommandFailed(RuntimeError):
    """A program ended with a status other than 0, or not in time."""

    def __init__(self, argv: Sequence[str], status: int | None, output: str) -> None:
        how = "did not end in time" if status is None else f"ended with status {status}"
        super().__init__(f"`{' '.join(argv)}` {how}\n{output.strip()}")
        self.status = status
        self.output = output


def run(
    *argv: str,
    timeout: float = 30,
    check: bool = True,
    stdin: str | None = None,
) -> str:
    """Run a program to its end and return what it printed (both streams).

    With `check`, a status other than 0 raises `CommandFailed`; running out of time, which
    is `timeout` seconds and more on a debug kernel, always does.
    """
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout * kmemleak.slowness(),
        )
    except subprocess.TimeoutExpired as expired:
        output = expired.output or b""
        text = output.decode(errors="replace") if isinstance(output, bytes) else output
        raise CommandFailed(argv, None, text) from None
    if check and done.returncode != 0:
        raise CommandFailed(argv, done.returncode, done.stdout)
    return done.stdout


def start(*argv: str, output: int | None = None) -> subprocess.Popen[str]:
    """Start a program and leave it running; `output` is where both streams go."""
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if output is None else output,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def stop(process: subprocess.Popen[str], timeout: float = 5) -> None:
    """End a program that was started: first politely, then not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
    if process.stdout is not None:
        process.stdout.close()
