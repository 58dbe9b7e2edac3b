# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections whose SYN came and that are not open yet: two bounded tables, and who gives way in them.

A SYN waits for its upstream, which may take two minutes to say nothing; a program may open thousands of
such at once (a port scanner does), beside another that wants one connection. Were newcomers turned away
at the bound, that other one would wait for the flood to end. So at the bound, by destination (an address and
a port):

    the newcomer's is known, somebody was connected    it comes in, unless there are SHARE attempts already
    it is not known, but there is an attempt already   it is dropped: a flood at one place harms itself
    it is not known                                    it comes in at REPLACED_PER_S: for each that gives way
                                                       an upstream has worked in vain, and is slower to
                                                       others. A SYN that was dropped and comes again
                                                       goes first: a kernel's does after a second, and
                                                       of a flood of forged ones each is another. Who says
                                                       each twice competes with the honest ones

and for it goes the oldest of the destination that has the most, if that is more than SHARE; else the oldest
to a destination that was not known when it came; else the oldest. Known is where the guest took an answer,
which nobody does for a forged SYN.

Those that were answered wait for the guest's acknowledgement alone, which may lie behind thousands of SYNs
in the tun's queue; so they do not make room for SYNs, but have a table of their own. It fills when somebody
closes each socket right after its connect(2), at a place that answers at once, or forges SYNs to such
places. For each that is answered beyond the bound one gives way, in the same order.

Who gives way or is dropped is not told. A kernel repeats its SYN, and that is a new attempt. Everything is
O(1) for each SYN: the destinations stand in ranks by how many they have.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterator
from itertools import chain

from torbox.netstack.tcp.connection import TcpConnection

SHARE = 64  # attempts at one destination that nobody may call a flood; a browser makes 6 to 30
REPLACED_PER_S = 1000.0  # so that each of 2,048 lives for two seconds; Tor mostly connects in one
REPLACED_BURST = 1000.0
RESERVED = REPLACED_BURST / 2  # of those, for SYNs that come again
REMEMBERED = 1 << 17  # SYNs dropped; 512 KiB, and twice what a flood brings until one comes again
KNOWN_MAX = 1024  # destinations; about 200 KiB. A browser's day has some hundred

Destination = tuple[bytes, int]


class _Table:
    """Connections, the oldest first, and by destination; those stand in ranks by how many they have.

    Ordered, since what leaves a plain dict at its front is stepped over ever after to find the next.
    """

    __slots__ = ("_by_destination", "_most", "_ranks", "_strange", "connections")

    def __init__(self) -> None:
        self.connections: OrderedDict[TcpConnection, None] = OrderedDict()
        self._strange: OrderedDict[TcpConnection, None] = OrderedDict()  # those to where nobody was connected
        self._most = 0  # of one destination
        self._by_destination: dict[Destination, OrderedDict[TcpConnection, None]] = {}
        self._ranks: dict[int, OrderedDict[Destination, None]] = {}

    def add(self, connection: TcpConnection, destination: Destination, is_known: bool) -> None:
        if not is_known:
            self._strange[connection] = None
        there = self._by_destination.get(destination)
        if there is None:
            there = self._by_destination[destination] = OrderedDict()
        self.connections[connection] = there[connection] = None
        count = len(there)
        self._move(destination, count - 1, count)
        if count > self._most:
            self._most = count

    def remove(self, connection: TcpConnection, destination: Destination) -> None:
        del self.connections[connection]
        self._strange.pop(connection, None)
        there = self._by_destination[destination]
        del there[connection]
        count = len(there)
        if not count:
            del self._by_destination[destination]
        self._move(destination, count + 1, count)
        if self._most not in self._ranks:
            self._most -= 1  # the one that left the highest rank is in the next, if it has any left

    def _move(self, destination: Destination, old: int, new: int) -> None:
        if old:
            rank = self._ranks[old]
            del rank[destination]
            if not rank:
                del self._ranks[old]
        if new:
            higher = self._ranks.get(new)
            if higher is None:
                higher = self._ranks[new] = OrderedDict()
            higher[destination] = None

    def count(self, destination: Destination) -> int:
        return len(self._by_destination.get(destination, ()))

    def first_to_go(self) -> TcpConnection:
        """StopIteration if there is none."""
        if self._most > SHARE:
            crowded = next(iter(self._ranks[self._most]))
            return next(iter(self._by_destination[crowded]))
        return next(iter(self._strange or self.connections))


