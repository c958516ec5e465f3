# SPDX-License-Identifier: GPL-2.0
"""An office as users have it: an OpenVPN server, two clients, and a LAN behind one of them.

    server, client1, client2    namespaces on one switch; OpenVPN runs in each
    lan                         a namespace behind client1

Outside, the machines are 192.0.2.N and 2001:db8::N (server 1, client1 11,
client2 12); inside, they are 10.8.0.N and fd00:8::N, handed out by the server; the LAN is
10.99.1.0/24, client1 being .1 and the machine in it .2.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import link, waiting
from .namespace import Namespace
from .network import Switch, cable
from .openvpn import OPENVPN, Daemon
from .ping import Ping, ping
from .pki import Identity, Pki

SERVER = "192.0.2.1"
SERVER6 = "2001:db8::1"
PORT = 1194
VPN4 = "10.8.0"
VPN6 = "fd00:8::"
LAN_HOST = "10.99.1.2"
# The ends of a point-to-point tunnel.
POINTS = ("10.7.0.1", "10.7.0.2")
POINTS6 = ("fd00:7::1", "fd00:7::2")
# New keys every 10 s, for the server and for a client. A client goes on sending under the old key
# for half of its own --reneg-sec (at most --hand-window, 60 s) after a renewal has begun, as the
# server may not have the new one yet. It does not if the old key is itself younger than that: then
# it uses the new key before it has sent the packet that lets the server make it, and loses what it
# sends until then, with any module. So the client's number must be below twice the server's.
RENEGOTIATE = ("reneg-sec 10 10", "reneg-sec 14")


@dataclass(frozen=True)
class Address:
    """The addresses of a daemon inside the VPN."""

    ipv4: str
    ipv6: str


SERVER_VPN = Address("10.8.0.1", "fd00:8::1")
CLIENT_VPN = {
    "client1": Address("10.8.0.11", "fd00:8::11"),
    "client2": Address("10.8.0.12", "fd00:8::12"),
}


class Office:
    """The namespaces and certificates; daemons are made from it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.switch = Switch("switch")
        self.server = Namespace("server")
        self.clients = [Namespace("client1"), Namespace("client2")]
        self.lan = Namespace("lan")
        self.server_port = self.switch.plug(self.server, f"{SERVER}/24", f"{SERVER6}/64")
        for number, client in enumerate(self.clients, start=11):
            self.switch.plug(client, f"192.0.2.{number}/24", f"2001:db8::{number}/64")
        self._build_lan()
        self.server.forward()
        # Not among the logs, which may be handed on: these are private keys.
        self._secrets = tempfile.TemporaryDirectory(prefix="pki-")
        self.pki = Pki(Path(self._secrets.name))
        self.server_identity = self.pki.server("server")
        self.client_identities = [self.pki.client(client.name) for client in self.clients]
        self._points: list[Identity] = []

    def _build_lan(self) -> None:
        gateway = self.clients[0]
        cable(gateway, "lan0", ("10.99.1.1/24",), self.lan, "eth0", (f"{LAN_HOST}/24",))
        gateway.forward()
        self.lan.ip("route add default via 10.99.1.1")

    def namespaces(self) -> list[Namespace]:
        """All namespaces in which an OpenVPN daemon may run."""
        return [self.server, *self.clients]

    def server_daemon(
        self,
        *more: str,
        name: str = "server",
        protocol: str = "udp4",
        cipher: str = "AES-256-GCM",
        status_seconds: int = 1,
        program: str = OPENVPN,
    ) -> Daemon:
        """An OpenVPN server; `more` are further lines of its configuration."""
        clients = self.directory / f"{name}.ccd"
        clients.mkdir(parents=True, exist_ok=True)
        for client, address in CLIENT_VPN.items():
            lines = [
                f"ifconfig-push {address.ipv4} 255.255.255.0",
                f"ifconfig-ipv6-push {address.ipv6}/64 {SERVER_VPN.ipv6}",
            ]
            if client == "client1":
                lines.append("iroute 10.99.1.0 255.255.255.0")
            else:
                lines.append('push "route 10.99.1.0 255.255.255.0"')
            (clients / client).write_text("\n".join(lines) + "\n")
        options = [
            f"proto {protocol}",
            f"port {PORT}",
            f"local {SERVER6 if protocol.endswith('6') else SERVER}",
            "dev tun0",
            "topology subnet",
            f"server {VPN4}.0 255.255.255.0",
            f"server-ipv6 {VPN6}/64",
            f"client-config-dir {clients}",
            "route 10.99.1.0 255.255.255.0",
            "keepalive 5 30",
            "dh none",
            *_credentials(self.pki, self.server_identity),
            f"data-ciphers {cipher}",
            "verb 3",
            *more,
        ]
        return Daemon(name, self.server, self.directory, options, status_seconds, program)

    def client_daemon(
        self,
        number: int,
        *more: str,
        name: str | None = None,
        protocol: str = "udp4",
        cipher: str = "AES-256-GCM",
        program: str = OPENVPN,
    ) -> Daemon:
        """An OpenVPN client (number 1 or 2); `more` are further lines of its configuration."""
        return self.client_elsewhere(
            self.clients[number - 1],
            self.client_identities[number - 1],
            *more,
            name=name,
            protocol=protocol,
            cipher=cipher,
            program=program,
        )

    def client_elsewhere(
        self,
        namespace: Namespace,
        identity: Identity,
        *more: str,
        name: str | None = None,
        interface: str = "tun0",
        protocol: str = "udp4",
        cipher: str = "AES-256-GCM",
        program: str = OPENVPN,
    ) -> Daemon:
        """An OpenVPN client in any namespace on the switch."""
        options = [
            "client",
            f"proto {protocol}",
            f"remote {SERVER6 if protocol.endswith('6') else SERVER} {PORT}",
            f"dev {interface}",
            "nobind",
            "remote-cert-tls server",
            "explicit-exit-notify 1",
            "connect-retry 1 2",
            *_credentials(self.pki, identity),
            f"data-ciphers {cipher}",
            "verb 3",
            *more,
        ]
        return Daemon(name or namespace.name, namespace, self.directory, options, program=program)

    def points(self, *more: str, name: str = "point", protocol: str = "udp4") -> list[Daemon]:
        """Two equals, without --server and pushing, that know each other's fingerprint.

        They are in the server's and the first client's namespaces and have the addresses
        POINTS and POINTS6; `more` are further lines for both.
        """
        if not self._points:
            self._points = [self.pki.self_signed("left"), self.pki.self_signed("right")]
        six = protocol.endswith("6")
        outside = (SERVER6, "2001:db8::11") if six else (SERVER, "192.0.2.11")
        protocols = (f"{protocol}-server", f"{protocol}-client")
        daemons = []
        for own, other in ((0, 1), (1, 0)):
            options = [
                "dev tun0",
                f"proto {protocols[own] if protocol.startswith('tcp') else protocol}",
                f"local {outside[own]}",
                f"remote {outside[other]} {PORT}",
                f"port {PORT}",
                "tls-server" if own == 0 else "tls-client",
                "dh none" if own == 0 else "connect-retry 1 2",
                f"cert {self._points[own].certificate}",
                f"key {self._points[own].key}",
                f"peer-fingerprint {self._points[other].fingerprint()}",
                "data-ciphers AES-256-GCM",
                "cipher AES-256-GCM",
                "keepalive 2 10",
                "verb 3",
                *more,
            ]
            if not any(line.startswith("dev tap") for line in more):
                options += [
                    f"ifconfig {POINTS[own]} {POINTS[other]}",
                    f"ifconfig-ipv6 {POINTS6[own]}/64 {POINTS6[other]}",
                ]
            else:
                options.append(f"ifconfig {POINTS[own]} 255.255.255.0")
            namespace = (self.server, self.clients[0])[own]
            daemons.append(Daemon(f"{name}-{namespace.name}", namespace, self.directory, options))
        return daemons

    def close(self) -> None:
        """Take the office down."""
        for namespace in (*self.namespaces(), self.lan):
            namespace.close()
        self.switch.close()
        self._secrets.cleanup()


def _credentials(pki: Pki, identity: Identity) -> list[str]:
    return [
        f"ca {pki.authority.certificate}",
        f"cert {identity.certificate}",
        f"key {identity.key}",
    ]


def connect(*daemons: Daemon) -> None:
    """Start a server and clients and wait until they say that they are ready."""
    for daemon in daemons:
        daemon.start()
    for daemon in daemons:
        daemon.wait_ready()
    server, *clients = daemons
    for client in clients:
        # The namespace is called as the certificate is.
        server.wait(rf"^.*{client.namespace.name}/.*Data Channel: cipher")


def end(*daemons: Daemon) -> None:
    """Kill daemons, and delete the interfaces, which outlive a daemon that is killed."""
    for daemon in daemons:
        daemon.kill()
    for namespace in {daemon.namespace for daemon in daemons}:
        for interface in namespace.interfaces():
            if interface.startswith(("tun", "tap")):
                link.delete(namespace, interface)


def reach(namespace: Namespace, address: str, timeout: float = 15) -> Ping:
    """Ping until there is an answer."""
    return waiting.until(
        lambda: (result := ping(namespace, address, count=1, wait=1)).complete and result,
        f"{namespace.name} reaches {address}",
        timeout,
    )
