# SPDX-License-Identifier: GPL-2.0
"""The tunnels that are compared: each between the two ends of a fresh site."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ovpnlab import command, link, module
from ovpnlab.family import Cipher, Control, KeyPair
from ovpnlab.ping import ping

from . import kernel_ovpn, userspace, wireguard
from .site import INNER_LEFT, INNER_RIGHT, MTU, PORT, Site

CIPHERS = {"aes": Cipher.AES_GCM, "chacha": Cipher.CHACHA20_POLY1305}
C_MODULE = Path("/opt/ovpn-dco-c", os.uname().release, "ovpn-dco-v2.ko")
NAME = "tun0"

# Whoever asks for a cipher first gets what is loaded: let it be the fast ones, as on any machine
# whose udev loads what the processor has.
MODULES = ("veth", "tun", "ovpn", "wireguard", "aesni_intel", "gcm", "chacha20poly1305")

Open = Callable[[Site, str, str, ExitStack], None]


@dataclass(frozen=True)
class Variant:
    """One thing that is measured: whose tunnel, with which cipher, over what."""

    rival: str
    cipher: str
    transport: str

    def __str__(self) -> str:
        return " ".join(part for part in (self.rival, self.cipher, self.transport) if part)


@dataclass(frozen=True)
class Rival:
    """A kind of tunnel: what it is, what it can do, and how it is set up."""

    title: str
    open: Open
    ciphers: tuple[str, ...] = ("aes", "chacha")
    transports: tuple[str, ...] = ("udp", "tcp")
    module: Callable[[], Path | None] = lambda: None


# -- how each is set up -------------------------------------------------------------------


def _set_up(site: Site, kind: str) -> list[int]:
    indices = []
    for namespace, _, inner, _ in site.ends:
        indices.append(link.create(namespace, NAME, mtu=MTU, kind=kind))
        namespace.sysctl(f"ipv6.conf.{NAME}.disable_ipv6", 1)
        link.add_address(namespace, NAME, f"{inner}/24")
        link.set_up(namespace, NAME)
    return indices


def _open_none(site: Site, cipher: str, transport: str, stack: ExitStack) -> None:
    for namespace, _, inner, _ in site.ends:
        namespace.ip(f"link set eth0 mtu {MTU}", f"addr add {inner}/24 dev eth0")


def _open_dco(site: Site, cipher: str, transport: str, stack: ExitStack) -> None:
    _open_offload(site, cipher, transport, stack, link.KIND, Control)


def _open_ovpn(site: Site, cipher: str, transport: str, stack: ExitStack) -> None:
    _open_offload(site, cipher, transport, stack, kernel_ovpn.KIND, kernel_ovpn.Control)


def _open_offload(
    site: Site,
    cipher: str,
    transport: str,
    stack: ExitStack,
    kind: str,
    make_control: type[Control] | type[kernel_ovpn.Control],
) -> None:
    """A peer and a key at each end: what OpenVPN asks the kernel for, without OpenVPN."""
    sockets = site.udp_pair() if transport == "udp" else site.tcp_pair()
    indices = _set_up(site, kind)
    keys = KeyPair.random(cipher=CIPHERS[cipher])
    for number, (namespace, _, _, remote) in enumerate(site.ends):
        stack.callback(sockets[number].close)
        stack.callback(link.delete, namespace, NAME)
        control = make_control(namespace)
        stack.callback(control.close)
        to = (remote, PORT) if transport == "udp" else None
        control.new_peer(indices[number], 1, sockets[number], to)
        control.new_key(indices[number], 1, keys if number == 0 else keys.flipped())


def _open_wireguard(site: Site, cipher: str, transport: str, stack: ExitStack) -> None:
    indices = _set_up(site, wireguard.KIND)
    identities = [wireguard.Identity.random(), wireguard.Identity.random()]
    for number, (namespace, _, _, remote) in enumerate(site.ends):
        wireguard.configure(
            namespace,
            indices[number],
            identities[number],
            PORT,
            identities[1 - number],
            (remote, PORT),
            f"{site.ends[1 - number][2]}/32",
        )


def _open_userspace(site: Site, cipher: str, transport: str, stack: ExitStack) -> None:
    userspace.open_tunnel(site, cipher, transport, stack)


RIVALS = {
    "none": Rival("no tunnel", _open_none, ("",), ("",)),
    "ours": Rival("ovpn-dco (Rust)", _open_dco, module=module.path),
    "ovpn": Rival("kernel's ovpn", _open_ovpn),
    "c-dco": Rival("ovpn-dco-v2 (C)", _open_dco, module=lambda: C_MODULE),
    "wireguard": Rival("WireGuard", _open_wireguard, ("chacha",), ("udp",)),
    "userspace": Rival("OpenVPN, no offload", _open_userspace),
}


# -- in use -------------------------------------------------------------------------------


@contextlib.contextmanager
def loaded(rival: Rival) -> Iterator[None]:
    """The rival's own module is loaded, if it brings one; ours and the C one only in turn."""
    file = rival.module()
    if file is None:
        yield
        return
    module.ensure_unloaded()
    module.load(file)
    try:
        yield
    finally:
        module.unload()


@contextlib.contextmanager
def tunnel(variant: Variant) -> Iterator[Site]:
    """A site with the tunnel up and seen to work."""
    with ExitStack() as stack:
        site = Site()
        stack.callback(site.close)
        RIVALS[variant.rival].open(site, variant.cipher, variant.transport, stack)
        if not ping(site.left, INNER_RIGHT, count=1, attempts=5, wait=2).complete:
            raise RuntimeError(f"{variant}: no ping from {INNER_LEFT} to {INNER_RIGHT}")
        yield site


def prepare() -> None:
    """Load what the rivals need."""
    command.run("modprobe", "-a", *MODULES, timeout=120)


def versions() -> dict[str, str]:
    """What was measured, in which version."""
    told = {"kernel": os.uname().release, "ours": "".join(module.info("version"))}
    if C_MODULE.exists():
        told["c-dco"] = "".join(module.info("version", C_MODULE))
    told["userspace"] = command.run("openvpn", "--version", check=False).split("[")[0].strip()
    told["iperf3"] = command.run("iperf3", "--version").splitlines()[0]
    return told
