# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from torbox.netstack.ring import RingPool
from torbox.netstack.tcp.outoforder import MAX_PIECES, PIECE_COST, REBASE, OutOfOrder
from torbox.netstack.tcp.sequence import MASK

STREAM = bytes(i % 251 for i in range(2000))


@given(
    first=st.sampled_from((0, 5, MASK - 700, MASK)),
    pieces=st.lists(st.tuples(st.integers(1, 900), st.integers(1, 300)), max_size=40),
)
def test_pieces_in_any_order_make_the_stream(first: int, pieces: list[tuple[int, int]]) -> None:
    """`first` is where the stream's numbers begin, also right before they wrap."""
    pool = RingPool()
    held = OutOfOrder(pool)
    covered: set[int] = set()
    for start, size in pieces:
        assert held.put(first, (first + start) & MASK, memoryview(STREAM)[start : start + size])
        covered |= set(range(start, start + size))
        assert held.size == len(covered)
        assert pool.lent == held.size + PIECE_COST * len(held)
    # The gap at the front is filled: everything up to the next gap comes out.
    position = 1
    while position in covered:
        position += 1
    ready = held.take((first + 1) & MASK)
    assert b"".join(ready) == STREAM[1:position]
    assert held.size == len([at for at in covered if at >= position])
    held.clear()
    assert pool.lent == held.size == len(held) == 0


def test_what_is_old_is_left_out() -> None:
    held = OutOfOrder(RingPool())
    held.put(0, 10, memoryview(b"abcdef"))
    held.put(0, 20, memoryview(b"xyz"))
    assert b"".join(held.take(13)) == b"def"
    assert b"".join(held.take(30)) == b""
    assert len(held) == 0


def test_no_more_pieces_than_the_bound_and_no_more_bytes_than_the_pool() -> None:
    held = OutOfOrder(RingPool())
    results = [held.put(0, 2 * i + 1, memoryview(b"x")) for i in range(MAX_PIECES + 1)]
    assert results == [True] * MAX_PIECES + [False]
    small = OutOfOrder(RingPool(limit=4 * (PIECE_COST + 10)))  # half is for rings
    assert [small.put(0, 20 * i + 1, memoryview(b"x" * 10)) for i in range(3)] == [True, True, False]


def test_the_origin_follows_a_queue_that_never_empties() -> None:
    held = OutOfOrder(RingPool())
    step = REBASE // 4
    nxt = 0
    held.put(nxt, step, memoryview(b"0"))
    for i in range(1, 40):  # beyond 2^31, where distances from the first origin would wrap
        held.put(nxt, (nxt + 2 * step) & MASK, memoryview(b"%d" % (i % 10)))
        nxt = (nxt + step) & MASK
        assert b"".join(held.take(nxt)) == b"%d" % ((i - 1) % 10)
        assert len(held) == 1


def test_a_segment_over_many_pieces_takes_their_place() -> None:
    pool = RingPool()
    held = OutOfOrder(pool)
    text = bytes(range(200))
    for at in range(10, 60, 2):
        assert held.put(0, at, memoryview(text[at : at + 1]))
    assert held.put(0, 100, memoryview(text[100:110]))
    assert held.put(0, 8, memoryview(text[8:105]))
    assert len(held) == 2
    assert held.size == 102
    assert pool.lent == held.size + 2 * PIECE_COST
    assert held.put(0, 8, memoryview(text[8:105]))
    assert len(held) == 2
    assert b"".join(held.take(8)) == text[8:110]
    assert pool.lent == 0


def test_pieces_are_not_given_up_for_what_there_is_no_memory_for() -> None:
    pool = RingPool(limit=1 << 14)
    held = OutOfOrder(pool)
    for at in range(10, 60, 2):
        assert held.put(0, at, memoryview(b"x"))
    assert not held.put(0, 1, memoryview(bytes(9000)))
    assert len(held) >= 25
