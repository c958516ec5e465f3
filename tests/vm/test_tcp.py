# SPDX-License-Identifier: GPL-2.0
"""The stream of a peer over TCP: how it is cut into frames, and what the daemon gets of it.

The far end of the connection is an endpoint in user space, the daemon is the test.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import random
import select
import socket
import struct
import termios
import threading
import time

import pytest
from ovpnlab import packet, stream
from ovpnlab.stream import Reader, control, frame
from ovpnlab.tcp_peer import TcpLab, TcpPeer
from ovpnlab.waiting import until
from ovpnlab.wire import DATA_V2

SMALLEST_BUFFER = 4608  # the least that the kernel makes of SO_SNDBUF
PROCESS_QUEUE = 64  # PROCESS_QUEUE_MAX of the module: messages of the daemon that wait to be sent


@pytest.fixture
def peer(lab: TcpLab) -> TcpPeer:
    """A peer over IPv4."""
    return lab.peer()


@pytest.fixture
def chance() -> random.Random:
    """Random numbers; a test that fails shows the seed."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    return random.Random(seed)


def request(peer: TcpPeer, sequence: int, size: int = 0) -> bytes:
    """The frame of a sealed echo request."""
    return frame(peer.far.seal(packet.echo_request(peer.ipv4, "10.8.0.1", sequence, bytes(size))))


# -- frames -------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize("version", [4, 6])
def test_frame_split_at_every_byte(lab: TcpLab, version: int) -> None:
    """Data and control frames that come in two segments, cut at each place."""
    peer = lab.peer(version)
    size = len(request(peer, 0))
    for cut in range(1, size):
        data, message = request(peer, cut), frame(control(cut, size - 2))
        before = stream.segments_received(peer.daemon)
        peer.far.send_bytes(data[:cut])
        peer.far.send_bytes(data[cut:] + message[:cut])
        peer.far.send_bytes(message[cut:])
        peer.far.receive_reply(cut)
        assert stream.receive_exactly(peer.daemon, size) == message, f"cut at {cut}"
        came = stream.segments_received(peer.daemon) - before
        # One may come again on a busy machine.
        assert came >= 3, f"cut at {cut}, 3 segments were sent and {came} came"
    assert peer.state.vpn_rx.packets == size - 1


def test_small_packet_waits_for_no_acknowledgement(lab: TcpLab) -> None:
    """The second of two goes out while the first is not acknowledged, which takes 40 ms."""
    peer = lab.peer(add=False)
    peer.daemon.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
    peer.add()
    far = peer.far.socket
    datagram = (b"x", (peer.ipv4, 9))
    with peer.end.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(9):
            far.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
            sock.sendto(*datagram)
            size = until(lambda: _unread(far), "a packet", interval=0.001)
            sock.sendto(*datagram)
            until(lambda size=size: _second_is_there(peer, size), "another", interval=0.001)
            for _ in range(2):
                peer.far.open(peer.far.receive_raw()[0])
    assert _nodelay(peer.daemon)
    peer.delete()
    until(lambda: not _nodelay(peer.daemon), "the daemon's option is put back")


def _second_is_there(peer: TcpPeer, first: int) -> bool:
    held = stream.held_back(peer.daemon)
    assert held == 0, f"{held} bytes wait for an acknowledgement"
    return _unread(peer.far.socket) > first


def _nodelay(sock: socket.socket) -> bool:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def _unread(sock: socket.socket) -> int:
    return int(struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))[0])


def test_frame_in_single_bytes(peer: TcpPeer) -> None:
    data, message = request(peer, 1), frame(control(1))
    peer.far.send_bytes(data + message + data, itertools.repeat(1))
    peer.far.receive_reply(1)
    assert stream.receive_exactly(peer.daemon, len(message)) == message


@pytest.mark.parametrize("version", [4, 6])
def test_many_frames_in_one_segment(lab: TcpLab, version: int) -> None:
    """Data frames and control frames in turn; the daemon gets the latter, in order."""
    peer = lab.peer(version)
    messages = [frame(control(number)) for number in range(8)]
    both = b"".join(request(peer, number) + messages[number] for number in range(8))
    before = stream.segments_received(peer.daemon)
    peer.far.send_bytes(both)
    for number in range(8):
        peer.far.receive_reply(number)
    expected = b"".join(messages)
    assert stream.receive_exactly(peer.daemon, len(expected)) == expected
    assert stream.segments_received(peer.daemon) - before == 1, "the frames were to share a segment"
    assert stream.nothing_to_read(peer.daemon)


