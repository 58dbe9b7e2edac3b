# SPDX-License-Identifier: GPL-3.0-or-later
"""When to ask whether a guest that says nothing is still there, RFC 9293 §3.8.4: off until the owner asks.

The time a segment came is all that is noted for it; the timer looks at that when it comes up, so that a
busy connection never moves it.
"""

from __future__ import annotations

import math

INFINITE = math.inf  # seconds


class Keepalive:
    """`idle_s`: silence before the first question; `interval_s` between them; `count` before giving up."""

    __slots__ = ("asked", "count", "due_at", "heard_at", "idle_s", "interval_s")

    def __init__(self, idle_s: float, interval_s: float, count: int) -> None:
        self.idle_s = idle_s
        self.interval_s = interval_s
        # §3.8.4: no single lost answer may end a connection; one must be asked for.
        self.count = max(count, 1)
        self.asked = 0  # questions without an answer
        self.heard_at = -1.0  # seconds; not known before `begin`
        self.due_at = INFINITE  # likewise, and only then

    def begin(self, now: float) -> None:
        self.heard_at = now
        self.due_at = now + self.idle_s

    def heard(self, now: float) -> None:
        """A segment came, whatever it was."""
        self.heard_at = now
        self.asked = 0

    def is_due(self, now: float, *, busy: bool) -> bool:
        """The clock is looked at: whether to ask. `busy`: text is under way, and has a timer of its own."""
        if busy:
            self.heard(now)
        self.due_at = self.heard_at + self.idle_s + self.asked * self.interval_s
        if now < self.due_at:
            return False
        self.asked += 1
        self.due_at = now + self.interval_s
        return True

    @property
    def exhausted(self) -> bool:
        return self.asked > self.count
