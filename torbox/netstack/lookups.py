# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions that must leave: asked once, joined while under way, remembered when answered.

Tor takes a second where a local resolver takes a millisecond, and programs repeat themselves: glibc
asks again after five seconds, a browser asks from three places at once. So equal questions share
one trip, and answers are kept, those that there is nothing (RFC 2308) or that nobody could say
(RFC 9520) too. Everything is bounded; a question beyond a bound fails at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

CACHE_MAX = 4096  # answers, about 2 MB
OUTSTANDING_MAX = 256  # distinct questions under way
ASKERS_MAX = 32  # of one question; more are repetitions
ADDRESSES_MAX = 32  # of one answer
TTL_MIN_S = 5  # a TTL of 0 would send each repetition through the network again
TTL_MAX_S = 3600  # what a circuit's exit says is not to be believed for days
NEGATIVE_TTL_S = 60
FAILURE_TTL_S = 5  # RFC 9520 §3.2 asks for at least 1 and suggests 5
DEADLINE_S = 120.0  # an upstream gives up long before; past it a question is lost, not slow

Done = Callable[[tuple[bytes, ...], int, bool], None]
Resolve = Callable[[bytes, str, Done], None]


class Outcome(NamedTuple):
    """What became of a question: answers, or none; `failed`: nobody could say."""

    answers: tuple[bytes, ...]
    ttl_s: int
    failed: bool


FAILED = Outcome((), FAILURE_TTL_S, True)
Heard = Callable[[Outcome], None]
Question = tuple[bytes, str]


class _Outstanding(NamedTuple):
    since: float
    askers: list[Heard]


class Lookups:
    """A cache in front of `resolve`, which calls `done(answers, ttl_s, failed)` once, now or later.

    `turned_away` counts questions beyond a bound, `forgotten` answers that gave way to others.
    """

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._cache: OrderedDict[Question, tuple[float, Outcome]] = OrderedDict()
        self._outstanding: dict[Question, _Outstanding] = {}
        self._now = 0.0
        self.turned_away = 0
        self.forgotten = 0

    def ask(self, name: bytes, kind: str, now: float, heard: Heard) -> None:
        """Answer from the cache, or ask for a lower-case name ("A", "AAAA") or packed address ("PTR")."""
        self._now = max(self._now, now)
        question = (name, kind)
        cached = self._cached(question)
        if cached is not None:
            heard(cached)
            return
        outstanding = self._outstanding.get(question)
        if outstanding is not None:
            if now - outstanding.since < DEADLINE_S:
                if len(outstanding.askers) < ASKERS_MAX:
                    outstanding.askers.append(heard)
                else:
                    self.turned_away += 1
                    heard(FAILED)
                return
            _give_up(self._outstanding.pop(question))
        if len(self._outstanding) >= OUTSTANDING_MAX:
            self._drop_lost()
            if len(self._outstanding) >= OUTSTANDING_MAX:
                self.turned_away += 1
                heard(FAILED)
                return
        asked = self._outstanding[question] = _Outstanding(now, [heard])
        self._resolve(name, kind, lambda *outcome: self._answered(question, asked, Outcome(*outcome)))

    def _cached(self, question: Question) -> Outcome | None:
        entry = self._cache.get(question)
        if entry is None:
            return None
        expires, outcome = entry
        left_s = expires - self._now
        if left_s <= 0:
            del self._cache[question]
            return None
        self._cache.move_to_end(question)
        return outcome._replace(ttl_s=int(left_s) + 1)

    def _answered(self, question: Question, asked: _Outstanding, outcome: Outcome) -> None:
        if self._outstanding.get(question) is not asked:
            return  # said twice, or long after everyone stopped to wait
        del self._outstanding[question]
        if outcome.failed:
            outcome = FAILED
        else:
            ttl_s = outcome.ttl_s if outcome.answers else NEGATIVE_TTL_S
            outcome = Outcome(outcome.answers[:ADDRESSES_MAX], min(max(ttl_s, TTL_MIN_S), TTL_MAX_S), False)
        # The clock was last read when somebody last asked, so an answer is kept a little less than its TTL.
        self._cache[question] = (self._now + outcome.ttl_s, outcome)
        while len(self._cache) > CACHE_MAX:
            self._cache.popitem(last=False)
            self.forgotten += 1
        for heard in asked.askers:
            heard(outcome)

    def _drop_lost(self) -> None:
        lost = [q for q, asked in self._outstanding.items() if self._now - asked.since >= DEADLINE_S]
        for question in lost:
            _give_up(self._outstanding.pop(question))


def _give_up(asked: _Outstanding) -> None:
    """Whoever counts his questions is told of the lost one too."""
    for heard in asked.askers:
        heard(FAILED)
