# SPDX-License-Identifier: GPL-2.0
"""The module as a file and as a guest of the kernel: load, unload, again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from ovpnlab import command, link, module, waiting
from ovpnlab.family import KeyPair, Removals
from ovpnlab.interface import Interface
from ovpnlab.namespace import Namespace
from ovpnlab.netlink import GenericSocket, NetlinkError
from ovpnlab.ping import ping


@pytest.fixture(autouse=True)
def unloaded() -> Iterator[None]:
    """Each test begins without the module."""
    module.ensure_unloaded()
    yield
    module.ensure_unloaded()


@pytest.mark.smoke
def test_load_and_unload() -> None:
    module.load()
    assert module.is_loaded()
    module.unload()
    assert not module.is_loaded()


@pytest.mark.smoke
def test_version_is_readable_where_openvpn_reads_it() -> None:
    module.load()
    assert module.version() == module.info("version")[0]
    assert module.version()[0].isdigit()
    shown = command.run("openvpn", "--version", check=False)
    assert f"DCO version: {module.version()}\n" in shown


@pytest.mark.differs_from_c("it has no alias ovpn-dco")
def test_aliases() -> None:
    wanted = {"rtnl-link-ovpn-dco", "net-pf-16-proto-16-family-ovpn-dco-v2", "ovpn-dco"}
    assert wanted <= set(module.info("alias"))


def test_licence_and_description() -> None:
    assert module.info("license") == ["GPL"]
    assert module.info("name") == [module.NAME]
    assert module.info("description")[0]
    module.load()
    # Bit 0 of the kernel's taint is a proprietary module.
    assert int(open("/proc/sys/kernel/tainted").read()) & 1 == 0


def test_interfaces_come_and_go_with_the_module() -> None:
    namespace = Namespace("alpha")
    try:
        with pytest.raises(NetlinkError):
            link.create(namespace, "tun0")
        with pytest.raises(NetlinkError), GenericSocket() as generic:
            generic.family("ovpn-dco-v2")
        module.load()
        link.create(namespace, "tun0")
        with GenericSocket() as generic:
            assert generic.family("ovpn-dco-v2")
    finally:
        namespace.close()


def test_load_twenty_times() -> None:
    for _ in range(20):
        module.load()
        module.unload()


@pytest.mark.smoke
def test_unload_takes_interfaces_along() -> None:
    module.load()
    namespace = Namespace("alpha")
    try:
        for number in range(5):
            link.create(namespace, f"tun{number}", mode=number % 2)
            link.set_up(namespace, f"tun{number}")
        assert module.users() == 0, "interfaces must not hold the module"
        command.run("rmmod", module.NAME)
        assert namespace.interfaces() == ["lo"]
    finally:
        namespace.close()


def test_unload_takes_a_tunnel_along(alpha: Namespace, beta: Namespace) -> None:
    """Both ends are in use by traffic when the module is asked to go."""
    module.load()
    removals = Removals(alpha)
    ends = [
        Interface(alpha, "192.0.2.1", "10.8.0.1/24"),
        Interface(beta, "192.0.2.2", "10.8.0.2/24"),
    ]
    pinger = None
    try:
        keys = KeyPair.random()
        ends[0].add_peer(7, ends[1].address, keys)
        ends[1].add_peer(7, ends[0].address, keys.flipped())
        index = ends[0].index
        assert ping(alpha, "10.8.0.2", attempts=3).complete
        pinger = alpha.start("ping", "-f", "-q", "-w", "30", "10.8.0.2")
        waiting.until(lambda: ends[0].peer(7).vpn_tx.packets > 50, "pings flow")
        for end in ends:
            end.control.close()
        # The listener's socket holds the family no more than anybody's does.
        command.run("rmmod", module.NAME)
        assert not module.is_loaded()
        assert not alpha.has("tun0") and not beta.has("tun0")
        (removal,) = removals.collect(1)
        assert (removal.index, removal.peer_id, removal.reason) == (index, 7, 0)
        # The sockets are the owner's again.
        assert ends[0].socket is not None and ends[1].socket is not None
        ends[0].socket.sendto(b"\x48 once more", ends[1].address)
        ends[1].socket.settimeout(5)
        waiting.until(lambda: b"once more" in ends[1].transport.recv(2048), "a datagram")
    finally:
        if pinger:
            command.stop(pinger)
        removals.close()
        for end in ends:
            end.close()


def test_autoload_by_link_kind_family_and_name(tmp_path: Path) -> None:
    """The kernel asks for the module by its aliases; modprobe finds it by its name.

    The kernel's module directory stays as it is: the kernel gets a modprobe that looks
    into a directory with nothing but our module.
    """
    release = os.uname().release
    directory = tmp_path / "lib/modules" / release
    (directory / "updates").mkdir(parents=True)
    shutil.copy(module.path(), directory / "updates" / "ovpn-dco-v2.ko")
    command.run("depmod", "-b", str(tmp_path), release)
    wrapper = tmp_path / "modprobe"
    wrapper.write_text(f'#!/bin/sh\nexec /sbin/modprobe -d {tmp_path} "$@"\n')
    wrapper.chmod(0o755)
    kernel_setting = Path("/proc/sys/kernel/modprobe")
    before = kernel_setting.read_text()
    module.load()  # and with it what it depends on
    namespace = Namespace("alpha")
    try:
        kernel_setting.write_text(str(wrapper))
        module.unload()
        link.create(namespace, "tun0")
        assert module.is_loaded()
        module.unload()
        with GenericSocket() as generic:
            generic.family("ovpn-dco-v2")
        assert module.is_loaded()
        module.unload()
        if "ovpn-dco" in module.info("alias"):  # see test_aliases
            command.run("modprobe", "-d", str(tmp_path), "ovpn-dco")
            assert module.is_loaded()
    finally:
        kernel_setting.write_text(before)
        namespace.close()
