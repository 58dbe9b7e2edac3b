# SPDX-License-Identifier: GPL-3.0-or-later
"""A bounded queue of bytes: what TCP and an upstream have between them, and their only contract.

    write(data) / writable(n), commit(n)  ─►  [ storage, wraps around ]  ─►  peek(offset, n), consume(n)

An empty ring owns no storage: ten thousand idle connections hold no buffers. Storage is lent by a
pool in sizes that grow from `initial` to `limit`, and goes back as soon as the last byte is
consumed; so a bulk flow gets the same warm pages again and again. The pool also bounds what all
rings hold together: past half of its limit rings no longer grow, past all of it `free` is zero,
which TCP announces as a closed window.

A ring remembers how full it was the last time: a bulk flow fills it anew each turn, and to grow its
storage from the start each time would copy most bytes twice.

Views are borrowed: those of `peek` and `writable` are valid until the next call that changes the ring.
"""

from __future__ import annotations

RING_LIMIT = 1 << 20  # bytes a ring can hold: 64 KiB packets, a turn's worth; 80 Mbit/s at 100 ms
RING_LEAST = 1 << 9  # bytes of the smallest storage: a short request, waiting for its acknowledgement
RING_INITIAL = 1 << 12  # bytes that a ring may have however little there is for all
RING_SECOND = 1 << 16  # bytes of its next: a super-packet; from there on it doubles
POOL_LIMIT = 256 << 20  # bytes in all rings of a process: 128 bulk flows full both ways
POOL_SPARE = 8 << 20  # bytes kept for re-use; allocating 1 MiB afresh costs 256 page faults


class RingPool:
    """Lends storage and counts what is out. `lent` and `spare` are in bytes."""

    __slots__ = ("_shelves", "lent", "limit", "spare", "spare_limit")

    def __init__(self, limit: int = POOL_LIMIT, spare_limit: int = POOL_SPARE) -> None:
        self.limit = limit
        self.spare_limit = spare_limit
        self.lent = 0
        self.spare = 0
        self._shelves: dict[int, list[memoryview]] = {}

    def grants(self, size: int, instead_of: int = 0, *, growth: bool = False) -> bool:
        """Whether `size` bytes may be had for `instead_of` bytes that come back; `growth` is not a need."""
        ceiling = self.limit // 2 if growth else self.limit
        return self.lent - instead_of + size <= ceiling

    def charge(self, size: int) -> None:
        """Count bytes that are held elsewhere, or with a negative size no longer: text out of order."""
        self.lent += size

    def take(self, size: int) -> memoryview:
        self.lent += size
        shelf = self._shelves.get(size)
        if shelf:
            self.spare -= size
            return shelf.pop()
        return memoryview(bytearray(size))

    def give_back(self, storage: memoryview) -> None:
        size = len(storage)
        self.lent -= size
        if self.spare + size <= self.spare_limit:
            self.spare += size
            self._shelves.setdefault(size, []).append(storage)


POOL = RingPool()
NOWHERE = memoryview(bytearray())


