# SPDX-License-Identifier: GPL-2.0
"""Packets seen on an interface, by tcpdump, and what they hold."""

from __future__ import annotations

import signal
import struct
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from . import waiting
from .namespace import Namespace

ETH_IPV4 = 0x0800
ETH_IPV6 = 0x86DD
OPCODES = {
    1: "P_CONTROL_HARD_RESET_CLIENT_V1",
    2: "P_CONTROL_HARD_RESET_SERVER_V1",
    3: "P_CONTROL_SOFT_RESET_V1",
    4: "P_CONTROL_V1",
    5: "P_ACK_V1",
    6: "P_DATA_V1",
    7: "P_CONTROL_HARD_RESET_CLIENT_V2",
    8: "P_CONTROL_HARD_RESET_SERVER_V2",
    9: "P_DATA_V2",
    10: "P_CONTROL_HARD_RESET_CLIENT_V3",
    11: "P_CONTROL_WKC_V1",
}


class Capture:
    """The packets that match a filter while the context lasts."""

    def __init__(self, namespace: Namespace, interface: str, expression: str, file: Path) -> None:
        self._namespace = namespace
        self._argv = ["tcpdump", "-i", interface, "-n", "-U", "-s", "256"]
        self._argv += ["--immediate-mode", "-Z", "root"]
        self._argv += ["-w", str(file), expression]
        self._log = file.with_suffix(".tcpdump")
        self._process: subprocess.Popen[str] | None = None
        self.file = file

    def __enter__(self) -> Capture:
        with self._log.open("wb") as log:
            self._process = self._namespace.start(*self._argv, output=log.fileno())
        waiting.until(
            lambda: "listening on" in self._log.read_text(), "tcpdump listens", timeout=15
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)

    def frames(self) -> list[bytes]:
        """The Ethernet frames in the file."""
        return list(_frames(self.file.read_bytes()))

    def payloads(self) -> list[bytes]:
        """The UDP payloads in the file."""
        return [payload for payload in map(udp_payload, self.frames()) if payload is not None]

    def opcodes(self) -> Counter[str]:
        """How many packets of each OpenVPN opcode were seen."""
        counted = Counter((payload[0] >> 3) if payload else -1 for payload in self.payloads())
        return Counter({OPCODES.get(op, f"opcode {op}"): n for op, n in counted.items()})


def _frames(data: bytes) -> Iterator[bytes]:
    order = {b"\xd4\xc3\xb2\xa1": "<", b"\xa1\xb2\xc3\xd4": ">"}[data[:4]]
    position = 24
    while position + 16 <= len(data):
        length = struct.unpack_from(f"{order}I", data, position + 8)[0]
        yield data[position + 16 : position + 16 + length]
        position += 16 + length


def udp_payload(frame: bytes) -> bytes | None:
    """The payload of the UDP datagram in an Ethernet frame, if it is one (first fragments too)."""
    kind = struct.unpack_from("!H", frame, 12)[0]
    packet = frame[14:]
    if kind == ETH_IPV4 and packet[9] == 17 and not struct.unpack_from("!H", packet, 6)[0] & 0x1FFF:
        return packet[(packet[0] & 15) * 4 + 8 :]
    if kind == ETH_IPV6 and packet[6] == 17:
        return packet[48:]
    return None
