# SPDX-License-Identifier: GPL-3.0-or-later
"""Sequence numbers: arithmetic modulo 2^32, RFC 9293 §3.4.

What every segment goes through has these three written out, since a call costs more than the sum in it:
before(a, b) is `(a - b) & MASK >= HALF`, after(a, b) is `(b - a) & MASK >= HALF`, and where it is known that
`end` does not lie before `start`, distance(start, end) is `(end - start) & MASK`.
"""

from __future__ import annotations

MASK = 0xFFFFFFFF
HALF = 0x80000000


def distance(start: int, end: int) -> int:
    """How far `end` is after `start`; negative when it is before."""
    return ((end - start + HALF) & MASK) - HALF


def before(a: int, b: int) -> bool:
    return ((a - b) & MASK) >= HALF


def after(a: int, b: int) -> bool:
    return ((b - a) & MASK) >= HALF
