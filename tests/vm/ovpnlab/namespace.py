# SPDX-License-Identifier: GPL-2.0
"""Network namespaces."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import command, waiting
from .netlink import RouteSocket

_HOME = "/proc/thread-self/ns/net"


class Namespace:
    """A named network namespace, visible to `ip netns`, with its loopback up.

    The calling thread steps inside for the time of `entered()`; programs and
    sockets that are made there stay there.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        path = Path("/run/netns", name)
        if path.exists():
            command.run("ip", "netns", "del", name)
        command.run("ip", "netns", "add", name)
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        # No wait for duplicate address detection: nothing here has duplicates.
        self.sysctl("ipv6.conf.all.accept_dad", 0)
        self.sysctl("ipv6.conf.default.accept_dad", 0)
        self.ip("link set lo up")

    def __repr__(self) -> str:
        return f"Namespace({self.name!r})"

    @property
    def fd(self) -> int:
        """An open descriptor of the namespace."""
        return self._fd

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is inside this namespace."""
        home = os.open(_HOME, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.setns(self._fd, os.CLONE_NEWNET)
            try:
                yield
            finally:
                os.setns(home, os.CLONE_NEWNET)
        finally:
            os.close(home)

    def run(
        self,
        *argv: str,
        timeout: float = 30,
        check: bool = True,
        stdin: str | None = None,
    ) -> str:
        """Run a program inside to its end; see `command.run`."""
        with self.entered():
            return command.run(*argv, timeout=timeout, check=check, stdin=stdin)

    def start(self, *argv: str, output: int | None = None) -> subprocess.Popen[str]:
        """Start a program inside and leave it running; see `command.start`."""
        with self.entered():
            return command.start(*argv, output=output)

    def ip(self, *lines: str, version: int | None = None) -> None:
        """Run `ip` inside, once, on one or more lines of arguments.

        `version` is for those that do not tell by an address which IP they mean.
        """
        family = () if version is None else (f"-{version}",)
        self.run("ip", *family, "-batch", "-", stdin="\n".join(lines) + "\n")

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket of this namespace."""
        with self.entered():
            return socket.socket(family, kind, protocol)

    def route_socket(self) -> RouteSocket:
        """An rtnetlink socket of this namespace."""
        with self.entered():
            return RouteSocket()

    def sysctl(self, name: str, value: int | str) -> None:
        """Set `net.NAME`."""
        with self.entered():
            Path("/proc/sys/net", *name.split(".")).write_text(f"{value}\n")

    def forward(self) -> None:
        """Let the namespace route between its interfaces."""
        self.sysctl("ipv4.ip_forward", 1)
        self.sysctl("ipv6.conf.all.forwarding", 1)

    def interfaces(self) -> list[str]:
        """The names of the interfaces inside."""
        with self.entered():
            return [name for _, name in socket.if_nameindex()]

    def has(self, interface: str) -> bool:
        """Whether an interface of that name is inside."""
        return interface in self.interfaces()

    def index(self, interface: str) -> int:
        """The index of an interface inside."""
        with self.entered():
            return socket.if_nametoindex(interface)

    def wait_gone(self, interface: str, timeout: float = 5) -> None:
        """Wait until no interface has that name."""
        waiting.until(
            lambda: not self.has(interface), f"{interface} gone from {self.name}", timeout
        )

    def close(self) -> None:
        """Delete the namespace; what lives inside keeps it until it ends."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            command.run("ip", "netns", "del", self.name, check=False)
