# SPDX-License-Identifier: GPL-2.0
"""Many OpenVPN clients of one server, in one namespace, each with an interface of its own."""

from __future__ import annotations

import subprocess

from . import command, waiting
from .namespace import Namespace
from .office import SERVER_VPN, Office, end
from .openvpn import Daemon

ADDRESS = "192.0.2.50"


class Crowd:
    """`size` real clients on the office's switch; they share an address and a certificate.

    The server needs --duplicate-cn. Their interfaces are tun0, tun1, and so on.
    """

    def __init__(self, office: Office, size: int) -> None:
        self.namespace = Namespace("crowd")
        office.switch.plug(self.namespace, f"{ADDRESS}/24")
        identity = office.pki.client("crowd")
        self.clients = [
            office.client_elsewhere(
                self.namespace,
                identity,
                "hand-window 120",
                name=f"crowd-{number:02}",
                interface=f"tun{number}",
            )
            for number in range(size)
        ]

    def connect(self, timeout: float) -> None:
        """Start all at once and wait until the last is ready."""
        for client in self.clients:
            client.start()
        waiting.until(
            lambda: all(c.find("Initialization Sequence Completed") for c in self.clients),
            f"{len(self.clients)} clients are connected",
            timeout,
            interval=1,
        )

    def ping_server(self, count: int) -> dict[str, str]:
        """All ping the server at once; what ping says of those that lost something, by client."""
        running: list[tuple[Daemon, subprocess.Popen[str]]] = []
        argv = ("ping", "-n", "-q", "-c", str(count), "-i", "0.5", "-W", "10")
        failed: dict[str, str] = {}
        try:
            for number, client in enumerate(self.clients):
                started = self.namespace.start(*argv, "-I", f"tun{number}", SERVER_VPN.ipv4)
                running.append((client, started))
            for client, process in running:
                output, _ = process.communicate(timeout=60)
                if process.returncode != 0 or " 0% packet loss" not in output:
                    failed[client.name] = output
        finally:
            for _, process in running:
                command.stop(process)
        return failed

    def kill(self) -> None:
        """End all, without a word to the server."""
        end(*self.clients)

    def close(self) -> None:
        """Take what is left away."""
        self.kill()
        self.namespace.close()
