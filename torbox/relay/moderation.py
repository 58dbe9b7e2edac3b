# SPDX-License-Identifier: GPL-3.0-or-later
"""When to let bytes gather before looking again: interrupt moderation, as network cards have it.

A proxy that copies in small pieces wakes the loop for each of them, and each costs a turn, a packet and a
wake-up of the guest: at 300 MB/s in pieces of 9 KB the worker took nearly a processor from the very proxy
it waited for. So while much comes in little pieces, a turn is put off for a moment. It costs others of the
same sandbox that moment, and only then; the idea is ethtool's adaptive-rx.
"""

from __future__ import annotations

REST_S = 250e-6  # seconds; at 300 MB/s a super-packet's worth, and no more than a near server's answer takes
MUCH = 64e6  # bytes a second; Tor never comes near, a small exchange neither
WINDOW_S = 0.001  # seconds over which that is measured
PIECES = 1 << 16  # bytes of one turn; more is worth a turn


class Moderation:
    """`rest_s` is told of each turn, and says how long to rest before the next."""

    __slots__ = ("_much", "_since", "_size")

    def __init__(self) -> None:
        self._since = 0.0
        self._size = 0  # bytes since then
        self._much = False  # in the window before

    def rest_s(self, size: int, now: float) -> float:
        """`size` bytes were moved in the turn that began at `now`, both ways together; seconds."""
        self._size += size
        elapsed = now - self._since
        if elapsed > WINDOW_S:
            self._much = self._size > MUCH * elapsed
            self._since = now
            self._size = 0
        return REST_S if self._much and 0 < size < PIECES else 0.0
