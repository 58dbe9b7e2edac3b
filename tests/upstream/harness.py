# SPDX-License-Identifier: GPL-3.0-or-later
"""A stream's other side for tests: an owner that writes down what it hears and pumps when marked."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import time
from collections.abc import Callable, Iterator

from tests.support.patience import PATIENCE_S
from torbox.netstack.flow import Refusal
from torbox.netstack.ring import POOL, Ring, RingPool
from torbox.relay.reactor import Reactor
from torbox.upstream.interface import Resolution, Stream, Target, Upstream

GLANCE_S = 0.01  # what another thread does makes no event of ours


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Not one more can be had, EMFILE: the limit is lowered and every hole below it filled."""
    gc.collect()  # what it closed meanwhile would be a hole again
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fillers = [os.dup(0)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[0] + 1, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                fillers.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for filler in fillers:
            os.close(filler)


class Guest:
    """Two rings and the owner between them and a stream. `heard` holds the calls in order."""

    def __init__(self, limit: int = 1 << 20, pool: RingPool = POOL) -> None:
        self.rx = Ring(limit, pool=pool)
        self.tx = Ring(limit, pool=pool)
        self.heard: list[str] = []
        self.refusal: Refusal | None = None
        self.stream: Stream | None = None
        self.marked = False
        self.fair_stops = 0

    def connected(self) -> None:
        self.heard.append("connected")
        self.marked = True

    def refused(self, why: Refusal) -> None:
        self.heard.append("refused")
        self.refusal = why

    def moved(self) -> None:
        self.marked = True

    def eof(self) -> None:
        self.heard.append("eof")

    def broken(self) -> None:
        self.heard.append("broken")

    def pump(self) -> None:
        if self.marked and self.stream is not None:
            self.marked = self.stream.pump()
            self.fair_stops += self.marked

    def send(self, data: bytes) -> None:
        assert self.rx.write(data) == len(data)
        self.marked = True

    def take(self, size: int = 1 << 20) -> bytes:
        """What has arrived, taken out, so that there is room for more."""
        data = b"".join(map(bytes, self.tx.peek(0, size)))
        self.tx.consume(len(data))
        self.marked = True
        return data

    def rx_empty(self) -> bool:
        return not len(self.rx)

    def finish(self) -> None:
        assert self.stream is not None
        self.stream.shutdown()


class Loop:
    """A reactor and the guests that are pumped in its turns, as the relay does it."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        self.guests: list[Guest] = []

    def guest(self, upstream: Upstream, target: Target, limit: int = 1 << 20, pool: RingPool = POOL) -> Guest:
        guest = Guest(limit, pool)
        guest.stream = upstream.open_stream(target, guest.rx, guest.tx, guest)
        assert not guest.heard, "an owner must not be called from within open_stream"
        self.guests.append(guest)
        return guest

    def turn(self, until: float) -> None:
        marked = any(guest.marked for guest in self.guests)
        self.reactor.turn(self.reactor.now if marked else until)
        for guest in self.guests:
            guest.pump()

    def until(self, happened: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not happened():
            assert time.monotonic() < end, "what was waited for did not happen"
            self.turn(self.reactor.now + GLANCE_S)

    def hear(self, guest: Guest, what: str) -> None:
        self.until(lambda: what in guest.heard)

    def resolve(self, upstream: Upstream, name: bytes, kind: str) -> Resolution:
        answers: list[Resolution] = []
        upstream.resolve(name, kind, answers.append)
        assert not answers, "the answer must come in a later turn"
        self.until(lambda: answers)
        assert len(answers) == 1
        return answers[0]

    def dismiss(self) -> None:
        """Let all guests and their streams go."""
        for guest in self.guests:
            if guest.stream is not None:
                guest.stream.abort()
        self.guests.clear()

    def close(self) -> None:
        self.dismiss()
        self.reactor.close()
