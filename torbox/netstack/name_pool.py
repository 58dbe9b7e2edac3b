# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses that stand for names: what a guest gets when names are to leave unresolved.

The guest asks for a name and gets an address of a reserved range; when it connects there, the
connection goes out by the name. IPv4 uses 198.18.0.0/15 (RFC 2544: for benchmarks, so nobody's),
IPv6 a /64 of torbox's own (RFC 4193). One index serves both, and the IPv6 address ends in the IPv4
one, so that both are recognised at sight:

    example.com    198.18.0.1    fd00:746f:7262:6f78::c612:1     (74 6f 72 62 6f 78 is "torbox")

The pool forgets the name that was used least recently. A program may hold on to an address for
longer than its TTL, so indexes are given out in turn and a forgotten one comes back only after all
others have been: it then means no name for a while, and a connection there fails, instead of
meaning another name, when it would go to the wrong place.

Where several workers serve one sandbox, each has a pool with a share of the indexes, and they tell one
another by a NameBoard. A name that was asked for through two of them has two addresses then, which
both mean it. What another worker has used gets a second chance when its turn to be forgotten comes.
"""

from __future__ import annotations

from collections import OrderedDict

from torbox.netstack.name_board import INDEXES, NAMES_MAX, Section

POOL6_PREFIX = bytes.fromhex("fd00746f72626f78") + bytes(4)  # the last four bytes are the IPv4 address
HOSTS_PER_NET = 254  # the last octet runs from 1 to 254: some programs think .0 and .255 special


class NamePool:
    """A bounded two-way map of lower-case names and addresses. A family is 4 or 6.

    `section` is this worker's share of a board, if there are others, and brings its own limit.
    """

    def __init__(self, limit: int = NAMES_MAX, section: Section | None = None) -> None:
        if section is not None:
            limit = section.limit
            self._first, self._end = section.first, section.first + section.span
        else:
            self._first, self._end = 0, INDEXES
        if not 0 < limit < self._end - self._first:
            raise ValueError(f"a pool holds 1 to {self._end - self._first - 1} names, not {limit}")
        self.limit = limit
        self._section = section
        self._index_of: OrderedDict[bytes, int] = OrderedDict()  # least recently used first
        self._name_of: dict[int, bytes] = {}
        self._next = self._first
        self.forgotten = 0  # names, for others

    def __len__(self) -> int:
        return len(self._index_of)

    def address_for(self, name: bytes, family: int) -> bytes:
        """The packed address that stands for `name`, 4 or 16 bytes; the same for each later call."""
        name = name.lower()
        index = self._index_of.get(name)
        if index is None:
            index = self._take_index()
            self._index_of[name] = index
            self._name_of[index] = name
            if self._section is not None:
                self._section.post(index, name)
        else:
            self._index_of.move_to_end(name)
        address4 = _address4(index)
        return address4 if family == 4 else POOL6_PREFIX + address4

    def name_of(self, address: bytes) -> bytes | None:
        """The name that a packed address stands for; None if it stands for none (any more)."""
        index = _index(address)
        if index is None:
            return None
        name = self._name_of.get(index)
        if name is not None:
            self._index_of.move_to_end(name)  # what is connected to is in use
        elif self._section is not None:
            return self._section.board.read(index)
        return name

    def contains(self, address: bytes) -> bool:
        """Whether a packed address is of the reserved ranges, standing for a name or not."""
        if len(address) == 16:
            return address[:8] == POOL6_PREFIX[:8]
        return address[0] == 198 and address[1] in (18, 19)

    def _take_index(self) -> int:
        if len(self._index_of) >= self.limit:
            self._forget_one()
        index = self._next
        while index in self._name_of:
            index = self._behind(index)
        self._next = self._behind(index)
        return index

    def _behind(self, index: int) -> int:
        return index + 1 if index + 1 < self._end else self._first

    def _forget_one(self) -> None:
        section = self._section
        if section is not None:
            for _ in range(self.limit):  # once around, should others use them faster than we look
                name, index = next(iter(self._index_of.items()))
                if not section.take_use(index):
                    break
                self._index_of.move_to_end(name)
        _, forgotten = self._index_of.popitem(last=False)
        del self._name_of[forgotten]
        self.forgotten += 1
        if section is not None:
            section.withdraw(forgotten)


def _address4(index: int) -> bytes:
    net, host = divmod(index, HOSTS_PER_NET)
    return bytes((198, 18 + (net >> 8), net & 0xFF, host + 1))


def _index(address: bytes) -> int | None:
    if len(address) == 16:
        if address[:12] != POOL6_PREFIX:
            return None
        address = address[12:]
    if address[0] != 198 or address[1] not in (18, 19) or address[3] in (0, 255):
        return None
    return ((address[1] - 18) << 8 | address[2]) * HOSTS_PER_NET + address[3] - 1
