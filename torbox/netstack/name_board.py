# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the workers of one sandbox post the names that their addresses stand for, for each other to read.

A guest asks for a name through one queue of its tun and may connect to its address through another, whose
worker is another process. So each worker has a share of the addresses to give out, writes what they mean
into memory that all of them see, and reads there what it did not give out itself:

    heads   one word an index      checksum | slot | length, all zero: stands for no name
    used    one byte an index      1: another worker has read it since its owner last looked
    slots   256 bytes a name       the name; each worker has as many as it may have names

A word and a slot have one writer, the worker whose share they are in; anybody may set a byte of `used`.
There is no lock, and a reader still gets the right name or none:

- a name is written first and its head last, and the head is emptied before the slot is used again;
- a reader looks at the head, copies the name, and looks at the head again: if it is the same, nobody has
  touched the slot in between, on a machine whose stores are seen in order (x86);
- and the head has the name's checksum, so a copy that is half of one and half of another is recognised
  on a machine that makes no such promise.

It relies on one thing of the machine: that an aligned word of 64 bits is written and read in one piece.
Nothing here knows addresses or decides what is forgotten; that is name_pool's.
"""

from __future__ import annotations

import mmap
from binascii import crc32

NAMES_MAX = 8192  # names that one worker may have, about 3 MB; a browser looks up some hundred a day
INDEXES = 512 * 254  # addresses: those of 198.18.0.0/15 whose last octet is neither 0 nor 255
RESERVE = 8  # times as many addresses as names in each share, so that a forgotten one rests for long
SLOT_SIZE = 256  # bytes; a name has 253 at most
TRIES = 3  # readings of one head; it changes at most once in the time of several


class NameBoard:
    """Memory for `parts` workers, made before they are forked: 1.2 MB and 256 bytes a name, once touched."""

    def __init__(self, parts: int, indexes: int = INDEXES) -> None:
        if not 0 < parts <= indexes // RESERVE:
            raise ValueError(f"{indexes} addresses cannot be shared by {parts}")
        self.span = indexes // parts  # addresses of each part
        self.limit = min(NAMES_MAX, self.span // RESERVE)  # names of each part
        self._memory = memoryview(mmap.mmap(-1, indexes * 9 + parts * self.limit * SLOT_SIZE))
        self._heads = self._memory[: indexes * 8].cast("Q")
        self._used = self._memory[indexes * 8 : indexes * 9]
        self._slots = self._memory[indexes * 9 :]

    def read(self, index: int) -> bytes | None:
        """What an index stands for, and note that it is in use; None if for no name."""
        for _ in range(TRIES):
            head = self._heads[index]
            if not head:
                return None
            at = (head >> 8 & 0xFFFFFF) * SLOT_SIZE
            name = bytes(self._slots[at : at + (head & 0xFF)])
            if self._heads[index] == head and crc32(name) == head >> 32:
                self._used[index] = 1
                return name
        return None

    def section(self, part: int) -> Section:
        """The writer's end of one part, for one worker alone."""
        return Section(self, part, self._heads, self._used, self._slots)


class Section:
    """One worker's share: indexes from `first` on, `span` of them, for `limit` names."""

    def __init__(
        self,
        board: NameBoard,
        part: int,
        heads: memoryview[int],
        used: memoryview[int],
        slots: memoryview[int],
    ) -> None:
        self.board = board
        self.first = part * board.span
        self.span = board.span
        self.limit = board.limit
        self._heads = heads
        self._used = used
        self._slots = slots
        self._free = list(range((part + 1) * board.limit - 1, part * board.limit - 1, -1))

    def post(self, index: int, name: bytes) -> None:
        """An index of ours, which stood for no name, now stands for this one of 1 to 253 bytes."""
        slot = self._free.pop()
        self._slots[slot * SLOT_SIZE : slot * SLOT_SIZE + len(name)] = name
        self._used[index] = 0
        self._heads[index] = crc32(name) << 32 | slot << 8 | len(name)

    def withdraw(self, index: int) -> None:
        """An index of ours stands for no name any more."""
        slot = self._heads[index] >> 8 & 0xFFFFFF
        self._heads[index] = 0
        self._free.append(slot)

    def take_use(self, index: int) -> bool:
        """Whether another worker has read it since we last asked."""
        used = self._used[index] != 0
        if used:
            self._used[index] = 0
        return used