@pytest.mark.parametrize("version", [4, 6])
def test_random_stream(lab: TcpLab, chance: random.Random, version: int) -> None:
    """Frames of random lengths, cut at random: nothing is lost, changed or out of order."""
    peer = lab.peer(version)
    with lab.end.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as inner:
        inner.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
        inner.bind(("10.8.0.1", 0))
        inner.settimeout(20)
        parts, messages, datagrams = [], [], []
        for number in range(300):
            if chance.random() < 0.5:
                messages.append(frame(control(number, chance.randint(5, 3000))))
                parts.append(messages[-1])
            else:
                datagrams.append(control(number, chance.randint(5, 1300)))
                packed = packet.udp((peer.ipv4, 9), inner.getsockname(), datagrams[-1])
                parts.append(frame(peer.far.seal(packed)))
        cuts = (chance.choice([1, 2, 3, chance.randint(1, 4000)]) for _ in itertools.count())
        sizes = (chance.randint(1, 5000) for _ in itertools.count())
        with Reader(peer.daemon, sizes) as daemon:
            peer.far.send_bytes(b"".join(parts), cuts)
            expected = b"".join(messages)
            assert daemon.wait(len(expected)) == expected
        assert [inner.recv(4096) for _ in datagrams] == datagrams
    assert peer.state.link_rx.packets == len(datagrams)


@pytest.mark.parametrize("version", [4, 6])
def test_largest_frames(lab: TcpLab, version: int) -> None:
    """Of 65,535 bytes: a control packet arrives whole, data that is not authentic is dropped."""
    peer = lab.peer(version)
    message = frame(control(1, stream.LARGEST))
    with Reader(peer.daemon) as daemon:
        peer.far.send_bytes(message)
        peer.far.send_bytes(frame(bytes([DATA_V2 << 3]) + bytes(stream.LARGEST - 1)))
        peer.ping(1)
        assert daemon.wait(len(message)) == message


@pytest.mark.parametrize("size", [1, 2, 7, 8, 23])
def test_short_data_frames_are_dropped(peer: TcpPeer, size: int) -> None:
    """What is too short to be a data packet is not the daemon's, and does no harm."""
    peer.far.send_bytes(frame(bytes([DATA_V2 << 3]) + bytes(size - 1)))
    peer.ping()
    assert stream.nothing_to_read(peer.daemon)


def test_frame_larger_than_the_window(lab: TcpLab) -> None:
    """A frame arrives even if the receive buffer cannot hold it at once."""
    peer = lab.peer(add=False)
    peer.daemon.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    size = peer.daemon.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) - 512
    peer.add()
    message = frame(control(1, size))
    with Reader(peer.daemon) as daemon:
        for _ in range(3):
            peer.far.send_bytes(message, itertools.repeat(1000))
        assert daemon.wait(3 * len(message)) == 3 * message
    peer.ping()


def test_ipv4_on_an_ipv6_socket(lab: TcpLab) -> None:
    """A daemon that listens for both families has such sockets."""
    peer = lab.peer(family=socket.AF_INET6)
    peer.ping()
    peer.daemon.sendall(frame(control(1)))
    assert peer.far.receive_raw()[0] == control(1)


# -- the daemon reads ---------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100])
def test_daemon_reads_in_pieces(peer: TcpPeer, step: int) -> None:
    expected = b"".join(frame(control(number, 15 + number)) for number in range(20))
    peer.far.send_bytes(expected)
    assert stream.receive_exactly(peer.daemon, len(expected), step=step) == expected
    assert stream.nothing_to_read(peer.daemon)


def test_daemon_peeks(peer: TcpPeer) -> None:
    """MSG_PEEK leaves what it shows, also after a part of a frame has been read."""
    message = frame(control(1))
    peer.far.send_bytes(message)
    assert peer.daemon.recv(100, socket.MSG_PEEK) == message
    assert peer.daemon.recv(2, socket.MSG_PEEK) == message[:2]
    assert peer.daemon.recv(3) == message[:3]
    assert peer.daemon.recv(100, socket.MSG_PEEK) == message[3:]
    assert peer.daemon.recv(100) == message[3:]
    assert stream.nothing_to_read(peer.daemon)
    assert stream.nothing_to_read(peer.daemon, socket.MSG_PEEK)


