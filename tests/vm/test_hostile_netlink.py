# SPDX-License-Identifier: GPL-2.0
"""Requests by chance, good ones and spoiled ones: the peers stay what a model says.

OVPN_DCO_SEED   repeats a run: the seed is printed
OVPN_DCO_LONG   1: a hundred thousand requests
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import random
import socket
import struct
from collections import Counter

import pytest
from conftest import MakeInterface
from ovpnlab import family, hostile, waiting, wire
from ovpnlab.family import NAME, NEST, Cipher, Command, KeyDirection, KeyPair, Top
from ovpnlab.interface import Interface, udp_socket
from ovpnlab.model import Model, seen
from ovpnlab.namespace import Namespace
from ovpnlab.netlink import (
    CTRL_ATTR_FAMILY_ID,
    NLA_F_NESTED,
    NLM_F_DUMP,
    GenericSocket,
    NetlinkError,
    attribute,
    nested,
    u32,
)

REQUESTS = 100_000 if hostile.LONG else 5000
LOOK_EACH = 100
PEER_IDS = 8
BYTE_ORDER = 0x4000

Parts = dict[int, bytes]


class Generator:
    """Makes requests about few peers, so that they meet, and knows how to spoil them."""

    def __init__(self, seed: int, index: int, good: int, bad: list[int]) -> None:
        self.chance = random.Random(seed)
        self._index, self._good, self._bad = index, good, bad

    def peer_id(self) -> bytes:
        """Mostly one of a few."""
        return struct.pack("=I", self.chance.randrange(PEER_IDS))

    def _key(self, cipher: Cipher) -> bytes:
        size = 32 if cipher == Cipher.CHACHA20_POLY1305 else self.chance.choice((16, 24, 32))
        return attribute(KeyDirection.CIPHER_KEY, self.chance.randbytes(size)) + attribute(
            KeyDirection.NONCE_TAIL, self.chance.randbytes(8)
        )

    def good(self, command: Command) -> Parts:
        """The payloads of a request that is well-formed, by attribute."""
        chance = self.chance
        parts: dict[int, bytes]
        if command == Command.NEW_PEER:
            host = chance.randrange(2, 250)
            parts = {
                family.NewPeer.PEER_ID: self.peer_id(),
                family.NewPeer.SOCKADDR_REMOTE: family.sockaddr("192.0.2.2", 1000 + host),
                family.NewPeer.SOCKET: struct.pack("=I", self._good),
                family.NewPeer.IPV4: bytes([10, 8, 0, host]),
                family.NewPeer.IPV6: bytes.fromhex("fd000008") + bytes(11) + bytes([host]),
                family.NewPeer.LOCAL_IP: bytes([192, 0, 2, 1]),
            }
            for kind in (family.NewPeer.IPV6, family.NewPeer.LOCAL_IP):
                if chance.random() < 0.5:
                    del parts[kind]
        elif command == Command.SET_PEER:
            # Nothing expires, and nothing is said, while this runs.
            times = (0, 3600, 86400, 0x7FFFFFFF)
            parts = {
                family.SetPeer.PEER_ID: self.peer_id(),
                family.SetPeer.KEEPALIVE_INTERVAL: struct.pack("=I", chance.choice(times)),
                family.SetPeer.KEEPALIVE_TIMEOUT: struct.pack("=I", chance.choice(times)),
            }
        elif command == Command.DEL_PEER:
            parts = {
                family.DelPeer.REASON: bytes([chance.randrange(5)]),
                family.DelPeer.PEER_ID: self.peer_id(),
            }
        elif command == Command.NEW_KEY:
            cipher = chance.choice((Cipher.AES_GCM, Cipher.CHACHA20_POLY1305))
            parts = {
                family.NewKey.PEER_ID: self.peer_id(),
                family.NewKey.KEY_SLOT: bytes([chance.randrange(2)]),
                family.NewKey.KEY_ID: bytes([chance.randrange(8)]),
                family.NewKey.CIPHER_ALG: struct.pack("=H", cipher),
                family.NewKey.ENCRYPT_KEY | NLA_F_NESTED: self._key(cipher),
                family.NewKey.DECRYPT_KEY | NLA_F_NESTED: self._key(cipher),
            }
        elif command == Command.DEL_KEY:
            parts = {
                family.DelKey.PEER_ID: self.peer_id(),
                family.DelKey.KEY_SLOT: bytes([chance.randrange(2)]),
            }
        else:
            parts = {1: self.peer_id()}
        return {int(kind): payload for kind, payload in parts.items()}

    def whole(self, command: Command, parts: Parts) -> bytes:
        """The request of these payloads."""
        inner = b"".join(attribute(kind, payload) for kind, payload in parts.items())
        return u32(Top.IFINDEX, self._index) + nested(NEST[command], inner)

    def spoiled(self, command: Command) -> bytes:
        """A request with one to three things wrong; now and then it is good all the same."""
        chance = self.chance
        attributes = list(self.good(command).items())
        index, top, tail = u32(Top.IFINDEX, self._index), NEST[command] | NLA_F_NESTED, b""
        deep = 0
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(attributes))
            kind, payload = attributes[place]
            way = chance.randrange(14)
            if way == 0 and len(attributes) > 1:
                del attributes[place]
            elif way == 1:
                other = chance.choice((payload, b"", payload[::-1]))
                attributes.insert(chance.randrange(len(attributes) + 1), (kind, other))
            elif way == 2:
                attributes[place] = kind, payload[: chance.randrange(len(payload) + 1)]
            elif way == 3:
                more = chance.choice((1, 3, 4, 200, 8000))
                attributes[place] = kind, payload + chance.randbytes(more)
            elif way == 4:
                attributes[place] = kind ^ chance.choice((NLA_F_NESTED, BYTE_ORDER)), payload
            elif way == 5:
                attributes[place] = chance.randrange(4, 0x4000), payload
            elif way == 6:
                attributes.append((chance.choice((0, 7, 9, 0x3FFF)), chance.randbytes(4)))
            elif way == 7:
                chance.shuffle(attributes)
            elif way == 8:
                index = chance.choice(
                    (b"", u32(1, 1), u32(1, 0x7FFFFFF0), index + index, attribute(1, b"\1"))
                )
            elif way == 9:
                top = chance.choice((*(n | NLA_F_NESTED for n in range(12)), NEST[command], 0xC002))
            elif way == 10:
                deep = chance.choice((1, 2, 10, 500))
            elif way == 11:
                tail = chance.randbytes(chance.choice((1, 3, 4, 8, 64)))
            elif way == 12 and command == Command.NEW_PEER:
                descriptor = struct.pack("=I", chance.choice(self._bad))
                attributes = [(k, descriptor if k == family.NewPeer.SOCKET else p)
                              for k, p in attributes]  # fmt: skip
            elif command != Command.SET_PEER:  # which would make peers expire
                attributes[place] = kind, chance.randbytes(len(payload))
        inner = b"".join(attribute(kind, payload) for kind, payload in attributes)
        for _ in range(deep):
            inner = attribute(chance.choice((1, 5)) | NLA_F_NESTED, inner)
        request = index + attribute(top, inner) + tail
        # Behind the index, which could become that of the other interface.
        if chance.random() < 0.05 and len(request) > 8 and command != Command.SET_PEER:
            place = chance.randrange(8, len(request))
            request = request[:place] + chance.randbytes(1) + request[place + 1 :]
        return request


@pytest.fixture
def seed() -> int:
    """Printed, and taken from OVPN_DCO_SEED."""
    return hostile.seed()


@pytest.fixture
def bad_sockets(
    interface: MakeInterface, alpha: Namespace, beta: Namespace, stack: contextlib.ExitStack
) -> list[int]:
    """Descriptors that no peer can be reached over."""

    def new(kind: int, of: int = socket.AF_INET, where: Namespace = alpha) -> socket.socket:
        return stack.enter_context(where.socket(of, kind))

    listening = new(socket.SOCK_STREAM)
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    other = interface("10.77.0.1/24", name="other0", outer="192.0.2.3")
    other.add_peer(1, ("192.0.2.2", 7), None, "10.77.0.2")
    reader, writer = os.pipe()
    stack.callback(os.close, reader)
    stack.callback(os.close, writer)
    foreign = new(socket.SOCK_STREAM, where=beta)
    made = [
        *(listening.fileno(), new(socket.SOCK_STREAM).fileno(), foreign.fileno()),
        *(new(socket.SOCK_STREAM, socket.AF_UNIX).fileno(), other.transport.fileno()),
        *(new(socket.SOCK_RAW, socket.AF_NETLINK).fileno(), reader, 0x7FFFFFFF, 0xFFFFFFFF, 9999),
    ]
    return made


def _send(end: Interface, command: int, request: bytes, flags: int = 0) -> int:
    """Send a request; the error number, or 0."""
    try:
        end.control.socket.command(end.control.family, command, request, flags)
    except NetlinkError as error:
        assert error.errno != 0
        return error.errno or -1
    return 0


def _compare(end: Interface, model: Model, when: str) -> None:
    found = {peer.peer_id: seen(peer) for peer in end.peers()}
    wanted = {peer_id: entry.tells() for peer_id, entry in model.peers.items()}
    assert found == wanted, f"{when}: the dump and the model differ"


@pytest.mark.differs_from_c("it takes what does not fit the wire", run=False)
def test_random_requests(
    interface: MakeInterface, beta: Namespace, bad_sockets: list[int], seed: int
) -> None:
    """What is refused changes nothing, and what is accepted just what it says."""
    end = interface()
    model = Model()
    generator = Generator(seed, end.index, end.transport.fileno(), bad_sockets)
    chance = generator.chance
    outcomes: Counter[str] = Counter()
    weights = {Command.DEL_PEER: 1, Command.NEW_PEER: 3, Command.NEW_KEY: 4}
    for number in range(REQUESTS):
        command = chance.choices(
            list(Command), [weights.get(command, 2) for command in Command]
        )[0]  # fmt: skip
        if chance.random() < 0.35:
            parts = generator.good(command)
            request = generator.whole(command, parts)
            kind = family.DelPeer.PEER_ID if command == Command.DEL_PEER else 1
            known = int.from_bytes(parts[kind], "little") in model.peers
            result = _send(end, command, request)
            wanted = errno.ENOENT if not known else 0
            if command == Command.NEW_PEER:
                wanted = errno.EEXIST if known else 0
            assert result == wanted, (
                f"request {number}, a good {command.name} of a peer that is"
                f" {'known' if known else 'unknown'}: {result}, not {wanted}; {request.hex()}"
            )
        else:
            request = generator.spoiled(command)
            flags = NLM_F_DUMP if chance.random() < 0.02 else 0
            result = _send(end, command, request, flags)
            if flags:
                continue
        outcomes[errno.errorcode.get(result, str(result)) if result else "accepted"] += 1
        if result == 0:
            try:
                model.apply(command, request)
            except (KeyError, ValueError) as error:
                pytest.fail(
                    f"request {number}, {command.name}, should be refused ({error!r}), and was"
                    f" accepted: {request.hex()}"
                )
        if number % LOOK_EACH == 0:
            _compare(end, model, f"after request {number}")
    _compare(end, model, f"after {REQUESTS} requests")
    print(f"{REQUESTS} requests: {dict(outcomes.most_common())}")
    _try_keys(end, model, beta)


def _try_keys(end: Interface, model: Model, beta: Namespace) -> None:
    """Each key that is installed opens, and none that has gone."""
    with udp_socket(beta, "192.0.2.2") as sender:
        for peer_id, entry in model.peers.items():
            primary, secondary = entry.slots
            if primary and secondary and primary.key_id == secondary.key_id:
                secondary = None  # it is found by its id only
            live = [pair for pair in (primary, secondary) if pair]
            accepted = end.peer(peer_id).link_rx.packets
            for pair in entry.gone + live:
                datagram = wire.seal(
                    *(pair.decrypt, pair.cipher, pair.key_id, peer_id, 1, wire.KEEPALIVE)
                )
                sender.sendto(datagram, end.address)
            wanted = accepted + len(live)
            with contextlib.suppress(TimeoutError):
                waiting.until(
                    functools.partial(_has_accepted, end, peer_id, wanted), "they are counted", 3
                )
            found = end.peer(peer_id).link_rx.packets - accepted
            assert found == len(live), (
                f"peer {peer_id}: {found} of its keys work, and {len(live)} are installed"
            )


def _has_accepted(end: Interface, peer_id: int, count: int) -> bool:
    return end.peer(peer_id).link_rx.packets >= count


@pytest.mark.smoke
def test_unprivileged_requests(interface: MakeInterface, alpha: Namespace, seed: int) -> None:
    """Whoever has no rights gets EPERM, whatever is asked, and changes nothing."""
    end = interface()
    end.add_peer(1, ("192.0.2.2", 1194), KeyPair.random(), "10.8.0.2")
    before = end.peers()
    generator = Generator(seed, end.index, end.transport.fileno(), [0])
    seen_errors: Counter[int] = Counter()
    with alpha.entered():
        os.seteuid(65534)
        try:
            with GenericSocket() as generic:
                said = generic.family(NAME)[CTRL_ATTR_FAMILY_ID]
                number = int.from_bytes(said, "little")
                for count in range(500):
                    command = generator.chance.choice(list(Command))
                    if count % 2:
                        request = generator.spoiled(command)
                    else:
                        request = generator.whole(command, generator.good(command))
                    with pytest.raises(NetlinkError) as caught:
                        generic.command(number, command, request)
                    seen_errors[caught.value.errno or 0] += 1
        finally:
            os.seteuid(0)
    assert set(seen_errors) == {errno.EPERM}, f"not only EPERM: {seen_errors}"
    assert end.peers() == before, "somebody without rights changed a peer"
