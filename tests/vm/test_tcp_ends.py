# SPDX-License-Identifier: GPL-2.0
"""How a peer over TCP begins and ends: hand-over, reset, half-close, nonsense, and after that.

The far end of the connection is an endpoint in user space, the daemon is the test.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import threading
import time
from collections.abc import Callable

import pytest
from conftest import Refused
from ovpnlab import link, packet, stream
from ovpnlab.family import Reason
from ovpnlab.interface import Interface
from ovpnlab.namespace import Namespace
from ovpnlab.netlink import NetlinkError
from ovpnlab.stream import control, frame
from ovpnlab.tcp_peer import TcpLab, TcpPeer
from ovpnlab.waiting import until
from ovpnlab.wire import DATA_V2


@pytest.fixture
def peer(lab: TcpLab) -> TcpPeer:
    """A peer over IPv4 whose tunnel works."""
    made = lab.peer()
    made.ping()
    return made


def next_one_works(lab: TcpLab, version: int = 4) -> None:
    """A new connection takes the place of the one that is gone."""
    again = lab.peer(version)
    again.ping()
    again.delete()
    assert lab.removed() == Reason.USERSPACE


def messages(count: int, first: int = 0) -> bytes:
    """So many control frames."""
    return b"".join(frame(control(number)) for number in range(first, first + count))


# -- the far end ends it ------------------------------------------------------------------


def finish(peer: TcpPeer) -> None:
    """The far end closes."""
    peer.far.close()


def half_close(peer: TcpPeer) -> None:
    """The far end will not send any more."""
    peer.far.socket.shutdown(socket.SHUT_WR)


def reset(peer: TcpPeer) -> None:
    """The far end has crashed and come back."""
    stream.reset(peer.far.socket)


def empty_frame(peer: TcpPeer) -> None:
    """A frame without a packet."""
    peer.far.send_bytes(frame(b""))


def empty_frame_in_halves(peer: TcpPeer) -> None:
    """The same in two segments."""
    peer.far.send_bytes(b"\0")
    peer.far.send_bytes(b"\0")


def oversized_frame(peer: TcpPeer) -> None:
    """A length that the receive buffer can never hold."""
    size = peer.daemon.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) + 1
    assert size < stream.LARGEST
    peer.far.send_bytes(struct.pack("!H", size) + control(1))


ENDS = [
    (finish, Reason.TRANSPORT_DISCONNECT),
    (half_close, Reason.TRANSPORT_DISCONNECT),
    (reset, Reason.TRANSPORT_DISCONNECT),
    (empty_frame, Reason.TRANSPORT_ERROR),
    (empty_frame_in_halves, Reason.TRANSPORT_ERROR),
    (oversized_frame, Reason.TRANSPORT_ERROR),
]


@pytest.mark.smoke
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("end", "reason"), ENDS, ids=[end.__name__ for end, _ in ENDS])
def test_far_end_ends_it(
    lab: TcpLab, version: int, end: Callable[[TcpPeer], None], reason: Reason
) -> None:
    """The peer goes, userspace is told once and why, and the next connection works."""
    peer = lab.peer(version, add=False)
    peer.daemon.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    peer.add()
    peer.ping()
    end(peer)
    assert lab.removed() == reason
    next_one_works(lab, version)


@pytest.mark.parametrize("end", [finish, half_close])
@pytest.mark.parametrize("count", [1, 10, 300])
def test_last_words_are_read(
    lab: TcpLab, peer: TcpPeer, end: Callable[[TcpPeer], None], count: int
) -> None:
    """The daemon reads all that came before the end, then the end; also more than may wait."""
    expected = messages(count)
    peer.far.send_bytes(expected)
    end(peer)
    got = stream.receive_until_end(peer.daemon)
    assert got == expected, f"{len(expected)} bytes were sent, and {len(got)} of them read"
    assert lab.removed() == Reason.TRANSPORT_DISCONNECT


def test_last_words_are_there_later(lab: TcpLab, peer: TcpPeer) -> None:
    """A daemon that is busy for longer than the peer is kept for it finds them, too."""
    expected = messages(100)
    peer.far.send_bytes(expected + expected[:7])
    peer.far.close()
    assert lab.removed(timeout=15) == Reason.TRANSPORT_DISCONNECT
    assert stream.receive_until_end(peer.daemon) == expected + expected[:7]


def test_reset_is_an_error_for_the_daemon(lab: TcpLab, peer: TcpPeer) -> None:
    reset(peer)
    until(lambda: select.select([peer.daemon], [], [], 0)[0], "the daemon is woken")
    with pytest.raises(ConnectionResetError):
        peer.daemon.recv(100)
    assert lab.removed() == Reason.TRANSPORT_DISCONNECT


def test_reset_wakes_a_blocked_read(lab: TcpLab, peer: TcpPeer) -> None:
    threading.Timer(0.3, reset, (peer,)).start()
    peer.daemon.settimeout(10)
    peer.daemon.setblocking(True)
    with pytest.raises(ConnectionResetError):
        peer.daemon.recv(100)
    assert lab.removed() == Reason.TRANSPORT_DISCONNECT


def test_end_while_data_waits(lab: TcpLab) -> None:
    """With packets that could not be sent: they go, and with them the peer."""
    peer = lab.peer(send_buffer=4608, receive_buffer=4608)
    peer.flood(300, 1000)
    reset(peer)
    assert lab.removed() == Reason.TRANSPORT_DISCONNECT
    next_one_works(lab)


# -- the near end ends it -----------------------------------------------------------------


@pytest.mark.parametrize("version", [4, 6])
def test_daemon_closes(lab: TcpLab, version: int) -> None:
    peer = lab.peer(version)
    peer.ping()
    peer.daemon.close()
    assert lab.removed() == Reason.TRANSPORT_DISCONNECT
    with pytest.raises(EOFError):
        peer.far.receive_raw()
    next_one_works(lab, version)


def test_daemon_says_goodbye(lab: TcpLab) -> None:
    """What the daemon sent before it closed arrives, however short before that was."""
    for number in range(20):
        peer = lab.peer()
        for each in range(5):
            peer.daemon.sendall(frame(control(each)))
        peer.daemon.close()
        got = [stream.number_of(peer.far.receive_raw()[0]) for _ in range(5)]
        assert got == list(range(5)), f"connection {number}"
        with pytest.raises(EOFError):
            peer.far.receive_raw()
        assert lab.removed() == Reason.TRANSPORT_DISCONNECT
        peer.far.close()


def test_daemon_says_goodbye_and_shuts_down(peer: TcpPeer) -> None:
    """The same with shutdown()."""
    for each in range(5):
        peer.daemon.sendall(frame(control(each)))
    peer.daemon.shutdown(socket.SHUT_WR)
    got = [stream.number_of(peer.far.receive_raw()[0]) for _ in range(5)]
    assert got == list(range(5))
    with pytest.raises(EOFError):
        peer.far.receive_raw()
    with pytest.raises(BrokenPipeError):
        peer.daemon.send(frame(control(9)))
    # What comes is still the daemon's.
    peer.far.send_bytes(messages(1))
    assert stream.receive_exactly(peer.daemon, 22) == messages(1)


def test_interface_goes(lab: TcpLab, peer: TcpPeer) -> None:
    link.delete(lab.end.namespace, lab.end.name)
    (removal,) = lab.removals.collect(1)
    assert removal.reason == Reason.TEARDOWN
    is_plain(peer)


# -- the socket afterwards ----------------------------------------------------------------


def is_plain(peer: TcpPeer) -> None:
    """The daemon's end is a plain TCP socket: any bytes, both ways, and their end."""
    near, far = peer.daemon, peer.far.socket
    far.settimeout(5)
    data = bytes([DATA_V2 << 3]) * 100  # would have been the kernel's
    far.sendall(b"\0\0" + data)
    assert stream.receive_exactly(near, 102) == b"\0\0" + data
    near.sendall(b"any bytes")
    assert far.recv(100) == b"any bytes"
    near.setblocking(False)
    assert select.select([near], [near], [], 0) == ([], [near], [])
    # What comes while somebody waits for it wakes them. At the end of its time, select looks anyway.
    later = threading.Timer(0.3, far.sendall, (b"!",))
    later.start()
    began = time.monotonic()
    assert select.select([near], [], [], 20)[0], "nothing comes to the daemon"
    assert time.monotonic() - began < 15, "the daemon is not woken"
    later.join()
    assert near.recv(10, socket.MSG_PEEK) == b"!"
    assert near.recv(10) == b"!"
    assert near.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    assert stream.segments_received(near) > 0
    near.settimeout(5)
    near.shutdown(socket.SHUT_WR)
    assert far.recv(10) == b""
    far.sendall(b"rest")
    far.close()
    assert stream.receive_until_end(near) == b"rest"


