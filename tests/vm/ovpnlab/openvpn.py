# SPDX-License-Identifier: GPL-2.0
"""OpenVPN daemons: configuration, start, log, status files, stop."""

from __future__ import annotations

import csv
import re
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from . import waiting
from .namespace import Namespace


OPENVPN = "openvpn"
# Put there by scripts/counterparts
OPENVPN_27 = "/opt/openvpn-2.7/usr/sbin/openvpn"


class DaemonFailed(RuntimeError):
    """A daemon ended, or did not say in time what was expected of it."""


class Daemon:
    """One OpenVPN process: its configuration file, its log, its life.

    The same object can be started again; the log goes on in the same file, and
    what the log is asked about is the latest life. Another daemon of the same name
    gets files of its own.

    OpenVPN 2.6 may lose the kernel's notification of a removed peer if it comes while
    it reads the statistics for its status file (issue 900 of OpenVPN). Where that would
    matter, `status_seconds` is long.
    """

    def __init__(
        self,
        name: str,
        namespace: Namespace,
        directory: Path,
        options: Iterable[str],
        status_seconds: int = 1,
        program: str = OPENVPN,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        earlier = len(list(directory.glob(f"{name}*.conf")))
        name = f"{name}-{earlier + 1}" if earlier else name
        self.name = name
        self.namespace = namespace
        self.status_seconds = status_seconds
        self.program = program
        self.configuration = directory / f"{name}.conf"
        self.log_file = directory / f"{name}.log"
        self.status_file = directory / f"{name}.status"
        self.configuration.write_text("\n".join(options) + "\n")
        self.log_file.write_text("")
        self._life_starts = 0
        self._process: subprocess.Popen[str] | None = None

    def __repr__(self) -> str:
        return f"Daemon({self.name!r})"

    # -- life -----------------------------------------------------------------------------

    def start(self) -> None:
        """Start the process; `wait` for what it says."""
        self._life_starts = self.log_file.stat().st_size
        with self.log_file.open("ab") as log:
            self._process = self.namespace.start(
                self.program,
                *("--cd", str(self.configuration.parent)),
                *("--config", str(self.configuration)),
                *("--status", str(self.status_file), str(self.status_seconds)),
                *("--status-version", "3"),
                output=log.fileno(),
            )

    def is_running(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, timeout: float = 10) -> float:
        """End the process with SIGTERM; returns how many seconds it took."""
        if not self.is_running():
            return 0.0
        assert self._process is not None
        began = time.monotonic()
        self._process.terminate()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)
            raise DaemonFailed(
                f"{self.name} did not end within {timeout:g} s of SIGTERM\n{self.tail()}"
            ) from None
        return time.monotonic() - began

    def kill(self) -> None:
        """End the process with SIGKILL, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(5)

    # -- log ------------------------------------------------------------------------------

    @property
    def log(self) -> str:
        """The log of the latest life."""
        with self.log_file.open("rb") as log:
            log.seek(self._life_starts)
            return log.read().decode(errors="replace")

    def tail(self, lines: int = 25) -> str:
        """The end of the log, with a title, for a report."""
        end = "\n".join(self.log.splitlines()[-lines:])
        return f"--- {self.name}: {self.log_file} ---\n{end}"

    def find(self, pattern: str) -> list[re.Match[str]]:
        """All matches of a pattern (^ and $ match at lines) in the log."""
        return list(re.finditer(pattern, self.log, re.MULTILINE))

    def wait(self, pattern: str, timeout: float = 45, count: int = 1) -> re.Match[str]:
        """Wait until the log has `count` matches of a pattern; returns the last of them."""

        def matched() -> list[re.Match[str]]:
            found = self.find(pattern)
            if len(found) < count and not self.is_running():
                raise DaemonFailed(f"{self.name} ended\n{self.tail()}")
            return found if len(found) >= count else []

        try:
            return waiting.until(matched, f"{self.name} says /{pattern}/", timeout, 0.1)[-1]
        except TimeoutError as error:
            raise DaemonFailed(f"{error}\n{self.tail()}") from None

    def wait_ready(self, timeout: float = 60) -> None:
        """Wait until the daemon says that it is initialised."""
        self.wait("Initialization Sequence Completed", timeout)

    # -- status ---------------------------------------------------------------------------

    def server_status(self, newer_than: float | None = None) -> dict[str, ClientStatus]:
        """The clients in a server's status file, by common name; see `server_clients`."""
        return {client.name: client for client in self.server_clients(newer_than)}

    def server_clients(self, newer_than: float | None = None) -> list[ClientStatus]:
        """The clients in a server's status file.

        With `newer_than` (seconds since the epoch) waits for a file that says so.
        """

        def fresh() -> str:
            text = self._status_text()
            stamp = re.search(r"^TIME\t[^\t]*\t(\d+)", text, re.MULTILINE)
            complete = text.rstrip().endswith("END")
            new = stamp and (newer_than is None or int(stamp[1]) > newer_than)
            return text if complete and new else ""

        return parse_server_status(
            waiting.until(fresh, f"a status file of {self.name}", timeout=15, interval=0.2)
        )

    def client_status(self, newer_than: float | None = None) -> dict[str, int]:
        """The counters in a client's status file, by their names there.

        With `newer_than` (seconds since the epoch) waits for a file that says so.
        """

        def fresh() -> str:
            text = self._status_text()
            stamp = re.search(r"^Updated,(.*)$", text, re.MULTILINE)
            complete = text.rstrip().endswith("END")
            if not stamp or not complete:
                return ""
            written = time.mktime(time.strptime(stamp[1], "%Y-%m-%d %H:%M:%S"))
            return text if newer_than is None or written > newer_than else ""

        text = waiting.until(fresh, f"a status file of {self.name}", timeout=15, interval=0.2)
        pairs = (line.rpartition(",") for line in text.splitlines())
        return {name: int(value) for name, _, value in pairs if value.isdigit()}

    def _status_text(self) -> str:
        """The status file, or "" while it is being written: OpenVPN writes over the old one."""
        if not self.status_file.exists():
            return ""
        text = self.status_file.read_text()
        time.sleep(0.1)
        return text if self.status_file.read_text() == text else ""


@dataclass(frozen=True)
class ClientStatus:
    """One client in a server's status file."""

    name: str
    real_address: str
    ipv4: str
    ipv6: str
    received: int
    sent: int
    cipher: str


def parse_server_status(text: str) -> list[ClientStatus]:
    """The clients of a status file of version 3."""
    columns: list[str] = []
    clients: list[ClientStatus] = []
    for row in csv.reader(text.splitlines(), delimiter="\t"):
        if row[:2] == ["HEADER", "CLIENT_LIST"]:
            columns = row[2:]
        elif row[:1] == ["CLIENT_LIST"]:
            value = dict(zip(columns, row[1:]))
            clients.append(
                ClientStatus(
                    name=value["Common Name"],
                    real_address=value["Real Address"],
                    ipv4=value["Virtual Address"],
                    ipv6=value["Virtual IPv6 Address"],
                    received=int(value["Bytes Received"]),
                    sent=int(value["Bytes Sent"]),
                    cipher=value["Data Channel Cipher"],
                )
            )
    return clients
