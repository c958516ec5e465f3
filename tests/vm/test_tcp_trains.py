# SPDX-License-Identifier: GPL-2.0
"""Data packets of the same length that come in one piece of the stream: opened as one train."""

from __future__ import annotations

import pytest
from ovpnlab import packet, stream
from ovpnlab.family import KeyPair, Slot
from ovpnlab.forgery import bits
from ovpnlab.hostile import dropped, wait_accepted, wait_dropped
from ovpnlab.stream import control, frame
from ovpnlab.tcp_peer import TcpLab, TcpPeer

COUNT = 12


@pytest.fixture
def peer(lab: TcpLab) -> TcpPeer:
    """A peer over IPv4."""
    return lab.peer()


def requests(peer: TcpPeer, size: int = 200) -> list[bytes]:
    """Sealed echo requests of one length."""
    return [
        peer.far.seal(packet.echo_request(peer.ipv4, "10.8.0.1", number, bytes(size)))
        for number in range(COUNT)
    ]


def send(peer: TcpPeer, packets: list[bytes]) -> None:
    """Send them at once: a virtual cable does not take apart what a sender has handed it as one."""
    peer.far.send_bytes(b"".join(map(frame, packets)))


def answered(peer: TcpPeer, numbers: list[int]) -> None:
    """These requests are answered, in order, and nothing else comes."""
    for number in numbers:
        peer.far.receive_reply(number)
    assert peer.far.is_silent(0.1)


@pytest.mark.smoke
@pytest.mark.parametrize("size", [0, 200, 1000])
@pytest.mark.parametrize("version", [4, 6])
def test_train(lab: TcpLab, version: int, size: int) -> None:
    """All are answered and counted."""
    peer = lab.peer(version)
    before = dropped(peer.end)
    send(peer, requests(peer, size))
    answered(peer, list(range(COUNT)))
    found = peer.state
    assert (found.link_rx.packets, found.vpn_rx.packets) == (COUNT, COUNT)
    assert dropped(peer.end) == before


@pytest.mark.parametrize("place", range(COUNT))
def test_one_bad_packet_at_each_place(peer: TcpPeer, place: int) -> None:
    """It is dropped and counted, and all others are taken."""
    packets = requests(peer)
    packets[place] = bits(len(packets[place]) - 1, packets[place])
    send(peer, packets)
    answered(peer, [number for number in range(COUNT) if number != place])
    wait_dropped(peer.end, 1, "one bad packet")
    wait_accepted(peer.end, COUNT - 1, "the others")


@pytest.mark.smoke
def test_replayed_train(peer: TcpPeer) -> None:
    """The same again is dropped, whole."""
    packets = requests(peer)
    send(peer, packets)
    answered(peer, list(range(COUNT)))
    send(peer, packets)
    wait_dropped(peer.end, COUNT, "a replayed train")
    wait_accepted(peer.end, COUNT, "the first train")
    assert peer.far.is_silent(0.1)


def test_train_of_an_unknown_key(peer: TcpPeer) -> None:
    """Each of its packets is counted as dropped."""
    good = requests(peer)
    unknown = [bytes([each[0] ^ 5]) + each[1:] for each in good]
    send(peer, unknown)
    wait_dropped(peer.end, COUNT, "a train of an unknown key")
    send(peer, good)
    answered(peer, list(range(COUNT)))


def test_keys_change_in_between(peer: TcpPeer) -> None:
    """Packets under two keys, and for the daemon, in turn: no train of all, and all are taken."""
    other = KeyPair.random(peer.keys.key_id ^ 1)
    peer.end.add_key(peer.peer_id, other, Slot.SECONDARY)
    peer.far.add_key(other.flipped())
    packets, messages = [], []
    for number in range(COUNT):
        inner = packet.echo_request(peer.ipv4, "10.8.0.1", number, bytes(100))
        packets.append(peer.far.seal(inner, (peer.keys, other)[number // 3 % 2].key_id))
        if number % 4 == 3:
            messages.append(control(number, len(packets[-1])))
            packets.append(messages[-1])
    send(peer, packets)
    answered(peer, list(range(COUNT)))
    wanted = b"".join(map(frame, messages))
    assert stream.receive_exactly(peer.daemon, len(wanted)) == wanted
    wait_accepted(peer.end, COUNT, "packets under two keys")
    wait_dropped(peer.end, 0, "packets under two keys")


def test_packets_too_short_to_open(peer: TcpPeer) -> None:
    """Equal packets that end in the header or the tag are dropped, and the stream goes on."""
    good = requests(peer)
    due = 0
    for length in (1, 4, 7, 8, 9, 23, 24):
        send(peer, [good[0][:length]] * COUNT)
        due += COUNT
        wait_dropped(peer.end, due, f"packets of {length} bytes")
    send(peer, good)
    answered(peer, list(range(COUNT)))
    assert stream.nothing_to_read(peer.daemon)
