# SPDX-License-Identifier: GPL-2.0
"""Two interfaces, and a question: what is answered, heard and changed."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from .. import link
from ..family import (
    NEST,
    Command,
    Control,
    GetPeer,
    KeyPair,
    NewPeer,
    Removals,
    Top,
    sockaddr,
)
from ..namespace import Namespace
from ..netlink import NLM_F_DUMP, NetlinkError, attribute, nested, u32, walk

OK = "ok"
NOT_SENT = "(not sent)"

REMOTE = sockaddr("192.0.2.2", 1194)
REMOTE6 = sockaddr("2001:db8::2", 1194)

# Two names have the same number, and the kernel calls it this.
NAMES = {**errno.errorcode, errno.EOPNOTSUPP: "EOPNOTSUPP"}

STEADY = 5  # the peer that is there all the time
FRESH = 6  # the one that a request may add


@dataclass(frozen=True)
class Answer:
    """What became of one request."""

    outcome: str  # "ok", or the error's name
    message: str = ""  # what the extack says
    reply: str = ""
    heard: str = ""  # notifications
    after: str = ""  # how the peers differ from before


def refusal(error: OSError) -> Answer:
    """The answer of a request that was refused."""
    name = NAMES.get(error.errno or 0, str(error))
    return Answer(name, message=getattr(error, "message", ""))


def describe(payload: bytes, top: type[Top] = Top) -> str:
    """A message of the family, down to the order of its attributes and their bytes."""
    command, version = payload[0], payload[1]
    words = [f"command {command} version {version}:"]
    for kind, content in walk(payload[4:]):
        if kind == top.GET_PEER:
            words += [f"{GetPeer(k).name}={v.hex()}" for k, v in walk(content) if k]
        else:
            words.append(f"{kind}={content.hex()}")
    return " ".join(words)


class Bench:
    """A multi-peer interface with one peer, a P2P interface without, and their control.

    Both are down: nothing but what the requests say changes a peer.
    """

    def __init__(self, not_sent: Sequence[str] = ()) -> None:
        self.answers: dict[str, Answer] = {}
        self._not_sent = not_sent
        self._next_port = 20000
        self._p2p_ids: tuple[int, ...] = ()
        self._open = contextlib.ExitStack()
        self.near, self.far = Namespace("near"), Namespace("far")
        self._open.callback(self.far.close)
        self._open.callback(self.near.close)
        self.mp = link.create(self.near, "mp0", link.MODE_MP)
        self._open.callback(link.delete, self.near, "mp0")
        self.p2p = link.create(self.near, "p2p0", link.MODE_P2P)
        self._open.callback(link.delete, self.near, "p2p0")
        self.control = Control(self.near)
        self._open.callback(self.control.close)
        self.removals = Removals(self.near)
        self._open.callback(self.removals.close)
        # The one of a server that serves both families.
        self.udp = self.socket(socket.AF_INET6, socket.SOCK_DGRAM, bind="::")
        self.request(
            Command.NEW_PEER, self.mp, *self.new_peer(STEADY, IPV4=ip("10.8.0.5")).values()
        )
        self.control.new_key(self.mp, STEADY, KeyPair.random())
        self._known = self._state()

    def close(self) -> None:
        """Leave nothing behind."""
        self._open.close()

    # -- material -------------------------------------------------------------------------

    def port(self) -> int:
        """A port that nobody has used."""
        self._next_port += 1
        return self._next_port

    def socket(
        self, family: int, kind: int, protocol: int = 0, bind: str | None = None
    ) -> socket.socket:
        """A socket that stays open to the end."""
        made = self._open.enter_context(self.near.socket(family, kind, protocol))
        if bind is not None:
            made.bind((bind, self.port()))
        return made

    def new_peer(self, peer_id: int = FRESH, **other: bytes | None) -> dict[str, bytes]:
        """Good attributes of NEW_PEER; `other` replaces payloads, and None leaves one out."""
        payloads: dict[str, bytes | None] = {
            "PEER_ID": struct.pack("=I", peer_id),
            "SOCKADDR_REMOTE": REMOTE,
            "SOCKET": struct.pack("=I", self.udp.fileno()),
            "IPV4": ip("10.8.0.6"),
        }
        payloads.update(other)
        return {
            name: attribute(NewPeer[name], payload)
            for name, payload in payloads.items()
            if payload is not None
        }

    # -- questions ------------------------------------------------------------------------

    def request(self, command: int, index: int, *attributes: bytes, flags: int = 0) -> list[str]:
        """Send a well-formed request, and describe the replies."""
        nest = nested(NEST[Command(command)], *attributes)
        return self.send(command, u32(Top.IFINDEX, index) + nest, flags)

    def send(
        self, command: int, attributes: bytes, flags: int = 0, version: int = 1, reserved: int = 0
    ) -> list[str]:
        """Send any request, and describe the replies."""
        header = struct.pack("=BBH", command, version, reserved)
        replies = self.control.socket.request(self.control.family, header + attributes, flags)
        return [f"flags {reply.flags:#x} {describe(reply.payload)}" for reply in replies]

    def ask(
        self,
        name: str,
        command: int,
        *attributes: bytes,
        index: int | None = None,
        removes: int = 0,
    ) -> None:
        """Send attributes in the command's nest; see `observe`."""
        where = self.mp if index is None else index
        self.observe(name, lambda: self.request(command, where, *attributes), removes)

    def observe(self, name: str, action: Callable[[], list[str]], removes: int = 0) -> None:
        """Note what becomes of a request; then what it added is removed again.

        `removes` is how many peers go without being missed in a dump.
        """
        if name in self.answers:
            raise ValueError(f"{name} has been asked before")
        if any(fnmatchcase(name, pattern) for pattern in self._not_sent):
            self.answers[name] = Answer(NOT_SENT)
            return
        reply: list[str] = []
        answer = Answer(OK)
        try:
            reply = action()
        except OSError as error:
            answer = refusal(error)
        found = self._state()
        gone = len(self._known.keys() - found.keys()) + removes
        heard = sorted(self._heard() for _ in range(gone))
        self.answers[name] = Answer(
            *(answer.outcome, answer.message, "; ".join(reply), "; ".join(heard)),
            after=self._changes(found),
        )
        for index, peer_id in found.keys() - self._known.keys():
            self.control.del_peer(index, peer_id)
            self._heard()
        self._known = found if not found.keys() - self._known.keys() else self._state()

    def note(self, name: str, reply: str) -> None:
        """Note something that was seen."""
        self.answers[name] = Answer(OK, reply=reply)

    def prepare(self, *actions: Callable[[], object]) -> None:
        """Do something that is not to be compared."""
        for action in actions:
            action()
        self._known = self._state()

    def watch_p2p(self, *peer_ids: int) -> None:
        """Look for these peers of the P2P interface, too: a dump may not show them."""
        self._p2p_ids = peer_ids
        self._known = self._state()

    def listen_further(self, section: str) -> None:
        """Note the notifications that nobody expects."""
        more = self.removals.collect(0, quiet=0.1)
        self.note(f"{section}/unexpected notifications", str(more))

    # -- the state ------------------------------------------------------------------------

    def _state(self) -> dict[tuple[int, int], str]:
        """What GET_PEER says of each peer."""
        found = {}
        messages = self.send(Command.GET_PEER, u32(Top.IFINDEX, self.mp), NLM_F_DUMP)
        for text in messages:
            number = text.split("PEER_ID=")[1].split()[0]
            found[self.mp, struct.unpack("=I", bytes.fromhex(number))[0]] = text
        if len(found) != len(messages):
            raise ValueError(f"a dump shows a peer twice: {messages}")
        for peer_id in self._p2p_ids:
            with contextlib.suppress(NetlinkError):
                (text,) = self.request(Command.GET_PEER, self.p2p, u32(1, peer_id))
                found[self.p2p, peer_id] = text
        return found

    def _changes(self, found: dict[tuple[int, int], str]) -> str:
        changes = []
        for key in sorted(found.keys() | self._known.keys()):
            before, after = self._known.get(key), found.get(key)
            if before != after:
                index, peer_id = key
                where = "mp" if index == self.mp else "p2p"
                changes.append(f"{where} {peer_id}: {after or 'gone'}")
        return "; ".join(changes)

    def _heard(self) -> str:
        try:
            removal = self.removals.next(timeout=3)
        except TimeoutError:
            return "nothing"
        where = "mp" if removal.index == self.mp else "p2p"
        return f"{where} {removal.peer_id} reason {removal.reason}"


def ip(address: str) -> bytes:
    """The bytes of an address."""
    return ipaddress.ip_address(address).packed
