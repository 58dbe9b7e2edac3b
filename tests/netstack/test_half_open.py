# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random
import time

import pytest

from torbox.netstack import half_open
from torbox.netstack.flow import FlowKey
from torbox.netstack.half_open import REPLACED_BURST, REPLACED_PER_S, SHARE, HalfOpen
from torbox.netstack.ring import RingPool
from torbox.netstack.tcp.connection import TcpConnection

POOL = RingPool()


def attempt(destination: int, port: int = 1) -> TcpConnection:
    key = FlowKey(bytes((10, 0, 2, 100)), port, destination.to_bytes(4, "big"), 80)
    return TcpConnection(key, mss=1460, max_payload=0, iss=0, mark=lambda connection: None, pool=POOL)


def table(*destinations: int) -> tuple[HalfOpen, list[TcpConnection]]:
    held = HalfOpen()
    attempts = [attempt(destination, port) for port, destination in enumerate(destinations)]
    for each in attempts:
        held.add(each)
    return held, attempts


def test_the_oldest_gives_way_when_no_destination_is_crowded() -> None:
    held, attempts = table(1, 2, 2, 2, 3)
    for each in attempts:
        assert held.next_waiting() is each
        held.discard(each)
    assert len(held) == 0
    with pytest.raises(StopIteration):
        held.next_waiting()


def test_a_crowded_destination_gives_way_before_those_that_came_earlier() -> None:
    held, attempts = table(1, 1, 2, *[7] * (SHARE + 2), 3)
    for each in attempts[3:5]:
        assert held.next_waiting() is each
        held.discard(each)
    assert held.next_waiting() is attempts[0]


def test_of_two_crowded_destinations_the_one_with_more_gives_way() -> None:
    held, attempts = table(*[5] * (SHARE + 1), *[6] * (SHARE + 2))
    assert held.next_waiting() is attempts[SHARE + 1]


def test_what_left_is_not_there_and_may_be_told_so_twice() -> None:
    held, attempts = table(1, 1)
    held.discard(attempts[0])
    held.discard(attempts[0])
    assert attempts[0] not in held
    assert list(held) == [attempts[1]]


def test_it_agrees_with_a_table_that_counts_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_open, "SHARE", 3)
    chance = random.Random(1)
    held, model = HalfOpen(), list[TcpConnection]()
    for port in range(3000):
        if model and chance.random() < 0.48:
            gone = chance.choice(model)
            model.remove(gone)
            held.discard(gone)
        else:
            model.append(attempt(chance.choice((1, 1, 1, 1, 2, 2, 3, chance.randrange(9))), port))
            held.add(model[-1])
        assert list(held) == model
        if not model:
            continue
        counts: dict[bytes, int] = {}
        for each in model:
            counts[each.key.remote_address] = counts.get(each.key.remote_address, 0) + 1
        most = max(counts.values())
        crowded = [each for each in model if counts[each.key.remote_address] == most]
        if most > 3:
            assert counts[held.next_waiting().key.remote_address] == most
            assert held.next_waiting() is next(
                each for each in crowded if each.key.remote_address == held.next_waiting().key.remote_address
            )
        else:
            assert held.next_waiting() is model[0]


@pytest.mark.parametrize("destinations", [1, 40, 1 << 20])
def test_a_newcomers_cost_does_not_grow_with_the_table(destinations: int) -> None:
    def cost_s(size: int) -> float:
        held = HalfOpen()
        attempts = [attempt(port % destinations, port) for port in range(size + 2000)]
        for each in attempts[:size]:
            held.add(each)
        began = time.process_time()
        for each in attempts[size:]:
            held.discard(held.next_waiting())
            held.add(each)
        return time.process_time() - began

    assert min(cost_s(8000) for _ in range(3)) < 10 * min(cost_s(80) for _ in range(3))


def test_a_full_table_admits_whom_it_knows_and_strangers_one_by_one_and_by_rate() -> None:
    held, attempts = table(5, 7, 8, *[8] * SHARE)
    held.answer(attempts[1])
    held.answer(attempts[2])
    tried, known, crowded, free = (address.to_bytes(4, "big") for address in (5, 7, 8, 9))
    assert not held.admits(tried, 80, 100.0)
    assert held.admits(tried, 81, 100.0)  # another port is another destination
    admitted = [held.admits(free, 80, 100.0) for _ in range(int(REPLACED_BURST) + 10)]
    assert admitted == [True] * (int(REPLACED_BURST) - 1) + [False] * 11
    assert all(held.admits(known, 80, 100.0) for _ in range(1000))
    assert not held.admits(crowded, 80, 100.0)
    assert [held.admits(free, 80, 100.0 + 2.5 / REPLACED_PER_S) for _ in range(3)] == [True, True, False]


def test_attempts_at_known_destinations_give_way_last() -> None:
    held, attempts = table(1, 2)
    held.answer(attempts[0])
    again = [attempt(1, 10), attempt(3, 11)]
    for each in again:
        held.add(each)
    for each in (attempts[1], again[1], again[0]):
        assert held.next_waiting() is each
        held.discard(each)


def test_what_is_known_is_bounded_and_the_least_recent_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_open, "KNOWN_MAX", 2)
    held = HalfOpen()
    for port, destination in enumerate((1, 2, 1, 3)):
        held.add(each := attempt(destination, port))
        held.answer(each)
        held.discard(each)
    known = [bytes((0, 0, 0, number)) for number in (1, 2, 3)]
    monkeypatch.setattr(half_open, "REPLACED_BURST", 0.0)
    assert [held.admits(address, 80, 1.0) for address in known] == [True, False, True]


def test_those_that_were_answered_do_not_make_room_for_syns() -> None:
    held, attempts = table(*[5] * (SHARE + 2), 6)
    for each in attempts[: SHARE + 1]:
        held.answer(each)
    assert (held.waiting, held.answered, len(held)) == (2, SHARE + 1, SHARE + 3)
    assert held.next_waiting() is attempts[SHARE + 1]  # crowded no more
    assert held.next_answered() is attempts[0]
    held.answer(attempts[0])
    held.discard(attempts[0])
    assert attempts[0] not in held
    assert attempts[1] in held
    assert held.next_answered() is attempts[1]
    held.answer(attempts[0])
    assert attempts[0] not in held