class HalfOpen:
    """Two tables. `count` is the length of both, for who asks often."""

    __slots__ = ("_answered", "_dropped", "_known", "_seen", "_tokens", "_waiting", "count")

    def __init__(self) -> None:
        self.count = 0
        self._answered = _Table()
        self._waiting = _Table()
        self._known: OrderedDict[Destination, None] = OrderedDict()  # least recently connected to first
        self._dropped = array("I")  # by some bits of a SYN's hash, some others; made when it is needed
        self._tokens = REPLACED_BURST
        self._seen = 0.0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[TcpConnection]:
        return chain(self._waiting.connections, self._answered.connections)

    def __contains__(self, connection: object) -> bool:
        return connection in self._waiting.connections or connection in self._answered.connections

    @property
    def waiting(self) -> int:
        """How many wait for their upstream."""
        return len(self._waiting.connections)

    @property
    def answered(self) -> int:
        """How many wait for the guest's acknowledgement."""
        return len(self._answered.connections)

    def add(self, connection: TcpConnection) -> None:
        destination = _destination(connection)
        self.count += 1
        self._waiting.add(connection, destination, destination in self._known)

    def answer(self, connection: TcpConnection) -> None:
        """Its SYN was answered, so its destination is there. One that does not wait is ignored."""
        if connection not in self._waiting.connections:
            return
        destination = _destination(connection)
        self._waiting.remove(connection, destination)
        self._answered.add(connection, destination, destination in self._known)

    def opened(self, connection: TcpConnection) -> None:
        """The guest acknowledged the answer. One that was not answered is ignored."""
        if connection not in self._answered.connections:
            return
        self.discard(connection)
        destination = _destination(connection)
        self._known[destination] = None
        self._known.move_to_end(destination)
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    def discard(self, connection: TcpConnection) -> None:
        """It is gone. One that is not here is ignored."""
        if connection in self._answered.connections:
            self._answered.remove(connection, _destination(connection))
            self.count -= 1
        elif connection in self._waiting.connections:
            self._waiting.remove(connection, _destination(connection))
            self.count -= 1

    def admits(self, name: bytes, seq: int, destination: Destination, now: float) -> bool:
        """Whether a newcomer may replace one that waits; `name` and `seq` are its SYN's ends and number."""
        attempts = self._waiting.count(destination)
        if destination in self._known:
            return attempts < SHARE
        if attempts:
            return False
        self._tokens = min(self._tokens + (now - self._seen) * REPLACED_PER_S, REPLACED_BURST)
        self._seen = now
        if self._tokens < 1 + RESERVED and not (self._was_dropped(name, seq) and self._tokens >= 1):
            return False
        self._tokens -= 1
        return True

    def _was_dropped(self, name: bytes, seq: int) -> bool:
        """Whether this very SYN was dropped lately; from now on it was.

        The hash has a key of this process's own, so nobody can aim at the place of another's.
        """
        if not self._dropped:
            self._dropped = array("I", bytes(4 * REMEMBERED))
        mixed = hash((name, seq))
        place, rest = mixed % REMEMBERED, (mixed >> 32) & 0xFFFFFFFF
        if self._dropped[place] == rest:
            return True
        self._dropped[place] = rest
        return False

    def next_waiting(self) -> TcpConnection:
        """Of those that wait, the one that a newcomer is to replace. StopIteration if there is none."""
        return self._waiting.first_to_go()

    def next_answered(self) -> TcpConnection:
        """Of those that were answered, the one that another is to replace. StopIteration if there is none."""
        return self._answered.first_to_go()


def _destination(connection: TcpConnection) -> Destination:
    key = connection.key
    return key.remote_address, key.remote_port
