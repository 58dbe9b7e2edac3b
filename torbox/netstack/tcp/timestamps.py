# SPDX-License-Identifier: GPL-3.0-or-later
"""The timestamps of a connection, RFC 7323: our clock, the guest's last, and what is too old to be true.

The clock ticks in milliseconds from a random beginning that all connections of a stack share: it goes on
rising for two ends that connect again, as RFC 6191 wants it, and a guest learns nothing of this machine's
uptime from it. That everything is marked costs 12 bytes a segment and about half a microsecond; what
it gains on a link that loses nothing is only that old segments are told from new after 4 GiB.
"""

from __future__ import annotations

from torbox.netstack.tcp import options
from torbox.netstack.tcp.sequence import MASK, before, distance

TICKS_PER_S = 1000  # RFC 7323 §5.4 allows 1 to 1000; Linux ticks in milliseconds
PACK = options.TIMESTAMPS.pack
OUTDATED_S = 24 * 86400.0  # seconds, RFC 7323 §5.5: after this much silence TS.Recent means nothing


class Timestamps:
    """`recent` is TS.Recent, the guest's timestamp to be echoed; `recent_at` when it came, in seconds."""

    __slots__ = ("offset", "recent", "recent_at")

    def __init__(self, offset: int) -> None:
        self.offset = offset  # ticks
        self.recent = 0
        self.recent_at = 0.0

    def value(self, now: float) -> int:
        """TSval for a segment that is sent now."""
        return (int(now * TICKS_PER_S) + self.offset) & MASK

    def option(self, now: float) -> bytes:
        value = (int(now * TICKS_PER_S) + self.offset) & MASK  # as `value`, without its call
        return PACK(options.TIMESTAMPS_WORD, value, self.recent)

    def is_old(self, value: int, now: float) -> bool:
        """PAWS, RFC 7323 §5.3 R1: whether a segment with TSval `value` is of an earlier turn of numbers."""
        return before(value, self.recent) and now - self.recent_at < OUTDATED_S

    def take(self, value: int, now: float) -> None:
        """TS.Recent becomes `value`; the caller has seen to it that it is not old and nothing is skipped."""
        self.recent = value
        self.recent_at = now

    def age_s(self, echo: int, now: float) -> float:
        """How long ago the segment left that the guest echoes; -1 for an echo from the future."""
        ticks = distance(echo, self.value(now))
        return ticks / TICKS_PER_S if ticks >= 0 else -1.0