@pytest.mark.smoke
@pytest.mark.parametrize("version", [4, 6])
def test_socket_is_given_back(lab: TcpLab, version: int) -> None:
    peer = lab.peer(version)
    peer.ping()
    peer.daemon.sendall(frame(control(1)))
    assert peer.far.receive_raw()[0] == control(1)
    peer.delete()
    assert lab.removed() == Reason.USERSPACE
    is_plain(peer)


@pytest.mark.parametrize("rest", [0, 1, 2, 10])
def test_unread_data_is_given_back(lab: TcpLab, peer: TcpPeer, rest: int) -> None:
    """What came and was not read, a part of a frame included, is there to be read, in order."""
    expected = messages(10) + frame(control(10))[:rest]
    peer.far.send_bytes(expected)
    until(lambda: stream.queued(peer.far.socket) == 0, "the stream arrives")
    assert peer.daemon.recv(5) == expected[:5]
    peer.delete()
    assert lab.removed() == Reason.USERSPACE
    assert select.select([peer.daemon], [], [], 0)[0], "there is something to read"
    assert stream.receive_exactly(peer.daemon, len(expected) - 5) == expected[5:]
    is_plain(peer)


def test_unread_data_of_a_stopped_stream_is_given_back(peer: TcpPeer) -> None:
    """More came than may wait for the daemon."""
    expected = messages(500)
    peer.far.send_bytes(expected)
    until(lambda: stream.queued(peer.far.socket) == 0, "the stream arrives")
    peer.delete()
    assert stream.receive_exactly(peer.daemon, len(expected)) == expected
    is_plain(peer)


