# SPDX-License-Identifier: GPL-3.0-or-later
"""Sequence numbers: arithmetic modulo 2^32, RFC 9293 §3.4."""

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
