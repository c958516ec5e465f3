# SPDX-License-Identifier: GPL-2.0
"""What all suites share: options, the kernel log after each test, common fixtures."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from ovpnlab import faults, kmemleak, link, logs, module  # noqa: E402
from ovpnlab.family import Cipher, KeyPair  # noqa: E402
from ovpnlab.interface import Interface  # noqa: E402
from ovpnlab.kernel_log import KernelLog  # noqa: E402
from ovpnlab.namespace import Namespace  # noqa: E402
from ovpnlab.netlink import NetlinkError  # noqa: E402
from ovpnlab.network import cable  # noqa: E402
from ovpnlab.office import Office, end  # noqa: E402
from ovpnlab.openvpn import Daemon  # noqa: E402
from ovpnlab.tcp_peer import TcpLab  # noqa: E402
from ovpnlab.wire import Endpoint  # noqa: E402

Refused = Callable[..., AbstractContextManager[None]]
Overlooked = Callable[[], AbstractContextManager[None]]

pytest_plugins = ["ovpnlab.asking"]

KERNEL_LOG = "kernel-log"  # the name of the plugin that watches it
MakeInterface = Callable[..., Interface]
MakeEndpoint = Callable[..., Endpoint]
Sweep = Callable[..., None]

OUTER = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8::1", "2001:db8::2")}
MODES = {"p2p": link.MODE_P2P, "mp": link.MODE_MP}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of `tests/vm/run`."""
    parser.addoption("--smoke", action="store_true", help="only the tests marked smoke")
    parser.addoption(
        "--oracle",
        action="store_true",
        help="the module is the C one: do not look at the kernel log, nor for messages in"
        " refusals, and expect it to fail where it is known to differ",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Say what the marks mean; begin to watch the kernel log."""
    for line in (
        "smoke: belongs to the short set, for further kernels",
        "differs_from_c(reason, run=True): the C module is known to fail this",
    ):
        config.addinivalue_line("markers", line)
    config.pluginmanager.register(KernelLogWatch(config.getoption("--oracle")), KERNEL_LOG)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what --smoke leaves out; expect of the C module what it does."""
    if config.getoption("--smoke"):
        keep = [item for item in items if item.get_closest_marker("smoke")]
        config.hook.pytest_deselected(items=[item for item in items if item not in keep])
        items[:] = keep
    if config.getoption("--oracle"):
        for item in items:
            differs = item.get_closest_marker("differs_from_c")
            if differs:
                run = differs.kwargs.get("run", True)
                item.add_marker(pytest.mark.xfail(reason=differs.args[0], run=run))


class KernelLogWatch:
    """Fails the test during which, or after which, the kernel complained."""

    def __init__(self, oracle: bool) -> None:
        self._oracle = oracle
        self._log: KernelLog | None = None

    def _inspect(self, when: str) -> None:
        """Fail if there are complaints since the last look; then look from here on."""
        if self._log is not None:
            complaints, tail = self._log.complaints(), self._log.tail(80)
            self._log.close()
            self._log = KernelLog()
            if complaints and not self._oracle:
                listed = "\n".join(complaints)
                pytest.fail(
                    f"the kernel complained {when}:\n{listed}\n\nthe kernel log:\n{tail}",
                    pytrace=False,
                )
        else:
            self._log = KernelLog()

    @contextmanager
    def overlooked(self) -> Iterator[None]:
        """What the kernel complains about in here is another module's fault.

        What it complained about before fails the test; from the end on it counts again.
        """
        self._inspect("before another module was loaded")
        try:
            yield
        finally:
            if self._log is not None:
                self._log.close()
            self._log = KernelLog()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        """Nothing may be left over when a test begins."""
        self._inspect("before this test")
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """The test itself."""
        result = yield
        self._inspect("in this test")
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        """The end of the test's fixtures (of the failed test's too)."""
        result = yield
        self._inspect("after this test")
        return result


# -- fixtures -----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def oracle(request: pytest.FixtureRequest) -> bool:
    """Whether the C module runs in place of the one under test."""
    return bool(request.config.getoption("--oracle"))


@pytest.fixture(scope="session")
def overlooked(pytestconfig: pytest.Config) -> Overlooked:
    """`with overlooked():` - the kernel's complaints are not about the module under test."""
    watch = pytestconfig.pluginmanager.get_plugin(KERNEL_LOG)
    assert isinstance(watch, KernelLogWatch)
    return watch.overlooked


@pytest.fixture(scope="session")
def results() -> Path:
    """Where logs go."""
    given = os.environ.get("OVPN_DCO_RESULTS")
    path = Path(given) if given else Path(tempfile.mkdtemp(prefix="ovpn-check-"))
    path = path / "check"
    path.mkdir(parents=True, exist_ok=True)
    return path


def _each_file_or_all(fixture_name: str, config: pytest.Config) -> str:
    """A look for what is lost takes a debug kernel some 20 s."""
    return "session" if config.getoption("--smoke") else "module"


@pytest.fixture(autouse=True, scope=_each_file_or_all)
def nothing_lost() -> Iterator[None]:
    """Where the kernel can tell: after the tests, no memory is lost."""
    if not kmemleak.is_available():
        yield
        return
    kmemleak.forget()
    yield
    report = kmemleak.lost()
    if report:
        pytest.fail(f"the kernel has lost memory:\n{report}", pytrace=False)


@pytest.fixture
def loaded() -> None:
    """The module is loaded."""
    module.ensure_loaded()


@pytest.fixture(scope="module")
def alpha() -> Iterator[Namespace]:
    """A namespace with the module loaded and `beta` at the other end of a cable.

    Outside it is 192.0.2.1 and 2001:db8::1, and has a second address of each kind that
    the kernel does not choose by itself: 192.0.2.3 and 2001:db8::3.
    """
    module.ensure_loaded()
    namespace = Namespace("alpha")
    yield namespace
    namespace.close()


@pytest.fixture(scope="module")
def beta(alpha: Namespace) -> Iterator[Namespace]:
    """The namespace at the other end of the cable: 192.0.2.2, 2001:db8::2."""
    namespace = Namespace("beta")
    cable(
        *(alpha, "eth0", ("192.0.2.1/24", "192.0.2.3/24", "2001:db8::1/64")),
        *(namespace, "eth0", ("192.0.2.2/24", "2001:db8::2/64")),
    )
    alpha.ip("addr add 2001:db8::3/64 dev eth0 nodad preferred_lft 0")
    yield namespace
    namespace.close()


@pytest.fixture(scope="module")
def second_cable(alpha: Namespace, beta: Namespace) -> None:
    """A second way from alpha to beta, eth1: 198.18.0.0/24 and 2001:db8:18::/64, .1 and .2.

    Beta has addresses besides that alpha reaches by the first one: 203.0.113.2 and
    2001:db8:113::2.
    """
    cable(
        *(alpha, "eth1", ("198.18.0.1/24", "2001:db8:18::1/64")),
        *(beta, "eth1", ("198.18.0.2/24", "2001:db8:18::2/64")),
    )
    beta.ip("addr add 203.0.113.2/32 dev lo", "addr add 2001:db8:113::2/128 dev lo nodad")
    alpha.ip(
        "route add 203.0.113.2 via 192.0.2.2",
        "route add 2001:db8:113::2 via 2001:db8::2",
    )


@pytest.fixture(scope="session")
def refused(oracle: bool) -> Refused:
    """`with refused(errno, ...):` - the request inside is refused, with a message."""

    @contextmanager
    def check(*errnos: int, message: bool = True) -> Iterator[None]:
        with pytest.raises(NetlinkError) as caught:
            yield
        assert caught.value.errno in errnos, str(caught.value)
        if message and not oracle:
            assert caught.value.message, f"refused without a word: {caught.value}"

    return check


@pytest.fixture
def one_processor() -> Iterator[None]:
    """Stay there: each has a queue of its own, and only on one is the order that of sending."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    yield
    os.sched_setaffinity(0, allowed)


# -- tunnels without OpenVPN --------------------------------------------------------------


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes what a test has made."""
    with ExitStack() as made:
        yield made


@pytest.fixture
def interface(alpha: Namespace, beta: Namespace, stack: ExitStack) -> MakeInterface:
    """Makes interfaces that go with the test; by default in alpha, in multi-peer mode."""

    def make(
        *addresses: str,
        namespace: Namespace = alpha,
        outer: str | None = "192.0.2.1",
        mode: int = link.MODE_MP,
        **more: object,
    ) -> Interface:
        wanted = addresses or ("10.8.0.1/24", "fd00:8::1/64")
        made = Interface(namespace, outer, *wanted, mode=mode, **more)  # type: ignore[arg-type]
        stack.callback(made.close)
        return made

    return make


@pytest.fixture
def pair(interface: MakeInterface, beta: Namespace) -> Callable[..., tuple[Interface, Interface]]:
    """Makes a tunnel between alpha and beta, our module at both ends."""

    def make(
        version: int = 4,
        mode: str = "p2p",
        cipher: Cipher = Cipher.AES_GCM,
        size: int = 32,
        mtu: int | None = None,
        inner6: bool = True,
    ) -> tuple[Interface, Interface]:
        outer = OUTER[version]
        more = ("fd00:8::1/64",) if inner6 else ()
        near = interface("10.8.0.1/24", *more, outer=outer[0], mode=MODES[mode], mtu=mtu)
        more = ("fd00:8::2/64",) if inner6 else ()
        far = interface(
            "10.8.0.2/24", *more, namespace=beta, outer=outer[1], mode=MODES[mode], mtu=mtu
        )
        keys = KeyPair.random(3, cipher, size)
        near.add_peer(21, far.address, keys, ipv4="10.8.0.2", ipv6="fd00:8::2")
        far.add_peer(21, near.address, keys.flipped(), ipv4="10.8.0.1", ipv6="fd00:8::1")
        return near, far

    return make


@pytest.fixture
def endpoint(beta: Namespace, stack: ExitStack) -> MakeEndpoint:
    """Makes endpoints in user space, in beta, as peers of an interface."""

    def make(
        end: Interface,
        peer_id: int,
        ipv4: str,
        ipv6: str | None = None,
        keys: KeyPair | None = None,
        address: str = "192.0.2.2",
    ) -> Endpoint:
        keys = keys or KeyPair.random()
        made = Endpoint(beta, address, end.address, peer_id, keys)
        stack.callback(made.close)
        end.add_peer(peer_id, made.address, keys.flipped(), ipv4, ipv6)
        return made

    return make


@pytest.fixture
def lab(alpha: Namespace, beta: Namespace) -> Iterator[TcpLab]:
    """An interface in alpha for peers over TCP in beta."""
    with TcpLab(alpha, beta) as made:
        yield made


@pytest.fixture
def one(interface: MakeInterface, endpoint: MakeEndpoint) -> tuple[Interface, Endpoint]:
    """A multi-peer interface (10.8.0.1) with peer 1 (10.8.0.2, fd00:8::2) in user space."""
    end = interface()
    return end, endpoint(end, 1, "10.8.0.2", "fd00:8::2")


@pytest.fixture(scope="session")
def office(results: Path) -> Iterator[Office]:
    """The namespaces and certificates of all tests with OpenVPN."""
    module.ensure_loaded()
    directory = Path(tempfile.mkdtemp(prefix="openvpn-"))
    made = Office(directory)
    yield made
    made.close()
    logs.keep(directory, results / "openvpn")


@pytest.fixture
def daemons() -> Iterator[list[Daemon]]:
    """For OpenVPN daemons of one test: what is put into it is ended after it."""
    module.ensure_loaded()
    made: list[Daemon] = []
    yield made
    end(*made)


# -- out of memory ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def injection(alpha: Namespace, beta: Namespace) -> Iterator[None]:
    """Allocations can be made to fail."""
    if not faults.available():
        pytest.skip("this kernel has no fault injection; that of scripts/debug-kernel has")
    with faults.armed():
        yield


@pytest.fixture
def sweep(
    request: pytest.FixtureRequest, record_testsuite_property: Callable[[str, object], None]
) -> Sweep:
    """`faults.sweep`, which notes how many allocations failed."""

    def run(*arguments: object, least: int = 1, **more: object) -> None:
        failed = faults.sweep(*arguments, **more)  # type: ignore[arg-type]
        print(f"{failed} allocations failed")
        record_testsuite_property(f"allocations failed in {request.node.name}", failed)
        assert failed >= least, "no allocation was seen to fail"

    return run