@pytest.mark.parametrize("rest", [0, 1, 10])
def test_second_hand_over(lab: TcpLab, peer: TcpPeer, rest: int) -> None:
    """The same socket is a transport again, and the stream goes on where it was."""
    last = frame(control(3))
    peer.far.send_bytes(messages(3) + last[:rest])
    until(lambda: stream.queued(peer.far.socket) == 0, "the stream arrives")
    peer.delete()
    assert lab.removed() == Reason.USERSPACE
    peer.add()
    peer.far.send_bytes(last[rest:])
    peer.ping()
    assert stream.receive_exactly(peer.daemon, 4 * 22) == messages(4)
    peer.delete()
    assert lab.removed() == Reason.USERSPACE
    is_plain(peer)


def test_blocked_read_goes_on(peer: TcpPeer) -> None:
    """A read that waits while the peer goes gets what comes then."""
    got: list[bytes] = []
    peer.daemon.setblocking(True)
    reader = threading.Thread(target=lambda: got.append(peer.daemon.recv(100)), daemon=True)
    reader.start()
    time.sleep(0.2)
    peer.delete()
    peer.far.socket.sendall(b"plain")
    reader.join(5)
    assert got == [b"plain"]
    is_plain(peer)


def test_frame_sent_in_part_is_finished(lab: TcpLab) -> None:
    """When the peer goes, the stream is left between two frames, and the daemon's are in it."""
    peer = lab.peer(send_buffer=4608, receive_buffer=4608)
    peer.flood(60, 1300)
    peer.daemon.setblocking(True)
    for number in range(10):
        assert peer.daemon.send(frame(control(number, 500))) == 502
    peer.delete()
    assert lab.removed() == Reason.USERSPACE
    peer.daemon.settimeout(10)
    sender = threading.Thread(target=peer.daemon.sendall, args=(frame(control(10)),), daemon=True)
    sender.start()
    got: list[bytes] = []
    while not got or got[-1] != control(10):
        received, _ = peer.far.receive_raw()
        if received[0] >> 3 == DATA_V2:
            peer.far.open(received)
        else:
            got.append(received)
    sender.join(5)
    assert got == [*(control(number, 500) for number in range(10)), control(10)]
    is_plain(peer)


# -- hand-over ----------------------------------------------------------------------------


