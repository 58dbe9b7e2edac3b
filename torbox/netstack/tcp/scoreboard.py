# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guest has reported to hold beyond SND.UNA, RFC 2018, and what follows from it, RFC 6675.

    SND.UNA                                                  SND.MAX
       │   hole    [ block )   hole    [ block ) [ block )      │
       │◄───────── lost ──────►│◄── not known to be lost yet ──►│
                           lost_edge

Blocks are distances from a fixed origin, so that sequence numbers need not wrap in comparisons; sorted,
without overlap, never touching. An acknowledgement brings four at most, each is two bisections, and
sums run in C over MAX_BLOCKS at most: whatever a guest reports, an acknowledgement costs microseconds.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from torbox.netstack.tcp.sequence import MASK, distance

MAX_BLOCKS = 256  # a window of 1 MiB in Ethernet-sized segments at 30 % loss makes about 150
DUPLICATE_THRESHOLD = 3  # RFC 6675 §2, DupThresh
REBASE = 1 << 28  # bytes; the origin follows a board that never empties before distances could wrap


class Scoreboard:
    """`refused` counts blocks beyond the bound: what they hold is sent again, which is only slower."""

    __slots__ = ("_ends", "_origin", "_starts", "refused")

    def __init__(self, una: int) -> None:
        self._origin = una
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.refused = 0

    def __bool__(self) -> bool:  # compiled, an object has no truth but this
        return bool(self._starts)

    def __len__(self) -> int:
        return len(self._starts)

    def blocks(self) -> list[tuple[int, int]]:
        """Start and end of each block, as sequence numbers."""
        origin = self._origin
        pairs = zip(self._starts, self._ends, strict=True)
        return [((origin + start) & MASK, (origin + end) & MASK) for start, end in pairs]

    def report(self, una: int, snd_max: int, blocks: Iterable[tuple[int, int]]) -> bool:
        """Take the blocks of an acknowledgement; true if one told something new.

        A block is believed between SND.UNA and SND.MAX only: below it is a D-SACK (RFC 2883), else nonsense.
        """
        if not self._starts:
            self._origin = una
        low = distance(self._origin, una)
        high = distance(self._origin, snd_max)
        news = False
        for left, right in blocks:
            start, end = distance(self._origin, left), distance(self._origin, right)
            if low <= start < end <= high and self._add(start, end):
                news = True
        return news

    def _add(self, start: int, end: int) -> bool:
        starts, ends = self._starts, self._ends
        first = bisect_left(ends, start)  # the first block that it touches, or the place for it
        last = bisect_right(starts, end)  # behind the last that it touches
        if first == last:
            if len(starts) >= MAX_BLOCKS:
                self.refused += 1
                return False
        else:
            if starts[first] <= start and end <= ends[first]:
                return False
            start, end = min(start, starts[first]), max(end, ends[last - 1])
        starts[first:last] = [start]
        ends[first:last] = [end]
        return True

    def acknowledge(self, una: int) -> None:
        """Everything before `una` has arrived."""
        low = distance(self._origin, una)
        count = bisect_right(self._ends, low)
        if count:
            del self._starts[:count], self._ends[:count]
        if self._starts and self._starts[0] < low:
            self._starts[0] = low
        if low > REBASE:
            self._starts = [start - low for start in self._starts]
            self._ends = [end - low for end in self._ends]
            self._origin = una

    def clear(self) -> None:
        """Believe nothing any more: after all, a receiver may take back what it reported, RFC 2018 §8."""
        self._starts.clear()
        self._ends.clear()

    def holds(self, seq: int) -> bool:
        """Whether the byte at `seq` was reported."""
        position = distance(self._origin, seq)
        index = bisect_right(self._starts, position)
        return index > 0 and position < self._ends[index - 1]

    def hole(self, seq: int, snd_max: int) -> tuple[int, int]:
        """Where the first bytes at or after `seq` lie that were not reported, and how many; 0 at SND.MAX."""
        position = distance(self._origin, seq)
        index = bisect_right(self._starts, position)
        if index and position < self._ends[index - 1]:
            position = self._ends[index - 1]
        end = self._starts[index] if index < len(self._starts) else distance(self._origin, snd_max)
        return (self._origin + position) & MASK, end - position

    def below(self, seq: int) -> int:
        """How many bytes were reported before `seq`."""
        position = distance(self._origin, seq)
        index = bisect_left(self._starts, position)
        if not index:
            return 0
        size = sum(self._ends[:index]) - sum(self._starts[:index])
        return size - max(self._ends[index - 1] - position, 0)

    @property
    def total(self) -> int:
        """How many bytes were reported."""
        return sum(self._ends) - sum(self._starts)

    @property
    def highest(self) -> int:
        """The end of the last block; there must be one."""
        return (self._origin + self._ends[-1]) & MASK

    def lost_edge(self, una: int, mss: int) -> int:
        """IsLost() of RFC 6675 §4: what was not reported before this is taken for lost.

        Three blocks lie behind it, or more than two segments' worth of bytes: never more than three steps.
        """
        size = 0
        for index in range(len(self._starts) - 1, -1, -1):
            size += self._ends[index] - self._starts[index]
            if size > (DUPLICATE_THRESHOLD - 1) * mss or len(self._starts) - index == DUPLICATE_THRESHOLD:
                return (self._origin + self._starts[index]) & MASK
        return una
