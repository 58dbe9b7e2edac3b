# SPDX-License-Identifier: GPL-3.0-or-later
"""An upstream that does, at any time, anything that upstream/interface.py lets one do, as the dice fall.

It refuses and connects, finishes and breaks, answers names with nonsense, and has datagrams come from
anywhere. What it may not do it does not: an owner is called in a turn of its own, and not after the end.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

from torbox.netstack.flow import Refusal
from torbox.netstack.ring import Ring
from torbox.upstream.interface import DatagramOwner, Resolution, StreamOwner, Target

REFUSALS = tuple(Refusal)
NAMES = (b"a.b", b"", b"x" * 300, b"loc")  # what a reverse query may be answered with
WIDTHS = {"A": 4, "AAAA": 16}
MTUS = (0, 1, 68, 1280, 70_000)
SIZES = (0, 1, 1400, 65_000, 65_507, 65_527)
LAST_SENT = 5


class WhimsicalStream:
    def __init__(self, upstream: WhimsicalUpstream, rx: Ring, tx: Ring, owner: StreamOwner) -> None:
        self._upstream, self._dice = upstream, upstream.dice
        self._rx, self._tx, self._owner = rx, tx, owner
        self.is_open = self.guest_finished = self.far_finished = False
        upstream.streams[self] = None

    def pump(self) -> bool:
        dice = self._dice
        if not self.is_open:
            return False
        if dice.random() < 0.7 and len(self._rx):
            self._rx.consume(dice.randrange(1, len(self._rx) + 1))
        if dice.random() < 0.5 and not self.far_finished:
            self._tx.write(bytes(dice.choice((1, 10, 1000, 70_000))))
        return dice.random() < 0.1

    def shutdown(self) -> None:
        self.guest_finished = True
        if self.far_finished:  # then a stream lets its socket go by itself
            self.abort()

    def unsent(self) -> int:
        return self._dice.choice((0, 0, 5))

    def abort(self) -> None:
        self._upstream.streams.pop(self, None)
        self.is_open = False

    def act(self) -> None:
        whim = self._dice.randrange(12)
        if not self.is_open:
            if whim < 6:
                self.is_open = True
                self._owner.connected()
            elif whim < 9:
                self.abort()
                self._owner.refused(self._dice.choice(REFUSALS))
        elif whim < 6:
            self._owner.moved()
        elif whim == 6 and not self.far_finished:
            self.finish()
        elif whim == 7:
            self.abort()
            self._owner.broken()

    def finish(self) -> None:
        self.far_finished = True
        self._owner.eof()
        if self.guest_finished:
            self.abort()


class WhimsicalDatagrams:
    def __init__(self, upstream: WhimsicalUpstream, owner: DatagramOwner) -> None:
        self._upstream, self._dice, self._owner = upstream, upstream.dice, owner
        self._sent: list[tuple[bytes, int]] = []
        upstream.datagrams[self] = None

    def admits(self, address: bytes) -> Refusal | None:
        return self._dice.choice((None, None, None, Refusal.TIMED_OUT))

    def send(self, address: bytes, port: int, payload: memoryview, may_fragment: bool) -> Refusal | None:
        self._sent = [*self._sent, (address, port)][-LAST_SENT:]
        whim = self._dice.randrange(8)
        if whim == 0:
            return self._dice.choice(REFUSALS)
        if whim == 1:
            self._owner.unreachable(address, port, self._dice.choice(REFUSALS))
        elif whim == 2:
            self._owner.too_big(address, port, self._dice.choice(MTUS))
        return None

    def act(self) -> None:
        if not self._sent:
            return
        dice = self._dice
        address, port = dice.choice(self._sent)
        if dice.random() < 0.2:
            address = dice.randbytes(len(address))
        whim = dice.randrange(4)
        if whim < 2:
            payload = memoryview(bytes(dice.choice(SIZES)))
            self._owner.arrived(address, dice.choice((port, 0, 65_535)), payload)
        elif whim == 2:
            self._owner.unreachable(address, port, dice.choice(REFUSALS))
        else:
            self._owner.too_big(address, port, dice.choice(MTUS))

    def close(self) -> None:
        self._upstream.datagrams.pop(self, None)


class WhimsicalUpstream:
    """`act` once a turn. `streams` and `datagrams` are those that are alive."""

    takes_onions = False
    takes_ipv6 = takes_datagrams = needs_routing = True

    def __init__(self, dice: random.Random, *, takes_names: bool) -> None:
        self.dice = dice
        self.takes_names = takes_names
        self.streams: dict[WhimsicalStream, None] = {}
        self.datagrams: dict[WhimsicalDatagrams, None] = {}
        self._asked: list[tuple[str, Callable[[Resolution], None]]] = []
        self.opened = 0

    def open_stream(self, target: Target, rx: Ring, tx: Ring, owner: StreamOwner) -> WhimsicalStream:
        assert not (target.address and target.name)
        self.opened += 1
        return WhimsicalStream(self, rx, tx, owner)

    def open_datagrams(self, family: int, owner: DatagramOwner) -> WhimsicalDatagrams:
        if self.dice.random() < 0.05:
            raise OSError(errno.EMFILE, "too many")
        return WhimsicalDatagrams(self, owner)

    def resolve(self, name: bytes, kind: str, done: Callable[[Resolution], None]) -> None:
        self._asked.append((kind, done))

    def act(self) -> None:
        dice = self.dice
        for stream in list(self.streams):
            if dice.random() < 0.3:
                stream.act()
        for datagrams in list(self.datagrams):
            if dice.random() < 0.1:
                datagrams.act()
        while self._asked and dice.random() < 0.7:
            kind, done = self._asked.pop(dice.randrange(len(self._asked)))
            width = WIDTHS.get(kind)
            answers = (
                dice.randbytes(width) if width else dice.choice(NAMES) for _ in range(dice.randrange(40))
            )
            done(Resolution(tuple(answers), dice.choice((0, 60, 1 << 33)), dice.random() < 0.2))

    def close(self) -> None:
        self.streams.clear()
        self.datagrams.clear()
