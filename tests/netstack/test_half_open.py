# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random
import time

import pytest

from torbox.netstack import half_open
from torbox.netstack.flow import FlowKey
from torbox.netstack.half_open import SHARE, HalfOpen
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
        assert held.who_gives_way() is each
        held.discard(each)
    assert len(held) == 0
    with pytest.raises(StopIteration):
        held.who_gives_way()


def test_a_crowded_destination_gives_way_before_those_that_came_earlier() -> None:
    held, attempts = table(1, 1, 2, *[7] * (SHARE + 2), 3)
    for each in attempts[3:5]:
        assert held.who_gives_way() is each
        held.discard(each)
    assert held.who_gives_way() is attempts[0]


def test_of_two_crowded_destinations_the_one_with_more_gives_way() -> None:
    held, attempts = table(*[5] * (SHARE + 1), *[6] * (SHARE + 2))
    assert held.who_gives_way() is attempts[SHARE + 1]


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
            assert counts[held.who_gives_way().key.remote_address] == most
            assert held.who_gives_way() is next(
                each for each in crowded if each.key.remote_address == held.who_gives_way().key.remote_address
            )
        else:
            assert held.who_gives_way() is model[0]


@pytest.mark.parametrize("destinations", [1, 40, 1 << 20])
def test_a_newcomers_cost_does_not_grow_with_the_table(destinations: int) -> None:
    def cost_s(size: int) -> float:
        held = HalfOpen()
        attempts = [attempt(port % destinations, port) for port in range(size + 2000)]
        for each in attempts[:size]:
            held.add(each)
        began = time.process_time()
        for each in attempts[size:]:
            held.discard(held.who_gives_way())
            held.add(each)
        return time.process_time() - began

    assert min(cost_s(8000) for _ in range(3)) < 10 * min(cost_s(80) for _ in range(3))