def test_daemon_scatters(peer: TcpPeer) -> None:
    """recvmsg() into several buffers."""
    message = frame(control(1))
    peer.far.send_bytes(message)
    buffers = [bytearray(2), bytearray(5), bytearray(100)]
    count, ancillary, _, _ = peer.daemon.recvmsg_into(buffers)
    assert (count, ancillary) == (len(message), [])
    assert b"".join(buffers)[:count] == message


def test_daemon_asks_for_errors(peer: TcpPeer) -> None:
    """OpenVPN looks at the queue of errors; that takes no message away."""
    message = frame(control(1))
    peer.far.send_bytes(message)
    until(lambda: peer.daemon.recv(100, socket.MSG_PEEK) == message, "the message")
    assert stream.nothing_to_read(peer.daemon, socket.MSG_ERRQUEUE)
    assert peer.daemon.recv(100) == message


def test_daemon_waits(peer: TcpPeer) -> None:
    """A read that blocks ends with a message, not with data; or when SO_RCVTIMEO is over."""
    message = frame(control(1))
    peer.daemon.settimeout(None)
    peer.daemon.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 300_000))
    began = time.monotonic()
    with pytest.raises(BlockingIOError):
        peer.daemon.recv(100)
    waited = time.monotonic() - began
    assert 0.25 < waited < 3, f"the read was to end after 0.3 s, and took {waited:.2f} s"

    peer.daemon.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 10, 0))

    def send() -> None:
        peer.ping()
        peer.far.send_bytes(message)

    sender = threading.Timer(0.3, send)
    sender.start()
    assert peer.daemon.recv(100) == message
    sender.join(5)


