# SPDX-License-Identifier: GPL-3.0-or-later
"""Options: of a SYN, what each end can do; of other segments, timestamps and what arrived out of order.

    maximum segment size   RFC 9293 §3.7.1, how to count it RFC 6691
    window scale           RFC 7323 §2
    SACK permitted, SACK   RFC 2018, D-SACK RFC 2883
    timestamps             RFC 7323 §3

A malformed option ends the list, as in other stacks; it is no reason to refuse a connection.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

END = 0
NO_OPERATION = 1
MSS = 2
WINDOW_SCALE = 3
SACK_PERMITTED = 4
SACK = 5
TIMESTAMP = 8

MAX_WINDOW_SCALE = 14  # RFC 7323 §2.3: more is taken as 14

TIMESTAMPS = Struct("!III")  # the layout of RFC 7323 appendix A, which every kernel sends
TIMESTAMPS_WORD = 0x0101080A  # two NO_OPERATIONs, the kind, the length
TIMESTAMPS_SIZE = TIMESTAMPS.size  # 12 bytes
MAX_SACK_BLOCKS = 4  # what 40 bytes have room for; three beside timestamps

# How Linux lays out a SYN's, and with it nearly every guest: one `unpack` instead of a walk.
# The size; SACK permitted and timestamps' kind and size; NO_OPERATION and the window scale.
LINUX_SYN = Struct("!HHIIIHBB")
LINUX_SYN_SIZE = LINUX_SYN.size  # 20 bytes
LINUX_SYN_WORDS = (0x0204, 0x0402080A, 0x0103, 3)
unpack_linux_syn = LINUX_SYN.unpack

_BLOCK = Struct("!II")

Blocks = tuple[tuple[int, int], ...]
"""Start and end of each, as sequence numbers"""


class SynOptions:
    """`mss` in bytes, 0 when it was not given; `window_scale` in bits, -1 when it was not given.

    `timestamp` is TSval and `echo` TSecr, -1 when they were not given.
    """

    __slots__ = ("echo", "mss", "sack", "timestamp", "window_scale")

    def __init__(self, mss: int = 0, window_scale: int = -1) -> None:
        self.mss = mss
        self.window_scale = window_scale
        self.sack = False
        self.timestamp = self.echo = -1


def parse(options: bytes) -> SynOptions:
    """The options of a SYN."""
    if len(options) == LINUX_SYN_SIZE:
        mss_word, mss, sack_word, value, echo, scale_word, scale_size, scale = unpack_linux_syn(options)
        if (mss_word, sack_word, scale_word, scale_size) == LINUX_SYN_WORDS:
            found = SynOptions(mss, scale if scale < MAX_WINDOW_SCALE else MAX_WINDOW_SCALE)
            found.sack = True
            found.timestamp = value
            found.echo = echo
            return found
    found = SynOptions()
    for kind, start, size in _each(options):
        if kind == MSS and size == 4:
            found.mss = options[start] << 8 | options[start + 1]
        elif kind == WINDOW_SCALE and size == 3:
            found.window_scale = min(options[start], MAX_WINDOW_SCALE)
        elif kind == SACK_PERMITTED and size == 2:
            found.sack = True
        elif kind == TIMESTAMP and size == 10:
            found.timestamp, found.echo = _BLOCK.unpack_from(options, start)
    return found


def parse_segment(options: bytes) -> tuple[int, int, Blocks]:
    """TSval and TSecr (-1 when not given) and the SACK blocks of a segment that is no SYN."""
    if len(options) == TIMESTAMPS_SIZE:
        word, value, echo = TIMESTAMPS.unpack(options)
        if word == TIMESTAMPS_WORD:
            return value, echo, ()
    value = echo = -1
    blocks: Blocks = ()
    for kind, start, size in _each(options):
        if kind == TIMESTAMP and size == 10:
            value, echo = _BLOCK.unpack_from(options, start)
        elif kind == SACK and size % 8 == 2:
            blocks = tuple(_BLOCK.iter_unpack(options[start : start + size - 2]))
    return value, echo, blocks


def _each(options: bytes) -> Iterable[tuple[int, int, int]]:
    """Kind, where its value starts, and size with kind and length, of each well-formed option."""
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
        yield kind, position + 2, size
        position += size


def emit(mss: int, window_scale: int, *, sack: bool = False, timestamps: bytes = b"") -> bytes:
    """The options of a SYN of ours. Left out: a negative `window_scale`, `sack` false, no `timestamps`."""
    options = bytes((MSS, 4, mss >> 8, mss & 0xFF))
    if sack:
        options += bytes((NO_OPERATION, NO_OPERATION, SACK_PERMITTED, 2))
    options += timestamps
    if window_scale >= 0:
        options += bytes((NO_OPERATION, WINDOW_SCALE, 3, window_scale))
    return options


def emit_sack(blocks: Iterable[tuple[int, int]]) -> bytes:
    """A SACK option behind two NO_OPERATIONs; nothing when there are no blocks."""
    packed = b"".join(_BLOCK.pack(*block) for block in blocks)
    return bytes((NO_OPERATION, NO_OPERATION, SACK, 2 + len(packed))) + packed if packed else b""
