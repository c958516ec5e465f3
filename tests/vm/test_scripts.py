# SPDX-License-Identifier: GPL-2.0
"""The shell tests, and the test tool as a user has it: tests/*.sh and tests/ovpn-cli."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ovpnlab import kmemleak, module
from ovpnlab.command import CommandFailed
from ovpnlab.namespace import Namespace
from ovpnlab.network import cable
from ovpnlab.ping import ping

BUILD = Path(os.environ.get("OVPN_DCO_BUILD", Path(__file__).resolve().parents[2]))
TESTS = BUILD / "tests"

SCRIPTS = [
    ("netns-test.sh", "-c", "-6", "3"),
    ("netns-test.sh", "-c", "-t"),
    ("netns-test.sh", "-c", "-t", "-6", "1"),
    ("float-test.sh",),
    ("float-test.sh", "-6"),
    ("multihome-test.sh",),
    ("multihome-test.sh", "-6"),
]


@pytest.fixture(autouse=True, scope="module")
def loaded() -> Iterator[None]:
    """The scripts need the module and the tool."""
    module.ensure_loaded()
    assert (TESTS / "ovpn-cli").exists(), "build the tool with make tests"
    yield


def run_script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script from the tests folder."""
    return subprocess.run(
        [f"./{name}", *arguments],
        cwd=TESTS,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110 * kmemleak.slowness(),
        check=False,
    )


def ends() -> list[str]:
    """The namespaces that the scripts make, as far as they are there."""
    return sorted(path.name for path in Path("/run/netns").glob("peer[0-9]*"))


@pytest.mark.parametrize("script", SCRIPTS, ids=" ".join)
def test_script(script: tuple[str, ...]) -> None:
    done = run_script(*script)
    assert done.returncode == 0, done.stdout
    assert ends() == [], "the script was to leave nothing behind"


def test_tunnel_to_play_with() -> None:
    """As the tool's documentation has it: run the script, then ping the other end."""
    try:
        done = run_script("netns-test.sh")
        assert done.returncode == 0, done.stdout
        assert ends() == ["peer0", "peer1", "peer2"]
        answer = subprocess.run(
            ["ip", "netns", "exec", "peer0", "ping", "-U", "-c", "1", "-W", "5", "5.5.5.2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=20,
            check=False,
        )
        assert answer.returncode == 0, answer.stdout
    finally:
        done = run_script("netns-test.sh", "-c", "1")
    assert done.returncode == 0, f"a second run was to clear up after the first:\n{done.stdout}"
    assert ends() == []


# -- the tool -----------------------------------------------------------------------------


@pytest.fixture
def hosts() -> Iterator[tuple[Namespace, Namespace]]:
    """The two hosts of the documents: 192.168.100.150 and 192.168.100.100."""
    one, other = Namespace("host150"), Namespace("host100")
    cable(one, "eth0", ("192.168.100.150/24",), other, "eth0", ("192.168.100.100/24",))
    yield one, other
    for host in (one, other):
        # The tool's holders of sockets are in the namespace until the interface goes.
        host.run("ip", "link", "del", "ovpn0", check=False)
        host.close()


def shell(host: Namespace, lines: str) -> str:
    """Run command lines on a host, from the top of the checkout; returns what they print."""
    return host.run("sh", "-e", "-c", f"cd {BUILD}\n{lines}", timeout=30)


def test_command_lines_of_the_documents(hosts: tuple[Namespace, Namespace]) -> None:
    """The Linux end as it is written there; the other end is the same with the numbers changed."""
    one, other = hosts
    shell(
        one,
        """
        ip link add dev ovpn0 type ovpn-dco
        ip link set ovpn0 up
        ip link set mtu 1428 dev ovpn0

        ip addr add dev ovpn0 10.8.0.1/24

        tests/ovpn-cli ovpn0 new_peer 1194 0 192.168.100.100 1194 10.8.0.2
        tests/ovpn-cli ovpn0 new_key 0 aes 1 tests/data64.key
        """,
    )
    shell(
        other,
        """
        ip link add dev ovpn0 type ovpn-dco
        ip link set ovpn0 up
        ip link set mtu 1428 dev ovpn0
        ip addr add dev ovpn0 10.8.0.2/24
        tests/ovpn-cli ovpn0 new_peer 1194 0 192.168.100.150 1194 10.8.0.1
        tests/ovpn-cli ovpn0 new_key 0 aes 0 tests/data64.key
        """,
    )
    assert ping(one, "10.8.0.2").complete
    assert ping(other, "10.8.0.1", size=1400, fragment=False).complete


def test_every_command(hosts: tuple[Namespace, Namespace]) -> None:
    """set_peer, swap_keys, get_peer, del_key, del_peer: what one does another shows."""
    one, _ = hosts
    shell(
        one,
        """
        tests/ovpn-cli ovpn0 new_iface mp
        ip addr add 10.8.0.1/24 dev ovpn0
        ip link set ovpn0 up
        tests/ovpn-cli ovpn0 new_peer 1194 7 192.168.100.100 1194 10.8.0.8
        tests/ovpn-cli ovpn0 new_key 7 chachapoly 0 tests/data64.key
        tests/ovpn-cli ovpn0 new_key 7 aes 0 tests/data64.key --slot secondary --key-id 1
        tests/ovpn-cli ovpn0 swap_keys 7
        tests/ovpn-cli ovpn0 set_peer 7 10 60
        """,
    )
    shown = shell(one, "tests/ovpn-cli ovpn0 get_peer 7")
    for part in ("192.168.100.100:1194", "10.8.0.8", "60"):
        assert part in shown, shown
    assert shell(one, "tests/ovpn-cli ovpn0 get_peer") == shown
    shell(one, "tests/ovpn-cli ovpn0 del_key 7 --slot secondary\ntests/ovpn-cli ovpn0 del_peer 7")
    assert shell(one, "tests/ovpn-cli ovpn0 get_peer").strip() == ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("del_peer 9", "there is no peer with this id"),
        ("get_peer 9", "there is no peer with this id"),
        ("swap_keys 9", "there is no peer with this id"),
        ("new_key 9 aes 0 tests/data64.key", "there is no peer with this id"),
        ("new_key 7 none 0 tests/data64.key", "DEBUG=1"),
        ("new_peer 0 7 192.168.100.100 1194 10.8.0.9", "there is a peer with this id already"),
        ("new_peer 0 16777216 192.168.100.100 1 10.8.0.9", "the peer id does not fit into 24 bits"),
    ],
)
def test_refusals_are_sentences(hosts: tuple[Namespace, Namespace], line: str, said: str) -> None:
    """With the kernel's own words, and the exit status 1."""
    one, _ = hosts
    tool = "tests/ovpn-cli ovpn0"
    shell(one, f"{tool} new_iface mp\n{tool} new_peer 0 7 192.168.100.100 1194 10.8.0.8")
    with pytest.raises(CommandFailed) as caught:
        shell(one, f"{tool} {line}")
    output = caught.value.output
    assert caught.value.status == 1, output
    assert said in output and output.strip().endswith("."), output
    assert output[0].isupper() and output.count("\n") == 1, f"not a sentence: {output}"
