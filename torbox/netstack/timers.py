# SPDX-License-Identifier: GPL-3.0-or-later
"""The deadlines of all connections: a heap whose entries are allowed to be out of date.

A deadline moves with almost every segment, nearly always to later. So an entry stays where it is and is
looked at again when it comes up; only a deadline that moved to earlier gets a new one. Entries of
connections that are gone are emptied at once (they hold no memory but their own) and swept out when they
are the majority.
"""

from __future__ import annotations

import heapq
import math
from itertools import count

from torbox.netstack.tcp.connection import TcpConnection

DUE_MAX = 512  # connections seen to in one turn, some milliseconds; a guest can make all theirs due at once
SWEEP_AT = 1024  # dead entries; below that a sweep costs more than they do


class _Entry:
    """Where a connection stands in the heap; no connection: it left."""

    __slots__ = ("connection", "when")

    def __init__(self, when: float, connection: TcpConnection) -> None:
        self.when = when
        self.connection: TcpConnection | None = connection


class Timers:
    """`deadline` is the earliest, in seconds; it may be early, never late."""

    __slots__ = ("_dead", "_heap", "_order")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, _Entry]] = []
        self._order = count()
        self._dead = 0

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def deadline(self) -> float:
        return self._heap[0][0] if self._heap else math.inf

    def schedule(self, connection: TcpConnection) -> None:
        """The connection's deadline may have changed."""
        when = connection.deadline
        entry = connection.scheduled
        if entry is None:
            if when == math.inf:
                return
        elif entry.when <= when:
            return
        else:
            self._bury(entry)
        connection.scheduled = entry = _Entry(when, connection)
        heapq.heappush(self._heap, (when, next(self._order), entry))

    def forget(self, connection: TcpConnection) -> None:
        if connection.scheduled is not None:
            self._bury(connection.scheduled)
            connection.scheduled = None

    def _bury(self, entry: _Entry) -> None:
        entry.connection = None
        self._dead += 1
        if self._dead > SWEEP_AT and 2 * self._dead > len(self._heap):
            self._heap = [item for item in self._heap if item[2].connection is not None]
            heapq.heapify(self._heap)
            self._dead = 0

    def due(self, now: float) -> list[TcpConnection]:
        """The connections whose time has come, but no more than DUE_MAX of them.

        Each is scheduled again after it was seen to. While some are left, `deadline` has gone by.
        """
        ready: list[TcpConnection] = []
        heap = self._heap
        while heap and heap[0][0] <= now and len(ready) < DUE_MAX:
            connection = heapq.heappop(heap)[2].connection
            if connection is None:
                self._dead -= 1
                continue
            connection.scheduled = None
            if connection.deadline <= now:
                ready.append(connection)
            else:
                self.schedule(connection)
        return ready
