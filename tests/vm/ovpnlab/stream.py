# SPDX-License-Identifier: GPL-2.0
"""OpenVPN over TCP: frames, connections, and an endpoint in user space."""

from __future__ import annotations

import fcntl
import itertools
import select
import socket
import struct
import termios
import threading
import time
from collections.abc import Iterator

from .family import KeyPair
from .namespace import Namespace
from .waiting import until
from .wire import Channel

LARGEST = 0xFFFF
P_CONTROL_V1 = 4
_DATA_SEGS_IN = 152  # the place of tcpi_data_segs_in in struct tcp_info
_NOTSENT_BYTES = 144


def frame(packet: bytes) -> bytes:
    """The packet with its length before it."""
    return struct.pack("!H", len(packet)) + packet


def control(number: int, size: int = 20) -> bytes:
    """A control packet of `size` bytes that tells its number in the first 5."""
    head = struct.pack("!BI", P_CONTROL_V1 << 3, number)
    return head + bytes((number + i) & 0xFF for i in range(size - len(head)))


def number_of(packet: bytes) -> int:
    """The number of a packet that `control` made."""
    return int.from_bytes(packet[1:5])


def split(stream: bytes) -> Iterator[bytes]:
    """The packets of a stream of whole frames."""
    while stream:
        (length,) = struct.unpack_from("!H", stream)
        if len(stream) < 2 + length:
            raise ValueError(f"{len(stream)} bytes are left where a frame has {2 + length}")
        yield stream[2 : 2 + length]
        stream = stream[2 + length :]


def connect(
    near: Namespace,
    far: Namespace,
    address: str,
    send_buffer: int | None = None,
    receive_buffer: int | None = None,
    family: int | None = None,
) -> tuple[socket.socket, socket.socket]:
    """A connection to `address` in `far`: the end in `near`, and the one in `far`.

    `send_buffer` is that of the near end, `receive_buffer` that of the far end. `family` makes
    the near end a socket of that family, which may be IPv6 for an IPv4 address.
    """
    native = socket.AF_INET6 if ":" in address else socket.AF_INET
    family = native if family is None else family
    with far.socket(native, socket.SOCK_STREAM) as listener:
        if receive_buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        listener.bind((address, 0))
        listener.listen()
        made = near.socket(family, socket.SOCK_STREAM)
        if send_buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        made.settimeout(5)
        mapped = f"::ffff:{address}" if family != native else address
        made.connect((mapped, listener.getsockname()[1]))
        accepted = listener.accept()[0]
    for end in (made, accepted):
        end.settimeout(5)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made, accepted


def nothing_to_read(sock: socket.socket, flags: int = 0) -> bool:
    """Whether a read would block. Leaves the socket without a time limit.

    With one, Python itself would wait.
    """
    sock.setblocking(True)
    try:
        got = sock.recv(1, flags | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    raise AssertionError(f"nothing was to be read, and {got!r} was")


def receive_exactly(
    sock: socket.socket, count: int, timeout: float = 5, step: int = 65536
) -> bytes:
    """So many bytes, read by `step` at most; `ConnectionError` if the stream ends before."""
    deadline = time.monotonic() + timeout
    received = bytearray()
    while len(received) < count:
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        part = sock.recv(min(step, count - len(received)))
        if not part:
            raise ConnectionError(f"the stream ended after {len(received)} of {count} bytes")
        received += part
    return bytes(received)


def receive_until_end(sock: socket.socket, timeout: float = 5) -> bytes:
    """What comes until the end of the stream."""
    deadline = time.monotonic() + timeout
    received = bytearray()
    while True:
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        part = sock.recv(65536)
        if not part:
            return bytes(received)
        received += part


def queued(sock: socket.socket) -> int:
    """Bytes that were sent and have not been acknowledged."""
    (count,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))
    return int(count)


def segments_received(sock: socket.socket) -> int:
    """How many segments with data have come."""
    return _tcp_info(sock, _DATA_SEGS_IN)


def held_back(sock: socket.socket) -> int:
    """Bytes that TCP has and has not sent yet, while nobody is at work on the socket."""
    return _tcp_info(sock, _NOTSENT_BYTES)


def _tcp_info(sock: socket.socket, offset: int) -> int:
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return int(struct.unpack_from("=I", info, offset)[0])


def reset(sock: socket.socket) -> None:
    """Close the socket so that the other end gets RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class StreamEndpoint(Channel):
    """A TCP connection that speaks the data channel of one peer.

    What comes is read without regard for frames, and only when it is asked for.
    """

    def __init__(self, sock: socket.socket, peer_id: int, *keys: KeyPair) -> None:
        super().__init__(peer_id, *keys)
        self.socket = sock
        self._unread = bytearray()

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def send_raw(self, datagram: bytes) -> bytes:
        """Send a packet as it is, with its length; returns it."""
        self.send_bytes(frame(datagram))
        return datagram

    def send_bytes(self, stream: bytes, sizes: Iterator[int] | None = None) -> None:
        """Send a piece of the stream, in pieces of these sizes."""
        self.socket.settimeout(20)
        while stream:
            size = len(stream) if sizes is None else next(sizes)
            self.socket.sendall(stream[:size])
            stream = stream[size:]

    def receive_raw(self, timeout: float = 5) -> tuple[bytes, tuple[str, int]]:
        """The next packet; `TimeoutError` if none comes, `EOFError` at the end of the stream."""
        deadline = time.monotonic() + timeout
        while (packet := self._next()) is None:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            part = self.socket.recv(65536)
            if not part:
                raise EOFError(f"the stream ended with {len(self._unread)} bytes of a frame")
            self._unread += part
        return packet, self.socket.getpeername()[:2]

    def _next(self) -> bytes | None:
        if len(self._unread) < 2:
            return None
        (length,) = struct.unpack_from("!H", self._unread)
        if len(self._unread) < 2 + length:
            return None
        packet = bytes(self._unread[2 : 2 + length])
        del self._unread[: 2 + length]
        return packet


class Reader:
    """Reads a socket in a thread of its own while the context lasts, `sizes` bytes at a time."""

    def __init__(self, sock: socket.socket, sizes: Iterator[int] | None = None) -> None:
        self._socket = sock
        self._sizes = sizes or itertools.repeat(65536)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._received = bytearray()
        self.ended = False

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        readable = select.poll()
        readable.register(self._socket, select.POLLIN)
        while not self._stop.is_set():
            if not readable.poll(100):
                continue
            try:
                part = self._socket.recv(next(self._sizes), socket.MSG_DONTWAIT)
            except (BlockingIOError, TimeoutError):
                continue
            except OSError:
                part = b""
            if not part:
                self.ended = True
                return
            self._received += part

    @property
    def received(self) -> bytes:
        """What has been read so far."""
        return bytes(self._received)

    def wait(self, count: int, timeout: float = 20) -> bytes:
        """What has been read when it is `count` bytes or more."""
        try:
            until(lambda: self.ended or len(self._received) >= count, "", timeout)
        except TimeoutError:
            raise TimeoutError(
                f"{len(self._received)} of {count} bytes came within {timeout:g} s"
            ) from None
        return self.received