class Ring:
    """`more`: the writer knows of further bytes and will come back in the next turn, with or without them."""

    __slots__ = ("_capacity", "_head", "_hint", "_size", "_storage", "initial", "limit", "more", "pool")

    def __init__(self, limit: int = RING_LIMIT, initial: int = RING_INITIAL, pool: RingPool = POOL) -> None:
        self.limit = limit
        self.initial = min(initial, limit)
        self.more = False
        self.pool = pool
        self._storage = NOWHERE
        self._capacity = 0
        self._head = 0
        self._hint = RING_LEAST  # bytes of storage to begin with the next time
        self._size = 0

    def __del__(self) -> None:
        self.clear()  # bytes that nobody read in the end

    def __bool__(self) -> bool:  # compiled, an object has no truth but this
        return bool(self._size)

    def __len__(self) -> int:
        return self._size

    @property
    def storage(self) -> int:
        """How much the pool has lent to this ring, in bytes."""
        return self._capacity

    @property
    def free(self) -> int:
        """How many more bytes the ring would take, in bytes."""
        pool = self.pool
        if 2 * (pool.lent + self.limit) <= pool.limit:
            return self.limit - self._size
        return self._attainable(self.limit) - self._size

    def _attainable(self, wanted: int) -> int:
        """The largest capacity up to what `wanted` bytes need that the pool would grant."""
        capacity, initial = self._capacity, self.initial
        while capacity < wanted:
            if capacity >= initial:
                larger = min(max(capacity * 2, RING_SECOND), self.limit)
            else:
                larger = RING_LEAST if wanted <= RING_LEAST < initial else initial
            if not self.pool.grants(larger, self._capacity, growth=capacity >= initial):
                break
            capacity = larger
        return capacity

    def _grow(self, wanted: int) -> None:
        if not self._capacity:
            if wanted <= RING_LEAST == self._hint and self.initial > RING_LEAST:
                if self.pool.grants(RING_LEAST):
                    self._storage = self.pool.take(RING_LEAST)
                    self._capacity = RING_LEAST
                return
            wanted = max(wanted, self._hint)
            # Forgotten by halves, unless it is filled again; and what is no super-packet needs little.
            self._hint = self._hint // 2 if self._hint > RING_SECOND else RING_LEAST
        capacity = self._attainable(min(wanted, self.limit))
        if capacity == self._capacity:
            return
        pool = self.pool
        storage = pool.take(capacity)
        position = 0
        for view in self.peek(0, self._size):
            storage[position : position + len(view)] = view
            position += len(view)
        if self._capacity:
            pool.give_back(self._storage)
        self._storage = storage
        self._capacity = capacity
        self._head = 0

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Copy in as much of `data` as there is room for; returns how many bytes."""
        size = len(data)
        if self._size + size > self._capacity:
            self._grow(self._size + size)
            if size > self._capacity - self._size:
                size = self._capacity - self._size
                data = data[:size]
            if not size:
                return 0
        capacity = self._capacity
        tail = self._head + self._size
        if tail >= capacity:
            tail -= capacity
        end = tail + size
        if end <= capacity:
            self._storage[tail:end] = data
        else:
            first = capacity - tail
            self._storage[tail:] = data[:first]
            self._storage[: size - first] = data[first:]
        self._size += size
        if self._size > self._hint:
            self._hint = self._capacity
        return size

    def writable(self, n: int) -> list[memoryview]:
        """Up to two views of room for up to `n` bytes, for recv_into; then `commit`, also of nothing."""
        if self._size + n > self._capacity:
            self._grow(self._size + n)
            n = min(n, self._capacity - self._size)
        if n <= 0:
            return []
        capacity = self._capacity
        tail = self._head + self._size
        if tail >= capacity:
            tail -= capacity
        end = tail + n
        if end <= capacity:
            return [self._storage[tail:end]]
        return [self._storage[tail:], self._storage[: end - capacity]]

    def commit(self, n: int) -> None:
        """`n` bytes were put into the views of `writable`."""
        self._size += n
        if self._size > self._hint:
            self._hint = self._capacity
        elif not self._size:
            self.release()

    def peek(self, offset: int, n: int) -> list[memoryview]:
        """Up to two views of up to `n` bytes from `offset`."""
        n = min(n, self._size - offset)
        if n <= 0:
            return []
        capacity = self._capacity
        start = self._head + offset
        if start >= capacity:
            start -= capacity
        end = start + n
        if end <= capacity:
            return [self._storage[start:end]]
        return [self._storage[start:], self._storage[: end - capacity]]

    def consume(self, n: int) -> None:
        """Forget the first `n` bytes."""
        if n >= self._size:
            self._size = 0
            self.release()
            return
        self._size -= n
        self._head += n
        if self._head >= self._capacity:
            self._head -= self._capacity

    def release(self) -> None:
        """Give the storage back if there is nothing in it: after a `writable` that came to nothing."""
        if not self._size and self._capacity:
            self.pool.give_back(self._storage)
            self._storage = NOWHERE
            self._capacity = 0
            self._head = 0

    def clear(self) -> None:
        """Forget everything."""
        self._size = 0
        self.release()
