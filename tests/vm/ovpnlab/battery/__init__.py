# SPDX-License-Identifier: GPL-2.0
"""The same requests, good and bad, for two modules, and what each answers.

    bench        two interfaces, and a question: what is answered, heard and changed
    malformed    each command with each attribute missing, doubled, too short or too long
    peers        NEW_PEER, SET_PEER, DEL_PEER, GET_PEER: numbers, addresses, times, reasons
    sockets      what a descriptor may be
    keys         NEW_KEY, SWAP_KEYS, DEL_KEY: ciphers, lengths, slots, ids
    lives        P2P replacement, and what is left of a peer that expired
    privileges   who may ask
    links        the link type: modes, MTU, what `ip` and `ethtool` show
    comparison   two modules' answers and the table of differences

Each section's requests stand in the same order for both modules, as do the ports and
the interface indexes that they use: what differs is the module's doing.
"""

from __future__ import annotations

from .bench import Answer, Bench
from .keys import keys
from .links import links
from .lives import expiry, p2p
from .malformed import malformed
from .peers import peers
from .privileges import privileges
from .sockets import sockets


def run(not_sent: tuple[str, ...] = ()) -> dict[str, Answer]:
    """Ask the module that is loaded everything, but for what matches `not_sent`."""
    bench = Bench(not_sent)
    try:
        for section in (malformed, peers, sockets, keys, p2p, expiry, privileges, links):
            section(bench)
            bench.listen_further(section.__name__)
    finally:
        bench.close()
    return bench.answers
