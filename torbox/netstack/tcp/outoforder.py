# SPDX-License-Identifier: GPL-3.0-or-later
"""Text that came before its turn, RFC 9293 §3.10.7.4: kept, bounded, until the gap before it is filled.

Pieces stay as they came, sorted and without overlap; joining them would let a guest that sends single
bytes make each one copy all those before it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from torbox.netstack.ring import RingPool
from torbox.netstack.tcp.sequence import MASK, distance

MAX_PIECES = 1024  # a window of 1 MiB in Ethernet-sized segments is 719 of them
MANY = 8  # pieces; fewer are stepped over faster than what covers them is copied
PIECE_COST = 80  # bytes a piece takes beside its own: CPython's objects for it and for where it starts
REBASE = 1 << 28  # bytes; the origin follows a queue that never empties before distances could wrap


class OutOfOrder:
    """Pieces by their distance from a fixed origin, so that sequence numbers need not wrap in comparisons."""

    __slots__ = ("_origin", "_pieces", "_pool", "_starts", "size")

    def __init__(self, pool: RingPool) -> None:
        self._pool = pool  # whose limit counts these bytes too
        self._origin = 0
        self._starts: list[int] = []  # of each piece, in bytes after the origin
        self._pieces: list[bytes] = []
        self.size = 0  # bytes held

    def __bool__(self) -> bool:  # compiled, an object has no truth but this
        return bool(self._pieces)

    def __len__(self) -> int:
        return len(self._pieces)

    def _added(self, size: int) -> None:
        self.size += size
        self._pool.charge(size + PIECE_COST)

    def _removed(self, size: int) -> None:
        self.size -= size
        self._pool.charge(-size - PIECE_COST)

    def clear(self) -> None:
        for piece in self._pieces:
            self._removed(len(piece))
        self._starts.clear()
        self._pieces.clear()

    def put(self, nxt: int, seq: int, data: memoryview) -> bool:
        """Keep what of `data` is not there yet; false when not all could be. `nxt` is RCV.NXT."""
        if not self._pieces:
            self._origin = nxt
        start = distance(self._origin, seq)
        end = start + len(data)
        index = bisect_right(self._starts, start)
        if index:
            start = max(start, self._starts[index - 1] + len(self._pieces[index - 1]))
        self._make_way(index, start, end)
        while start < end:
            stop = min(end, self._starts[index]) if index < len(self._starts) else end
            if start < stop:
                if len(self._pieces) >= MAX_PIECES:
                    return False
                # The guest sends it again; so this is no need, and leaves half of the pool to newcomers.
                if not self._pool.grants(stop - start + PIECE_COST, growth=True):
                    return False
                offset = start - distance(self._origin, seq)
                self._starts.insert(index, start)
                self._pieces.insert(index, bytes(data[offset : offset + stop - start]))
                self._added(stop - start)
                index += 1
            if index == len(self._starts):
                break
            start = max(start, self._starts[index] + len(self._pieces[index]))
            index += 1
        return True

    def _make_way(self, index: int, start: int, end: int) -> None:
        """Give up the pieces from `index` on that lie between `start` and `end`, if they are many.

        What comes holds them all, and is kept as one instead. Otherwise a segment over a thousand single
        bytes, sent again and again, would walk along all of them each time.
        """
        last = bisect_left(self._starts, end, index)
        if last > index and self._starts[last - 1] + len(self._pieces[last - 1]) > end:
            last -= 1
        if last - index < MANY or not self._pool.grants(end - start + PIECE_COST, growth=True):
            return
        for piece in self._pieces[index:last]:
            self._removed(len(piece))
        del self._starts[index:last], self._pieces[index:last]

    def take(self, nxt: int) -> list[memoryview]:
        """The pieces that are in order now that RCV.NXT is `nxt`, without what is old of them."""
        position = distance(self._origin, nxt)
        ready: list[memoryview] = []
        count = 0
        for start, piece in zip(self._starts, self._pieces, strict=True):
            if start > position:
                break
            count += 1
            self._removed(len(piece))
            if start + len(piece) > position:
                ready.append(memoryview(piece)[position - start :])
                position = start + len(piece)
        del self._starts[:count], self._pieces[:count]
        if position > REBASE:
            self._starts = [at - position for at in self._starts]
            self._origin = (self._origin + position) & MASK
        return ready
