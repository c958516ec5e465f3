# SPDX-License-Identifier: GPL-2.0
"""The figures as bars, in SVG: readable on a light and on a dark page."""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

from .load import LOADS
from .record import Record
from .rivals import RIVALS

# What is drawn, if it was measured: transport, cipher, load.
PANELS = (
    ("udp", "aes", "tcp1"),
    ("udp", "chacha", "tcp1"),
    ("udp", "aes", "tcp8"),
    ("udp", "aes", "udp64"),
    ("udp", "aes", "udp1300"),
    ("tcp", "aes", "tcp1"),
)
CIPHERS = {"aes": "AES-256-GCM", "chacha": "ChaCha20-Poly1305"}

WIDTH = 760
LABELS = 170
FIGURES = 120
BAR = 18
STEP = 24
HEAD = 34

STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.note { fill: #59636e; font-size: 12px }
.bar { fill: #8c959f }
.ours { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .note { fill: #9198a1 }
  .bar { fill: #656c76 }
  .ours { fill: #4493f8 }
}
"""


@dataclass(frozen=True)
class Bar:
    """One rival's figure."""

    rival: str
    value: float


def draw(record: Record) -> str:
    """The whole drawing."""
    parts: list[str] = []
    top = 8
    for transport, cipher, load in PANELS:
        bars = [
            Bar(name, value)
            for name in record.rivals()
            if name != "none" and (value := record.value(load, name, cipher, transport))
        ]
        if bars:
            parts += _panel(top, transport, cipher, load, bars)
            top += HEAD + STEP * len(bars) + 12
    parts.append(_text(8, top + 14, _conditions(record), "note"))
    height = top + 26
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img">\n'
        f"<title>Throughput of ovpn-dco and its rivals</title>\n<style>{STYLE}</style>\n"
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _panel(top: int, transport: str, cipher: str, load: str, bars: list[Bar]) -> list[str]:
    title = f"{LOADS[load].title} inside, {CIPHERS[cipher]} over {transport.upper()}"
    parts = [_text(8, top + 18, f"{title}: {LOADS[load].unit}", "title")]
    best = max(bar.value for bar in bars)
    for number, bar in enumerate(sorted(bars, key=lambda bar: -bar.value)):
        y = top + HEAD + STEP * number
        length = max(1, round((WIDTH - LABELS - FIGURES) * bar.value / best))
        kind = "ours" if bar.rival == "ours" else "bar"
        parts.append(_text(LABELS - 8, y + 14, RIVALS[bar.rival].title, anchor="end"))
        parts.append(
            f'<rect class="{kind}" x="{LABELS}" y="{y}" width="{length}" height="{BAR}" rx="2"/>'
        )
        parts.append(_text(LABELS + length + 8, y + 14, f"{bar.value:,.0f}"))
    return parts


def _text(x: int, y: int, content: str, kind: str = "", anchor: str = "start") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{style}>{escape(content)}</text>'


def _conditions(record: Record) -> str:
    told = record.conditions
    clock = "1 instruction = 1 ns" if told["clock"] == "instructions" else "time that passes"
    cpus = "1 CPU" if told["cpus"] == 1 else f"{told['cpus']} CPUs"
    return f"Linux {told['versions']['kernel']}, {cpus} for both ends, emulated, clock: {clock}"
