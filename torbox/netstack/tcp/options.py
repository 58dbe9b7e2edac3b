# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of a SYN: maximum segment size (RFC 9293 §3.7.1) and window scale (RFC 7323 §2).

A malformed option ends the list, as in other stacks; it is no reason to refuse a connection. SACK
and timestamps are not offered, so a guest does not use them.
"""

from __future__ import annotations

END = 0
NO_OPERATION = 1
MSS = 2
WINDOW_SCALE = 3

MAX_WINDOW_SCALE = 14  # RFC 7323 §2.3: more is taken as 14


class SynOptions:
    """`mss` in bytes, 0 when it was not given; `window_scale` in bits, -1 when it was not given."""

    __slots__ = ("mss", "window_scale")

    def __init__(self, mss: int = 0, window_scale: int = -1) -> None:
        self.mss = mss
        self.window_scale = window_scale


def parse(options: bytes) -> SynOptions:
    found = SynOptions()
    position = 0
    while position < len(options):
        kind = options[position]
        if kind == END:
            break
        if kind == NO_OPERATION:
            position += 1
            continue
        size = options[position + 1] if position + 1 < len(options) else 0
        if size < 2 or position + size > len(options):
            break
        if kind == MSS and size == 4:
            found.mss = options[position + 2] << 8 | options[position + 3]
        elif kind == WINDOW_SCALE and size == 3:
            found.window_scale = min(options[position + 2], MAX_WINDOW_SCALE)
        position += size
    return found


def emit(mss: int, window_scale: int) -> bytes:
    """The options of a SYN of ours; a negative `window_scale` leaves that one out."""
    options = bytes((MSS, 4, mss >> 8, mss & 0xFF))
    if window_scale >= 0:
        options += bytes((NO_OPERATION, WINDOW_SCALE, 3, window_scale))
    return options
