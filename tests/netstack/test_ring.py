# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import gc
import random
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torbox.netstack import ring as ring_module
from torbox.netstack.ring import RING_INITIAL, RING_LEAST, Ring, RingPool

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 70)),
        st.tuples(st.just("receive"), st.integers(0, 70)),
        st.tuples(st.just("consume"), st.integers(0, 70)),
        st.tuples(st.just("peek"), st.integers(0, 70)),
    ),
    max_size=60,
)


@patch.object(ring_module, "RING_SECOND", 10)  # so that a hundred bytes see every step of growth
@given(limit=st.integers(1, 100), initial=st.integers(1, 40), steps=STEPS)
@settings(max_examples=200)
def test_what_goes_in_comes_out_in_order_and_within_bounds(
    limit: int, initial: int, steps: list[tuple[str, int]]
) -> None:
    pool = RingPool()
    ring = Ring(limit, initial, pool)
    model = b""
    chance = random.Random(7)
    for what, n in steps:
        if what == "write":
            data = chance.randbytes(n)
            taken = ring.write(data)
            assert taken == min(n, limit - len(model))
            model += data[:taken]
        elif what == "receive":
            room = ring.writable(n)
            assert len(room) <= 2
            size = sum(map(len, room))
            assert size == min(n, limit - len(model))
            data = chance.randbytes(size // 2)
            position = 0
            for view in room:
                part = data[position : position + len(view)]
                view[: len(part)] = part
                position += len(part)
            ring.commit(len(data))
            model += data
        elif what == "consume":
            ring.consume(n)
            model = model[n:]
        else:
            views = ring.peek(n // 2, n)
            assert len(views) <= 2
            assert b"".join(views) == model[n // 2 : n // 2 + n]
        assert len(ring) == len(model)
        assert ring.free == limit - len(model)
        assert b"".join(ring.peek(0, limit)) == model
        assert (pool.lent == 0) == (not model)
        assert pool.lent <= limit


def test_an_empty_ring_owns_no_storage_and_gets_the_same_back() -> None:
    pool = RingPool()
    ring = Ring(pool=pool)
    assert pool.lent == 0
    ring.write(b"x" * 100)
    assert pool.lent == RING_LEAST
    ring.consume(100)
    assert (pool.lent, pool.spare) == (0, RING_LEAST)
    ring.writable(10)
    assert (pool.lent, pool.spare) == (RING_LEAST, 0)
    ring.commit(0)
    assert pool.lent == 0


def test_a_ring_that_was_full_begins_with_as_much_and_forgets_by_halves() -> None:
    pool = RingPool()
    ring = Ring(256 << 10, 4096, pool)
    ring.write(bytes(256 << 10))
    ring.consume(256 << 10)
    lent = []
    for _ in range(5):
        ring.write(b"x")
        lent.append(pool.lent)
        ring.consume(1)
    assert lent == [256 << 10, 128 << 10, 64 << 10, RING_LEAST, RING_LEAST]


def test_a_writable_that_came_to_nothing_is_given_back_by_release() -> None:
    pool = RingPool()
    ring = Ring(pool=pool)
    ring.writable(10)
    ring.release()
    assert pool.lent == 0


def test_a_ring_that_is_thrown_away_full_is_counted_back() -> None:
    pool = RingPool()
    ring = Ring(pool=pool)
    ring.write(b"unread")
    del ring
    gc.collect()
    assert pool.lent == 0


def test_spare_storage_is_bounded() -> None:
    pool = RingPool(spare_limit=100)
    rings = [Ring(64, 64, pool) for _ in range(5)]
    for ring in rings:
        ring.write(b"x")
    for ring in rings:
        ring.consume(1)
    assert pool.spare == 64


def test_past_half_of_the_pool_rings_do_not_grow() -> None:
    pool = RingPool(limit=512 << 10)
    ring, other = Ring(pool=pool), Ring(pool=pool)
    assert ring.write(bytes(1 << 20)) == 256 << 10
    assert ring.free == 0
    assert other.free == 4096
    assert other.write(bytes(1 << 20)) == 4096
    assert pool.lent == (256 << 10) + 4096


def test_storage_grows_from_small_to_a_super_packet_and_then_doubles() -> None:
    pool = RingPool()
    ring = Ring(pool=pool)
    lent = []
    while ring.free:
        ring.write(bytes(512))
        if pool.lent not in lent:
            lent.append(pool.lent)
    assert lent == [RING_LEAST, RING_INITIAL, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 1 << 20]


def test_past_all_of_the_pool_rings_take_nothing() -> None:
    pool = RingPool(limit=350)
    rings = [Ring(1000, 100, pool) for _ in range(5)]
    assert [ring.write(b"x") for ring in rings] == [1, 1, 1, 0, 0]
    assert rings[4].free == 0
    assert rings[4].writable(5) == []
    rings[0].consume(1)
    assert rings[4].free == 100
    assert rings[4].write(b"y") == 1


@pytest.mark.parametrize("offset", [0, 5])
def test_peeking_past_the_end_is_nothing(offset: int) -> None:
    ring = Ring(10, 10, RingPool())
    assert ring.peek(offset, 3) == []
