# SPDX-License-Identifier: GPL-2.0
"""OpenVPN without any offload: two equals, TLS with fingerprints."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from ovpnlab.openvpn import Daemon
from ovpnlab.pki import Identity, Pki

from .site import MTU, PORT, Site

CIPHERS = {"aes": "AES-256-GCM", "chacha": "CHACHA20-POLY1305"}


def open_tunnel(
    site: Site, cipher: str, transport: str, stack: contextlib.ExitStack
) -> list[Daemon]:
    """Start both daemons and wait until they are ready."""
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
    pki = Pki(directory)
    identities = [pki.self_signed("left"), pki.self_signed("right")]
    daemons = []
    for number in (0, 1):
        options = _options(site, number, identities, CIPHERS[cipher], transport)
        namespace = site.ends[number][0]
        daemon = Daemon(namespace.name, namespace, directory, options, status_seconds=3600)
        daemons.append(daemon)
        stack.callback(daemon.stop)
        daemon.start()
    for daemon in daemons:
        daemon.wait_ready()
        daemon.wait(f"Data Channel: cipher '{CIPHERS[cipher]}'")
    return daemons


def _options(
    site: Site, number: int, identities: list[Identity], cipher: str, transport: str
) -> list[str]:
    _, outer, inner, remote = site.ends[number]
    own, other = identities[number], identities[1 - number]
    suffix = "" if transport == "udp" else ("-server", "-client")[number]
    connection = [f"remote {remote} {PORT}", f"port {PORT}"]
    if transport == "tcp":
        connection = [f"port {PORT}"] if number == 0 else [f"remote {remote} {PORT}"]
    return [
        "dev tun0",
        "disable-dco",
        f"proto {transport}4{suffix}",
        f"local {outer}",
        *connection,
        "tls-server" if number == 0 else "tls-client",
        "dh none" if number == 0 else "connect-retry 1 2",
        f"cert {own.certificate}",
        f"key {own.key}",
        f"peer-fingerprint {other.fingerprint()}",
        f"ifconfig {inner} {site.ends[1 - number][2]}",
        f"data-ciphers {cipher}",
        f"cipher {cipher}",
        f"tun-mtu {MTU}",
        "verb 3",
    ]