def test_hand_over_with_data(lab: TcpLab) -> None:
    """Frames that have come, the last of them in part: the daemon gets its own."""
    peer = lab.peer(add=False)
    data = frame(peer.far.seal(packet.echo_request(peer.ipv4, "10.8.0.1")))
    peer.far.send_bytes(messages(2) + data + messages(1, 2) + messages(1, 3)[:9])
    until(lambda: peer.daemon.recv(1, socket.MSG_PEEK), "the stream arrives")
    peer.add()
    assert stream.receive_exactly(peer.daemon, 3 * 22) == messages(3)
    assert stream.nothing_to_read(peer.daemon)
    peer.far.send_bytes(messages(1, 3)[9:])
    assert stream.receive_exactly(peer.daemon, 22) == messages(1, 3)
    peer.ping()


def test_hand_over_of_nonsense(lab: TcpLab) -> None:
    """An empty frame that has come already ends the peer as soon as it is there."""
    peer = lab.peer(add=False)
    peer.far.send_bytes(messages(1) + frame(b""))
    until(lambda: peer.daemon.recv(1, socket.MSG_PEEK), "the stream arrives")
    peer.end.control.new_peer(peer.end.index, 1, peer.daemon, None, peer.ipv4)
    assert lab.removed() == Reason.TRANSPORT_ERROR
    next_one_works(lab)


@pytest.mark.parametrize("data", [b"", b"\0", messages(3)], ids=["nothing", "a byte", "frames"])
def test_hand_over_in_close_wait(lab: TcpLab, data: bytes) -> None:
    """The far end has closed: the refusal says so, and the daemon reads what came."""
    peer = lab.peer(add=False)
    peer.far.send_bytes(data)
    peer.far.close()
    until(lambda: len(peer.daemon.recv(100, socket.MSG_PEEK)) == len(data), "the data")
    poll = select.poll()
    poll.register(peer.daemon, select.POLLRDHUP)
    assert poll.poll(5000), "the end of the connection was expected"
    with pytest.raises(NetlinkError) as caught:
        peer.add()
    assert caught.value.errno == errno.EINVAL and "ESTABLISHED" in caught.value.message
    assert stream.receive_until_end(peer.daemon) == data
    assert lab.end.peers() == []
    next_one_works(lab)


@pytest.mark.parametrize("end", [finish, half_close, reset])
def test_hand_over_while_it_ends(lab: TcpLab, end: Callable[[TcpPeer], None]) -> None:
    """Refused with a message, or added and removed; whichever, nothing stays and the next works."""
    outcomes = {"refused": 0, "added": 0}
    for number in range(30):
        peer = lab.peer(add=False)
        begin = threading.Barrier(2)

        def finally_end(peer: TcpPeer = peer, begin: threading.Barrier = begin) -> None:
            begin.wait(5)
            end(peer)

        ender = threading.Thread(target=finally_end)
        ender.start()
        begin.wait(5)
        time.sleep(number % 10 * 0.0002)
        try:
            peer.end.control.new_peer(peer.end.index, 1, peer.daemon, None, peer.ipv4)
            outcomes["added"] += 1
            assert lab.removed() == Reason.TRANSPORT_DISCONNECT
        except NetlinkError as error:
            outcomes["refused"] += 1
            assert error.errno == errno.EINVAL and "ESTABLISHED" in error.message, str(error)
            assert lab.end.peers() == []
        ender.join(5)
        peer.close()
    print(outcomes)
    assert lab.removals.collect(1, timeout=0.3) == []
    next_one_works(lab)


# -- one socket, one peer -----------------------------------------------------------------


def test_two_peers_on_one_socket(refused: Refused, lab: TcpLab, peer: TcpPeer) -> None:
    with refused(errno.EBUSY):
        lab.end.control.new_peer(lab.end.index, 2, peer.daemon, None, "10.8.0.3")
    assert [each.peer_id for each in lab.end.peers()] == [1]
    peer.ping(2)
    peer.delete()
    assert lab.removed() == Reason.USERSPACE
    is_plain(peer)


def test_socket_of_another_interface(
    refused: Refused, lab: TcpLab, peer: TcpPeer, alpha: Namespace
) -> None:
    other = Interface(alpha, None, "10.9.0.1/24", name="tun1")
    try:
        with refused(errno.EBUSY):
            other.control.new_peer(other.index, 1, peer.daemon, None, "10.9.0.2")
        assert other.peers() == []
        peer.ping(2)
        peer.delete()
        assert lab.removed() == Reason.USERSPACE
        other.control.new_peer(other.index, 1, peer.daemon, None, "10.9.0.2")
        assert other.has_peer(1), "the socket was free"
    finally:
        other.close()