@pytest.mark.smoke
def test_poll_and_level(peer: TcpPeer) -> None:
    """poll() tells of control packets and of nothing else, until they are read."""
    poll = select.poll()
    poll.register(peer.daemon, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
    assert poll.poll(0) == [(peer.daemon.fileno(), select.POLLOUT)]
    peer.ping()
    assert poll.poll(0) == [(peer.daemon.fileno(), select.POLLOUT)], "a data packet woke the daemon"

    poll.register(peer.daemon, select.POLLIN)
    assert poll.poll(100) == []
    sender = threading.Timer(0.2, peer.far.send_bytes, (frame(control(1)),))
    sender.start()
    assert poll.poll(5000) == [(peer.daemon.fileno(), select.POLLIN)]
    sender.join(5)
    peer.daemon.recv(5)
    assert poll.poll(0) == [(peer.daemon.fileno(), select.POLLIN)], "a part is still there"
    peer.daemon.recv(100)
    assert poll.poll(0) == []


def test_edges(peer: TcpPeer) -> None:
    """An edge-triggered epoll tells of each arrival once."""
    fd = peer.daemon.fileno()
    with select.epoll() as epoll:
        epoll.register(fd, select.EPOLLIN | select.EPOLLET)
        assert epoll.poll(0) == []
        for number in range(3):
            peer.far.send_bytes(frame(control(number)))
            assert epoll.poll(5) == [(fd, select.EPOLLIN)], f"no edge for message {number}"
            assert epoll.poll(0) == []
            peer.ping(number)
            assert epoll.poll(0) == [], "a data packet made an edge"
        expected = b"".join(frame(control(number)) for number in range(3))
        assert stream.receive_exactly(peer.daemon, len(expected)) == expected


def test_daemon_that_does_not_read(peer: TcpPeer) -> None:
    """The stream stops rather than fills the memory, and loses nothing when it goes on."""
    message = frame(control(7, 1000))
    poll = select.poll()
    poll.register(peer.far.socket, select.POLLOUT)
    peer.far.socket.setblocking(False)
    sent = 0
    # Only when nothing has moved for a while has the stream stopped.
    while poll.poll(500):
        sent += peer.far.socket.send(message * 8)
        assert sent < 64 << 20, "64 MiB have gone to a daemon that does not read"
    expected = (message * (sent // len(message) + 1))[:sent]
    rest = -sent % len(message)
    with Reader(peer.daemon) as daemon:
        peer.far.send_bytes(message[len(message) - rest :] if rest else b"")
        got = daemon.wait(sent + rest)
    assert got[:sent] == expected and len(got) == sent + rest
    peer.ping()


# -- the daemon sends ---------------------------------------------------------------------


def test_daemon_sends(peer: TcpPeer) -> None:
    for number in range(50):
        assert peer.daemon.send(frame(control(number))) == 22
    assert [stream.number_of(peer.far.receive_raw()[0]) for _ in range(50)] == list(range(50))


def test_what_the_daemon_may_send(peer: TcpPeer) -> None:
    """A frame at most, as it must stand in the stream whole; nothing urgent."""
    largest = frame(control(1, stream.LARGEST))
    assert peer.daemon.send(b"") == 0
    with pytest.raises(OSError) as caught:
        peer.daemon.send(largest + b"x")
    assert caught.value.errno == errno.EMSGSIZE, caught.value
    with pytest.raises(OSError) as caught:
        peer.daemon.send(b"x", socket.MSG_OOB)
    assert caught.value.errno == errno.EOPNOTSUPP, caught.value
    assert peer.daemon.send(largest) == len(largest)
    assert peer.far.receive_raw()[0] == largest[2:]


def test_daemon_sends_to_who_does_not_read(lab: TcpLab) -> None:
    """So many of its messages wait, and then it does; none is lost."""
    peer = lab.peer(send_buffer=SMALLEST_BUFFER, receive_buffer=SMALLEST_BUFFER)
    poll = select.poll()
    poll.register(peer.daemon, select.POLLOUT)
    peer.daemon.setblocking(False)
    sent, limit = 0, PROCESS_QUEUE + 4 * SMALLEST_BUFFER // 1000
    with contextlib.suppress(BlockingIOError):
        while sent <= limit:
            peer.daemon.send(frame(control(sent, 1000)))
            sent += 1
    assert PROCESS_QUEUE <= sent <= limit, f"{sent} messages wait for who does not read"
    assert not poll.poll(0), "the daemon is told that it may send, and may not"
    got = [stream.number_of(peer.far.receive_raw()[0]) for _ in range(sent)]
    assert got == list(range(sent))
    assert poll.poll(5000), "the daemon is not told that it may send again"


@pytest.mark.parametrize("version", [4, 6])
def test_daemon_sends_between_data(lab: TcpLab, chance: random.Random, version: int) -> None:
    """Frames of the daemon stand between data frames, also where the buffer takes only parts."""
    peer = lab.peer(version, send_buffer=SMALLEST_BUFFER, receive_buffer=SMALLEST_BUFFER)
    stop = threading.Event()

    def flood() -> None:
        with peer.end.namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("10.8.0.1", 0))
            for number in itertools.count():
                if stop.is_set():
                    return
                sock.sendto(bytes(number % 1300), (peer.ipv4, 9))
                time.sleep(0.001)

    messages = [control(number, chance.randint(5, 3000)) for number in range(100)]

    def send() -> None:
        peer.daemon.setblocking(False)
        poll = select.poll()
        poll.register(peer.daemon, select.POLLOUT)
        for message in messages:
            while not stop.is_set():
                if poll.poll(100):
                    try:
                        assert peer.daemon.send(frame(message))
                        break
                    except BlockingIOError:
                        continue

    threads = [threading.Thread(target=run, daemon=True) for run in (flood, send)]
    for thread in threads:
        thread.start()
    try:
        received: list[bytes] = []
        packet_ids: list[int] = []
        deadline = time.monotonic() + 40
        while len(received) < len(messages) or len(packet_ids) < 50:
            assert time.monotonic() < deadline, (
                f"{len(received)} messages and {len(packet_ids)} data packets within 40 s"
            )
            got, _ = peer.far.receive_raw(20)
            if got[0] >> 3 == DATA_V2:
                packet_ids.append(peer.far.open(got).packet_id)
            else:
                received.append(got)
    finally:
        stop.set()
        for thread in threads:
            thread.join(5)
    assert received == messages
    assert packet_ids == sorted(set(packet_ids)), "data packets are out of order"
