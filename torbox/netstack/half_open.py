# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections whose SYN came and that are not open yet: a bounded table, and who gives way at its bound.

A SYN waits here for its upstream, which may take two minutes to say nothing; a program may open thousands
of such at once (a port scanner does), beside another that wants one connection. Were newcomers turned away
at the bound, that other one would wait for the flood to end. So the oldest gives way instead:

    of the destination that has the most, if that is more than SHARE     a flood at one address harms itself
    of all, otherwise                                                    a flood at many: who connects within
                                                                         the time MAX_HALF_OPEN need lives

It goes without a word. A kernel that still wants it repeats its SYN, and that is a new attempt. Everything
is O(1) for each SYN: the destinations stand in ranks by how many they have.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from torbox.netstack.tcp.connection import TcpConnection

SHARE = 64  # attempts at one destination that nobody may call a flood; a browser makes 6 to 30


class HalfOpen:
    """An ordered set of connections, the oldest first; `limit` is the caller's to keep."""

    __slots__ = ("_all", "_by_destination", "_most", "_ranks")

    def __init__(self) -> None:
        self._all: OrderedDict[TcpConnection, None] = OrderedDict()
        self._by_destination: dict[bytes, OrderedDict[TcpConnection, None]] = {}
        self._ranks: dict[int, dict[bytes, None]] = {}  # by how many attempts each of them has
        self._most = 0

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[TcpConnection]:
        return iter(self._all)

    def __contains__(self, connection: object) -> bool:
        return connection in self._all

    def add(self, connection: TcpConnection) -> None:
        destination = connection.key.remote_address
        attempts = self._by_destination.setdefault(destination, OrderedDict())
        self._all[connection] = attempts[connection] = None
        count = len(attempts)
        self._move(destination, count - 1, count)
        if count > self._most:
            self._most = count

    def discard(self, connection: TcpConnection) -> None:
        """It is open, or gone. One that is not here is ignored."""
        if connection not in self._all:
            return
        del self._all[connection]
        destination = connection.key.remote_address
        attempts = self._by_destination[destination]
        del attempts[connection]
        count = len(attempts)
        if not count:
            del self._by_destination[destination]
        self._move(destination, count + 1, count)
        if self._most not in self._ranks:
            self._most -= 1  # the one that left the highest rank is in the next, if it has any left

    def _move(self, destination: bytes, old: int, new: int) -> None:
        if old:
            rank = self._ranks[old]
            del rank[destination]
            if not rank:
                del self._ranks[old]
        if new:
            self._ranks.setdefault(new, {})[destination] = None

    def who_gives_way(self) -> TcpConnection:
        """The connection that a newcomer is to replace. StopIteration if there is none."""
        if self._most > SHARE:
            return next(iter(self._by_destination[next(iter(self._ranks[self._most]))]))
        return next(iter(self._all))
