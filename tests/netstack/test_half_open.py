# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import itertools
import random
import time

import pytest

from tests.netstack.addresses import REMOTES, VERSIONS
from tests.netstack.playbook import Playbook
from torbox.netstack import half_open
from torbox.netstack.flow import FlowKey
from torbox.netstack.half_open import REPLACED_BURST, REPLACED_PER_S, RESERVED, SHARE, HalfOpen
from torbox.netstack.ring import RingPool
from torbox.netstack.stack import MAX_TO_GATEWAY, StackConfig
from torbox.netstack.tcp.connection import TcpConnection
from torbox.netstack.tcp.state import State

POOL = RingPool()
NUMBERS = itertools.count(1 << 32)  # of SYNs that never come again


def attempt(destination: int, port: int = 1) -> TcpConnection:
    key = FlowKey(bytes((10, 0, 2, 100)), port, destination.to_bytes(4, "big"), 80)
    return TcpConnection(key, mss=1460, max_payload=0, iss=0, mark=lambda connection: None, pool=POOL)


def table(*destinations: int) -> tuple[HalfOpen, list[TcpConnection]]:
    held = HalfOpen()
    attempts = [attempt(destination, port) for port, destination in enumerate(destinations)]
    for each in attempts:
        held.add(each)
    return held, attempts


def is_admitted(
    held: HalfOpen, address: bytes, now: float, *, port: int = 80, seq: int | None = None
) -> bool:
    """A SYN to this destination; by default one that never came before."""
    return held.admits(b"ends", next(NUMBERS) if seq is None else seq, (address, port), now)


def open_all(held: HalfOpen, *attempts: TcpConnection) -> None:
    """The upstream connected them, and the guest took note."""
    for each in attempts:
        held.answer(each)
        held.opened(each)


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
    open_all(held, *attempts[1:3])
    tried, known, crowded, free = (address.to_bytes(4, "big") for address in (5, 7, 8, 9))
    assert not is_admitted(held, tried, 100.0)
    assert is_admitted(held, tried, 100.0, port=81)  # another port is another destination
    admitted = [is_admitted(held, free, 100.0) for _ in range(int(REPLACED_BURST))]
    spare = int(REPLACED_BURST - RESERVED)
    assert admitted == [True] * (spare - 1) + [False] * (len(admitted) - spare + 1)
    assert all(is_admitted(held, known, 100.0) for _ in range(1000))
    assert not is_admitted(held, crowded, 100.0)
    soon = 100.0 + 2.5 / REPLACED_PER_S
    assert [is_admitted(held, free, soon) for _ in range(3)] == [True, True, False]


def test_a_syn_that_comes_again_goes_before_a_flood_of_those_that_never_do() -> None:
    held, _ = table(5)
    free = bytes((9, 9, 9, 9))
    while is_admitted(held, free, 100.0):
        pass
    honest = range(200)
    assert not any(is_admitted(held, free, 100.0, seq=seq) for seq in honest)
    for _ in range(50_000):  # a second's worth; some of the honest lose their place to one of them
        assert not is_admitted(held, free, 100.0)
    assert sum(is_admitted(held, free, 100.0, seq=seq) for seq in honest) > len(honest) / 2
    # Those are not without number either: an upstream would be kept busy by who says all twice.
    assert sum(is_admitted(held, free, 100.0, seq=7) for _ in range(int(REPLACED_BURST))) <= RESERVED


def test_an_answer_that_nobody_takes_makes_no_destination_known() -> None:
    """Or a flood of SYNs to places that answer would push out all that the guest was connected to."""
    held, attempts = table(7, 8)
    held.answer(attempts[0])
    held.discard(attempts[0])
    open_all(held, attempts[1])
    while is_admitted(held, bytes(4), 100.0):
        pass
    known = [is_admitted(held, bytes((0, 0, 0, number)), 100.0) for number in (7, 8)]
    assert known == [False, True]


def test_attempts_at_known_destinations_give_way_last() -> None:
    held, attempts = table(1, 2)
    open_all(held, attempts[0])
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
        open_all(held, each)
    known = [bytes((0, 0, 0, number)) for number in (1, 2, 3)]
    monkeypatch.setattr(half_open, "REPLACED_BURST", 0.0)
    assert [is_admitted(held, address, 1.0) for address in known] == [True, False, True]


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


def test_of_those_that_were_answered_a_crowd_gives_way_and_then_who_never_took_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Connects that are closed at once, and forged SYNs, must not end what others began."""
    monkeypatch.setattr(half_open, "SHARE", 2)
    held, attempts = table(1, 1, 2, 3, 3, 3, 2, 4)
    with pytest.raises(StopIteration):
        held.next_answered()
    open_all(held, known := attempt(1, 20))
    for each in attempts:
        held.answer(each)
    held.add(known)
    held.answer(known)
    order = []
    while held.answered > 1:
        order.append(attempts.index(held.next_answered()))
        held.discard(attempts[order[-1]])
    assert order == [3, 0, 1, 2, 4, 5, 6, 7]
    assert held.next_answered() is known


@pytest.mark.parametrize("destinations", [1, 40, 1 << 20])
def test_replacing_one_that_was_answered_does_not_cost_more_in_a_full_table(destinations: int) -> None:
    def cost_s(size: int) -> float:
        held = HalfOpen()
        attempts = [attempt(port % destinations, port) for port in range(size + 2000)]
        for each in attempts[:size]:
            held.add(each)
            held.answer(each)
        began = time.process_time()
        for each in attempts[size:]:
            held.discard(held.next_answered())
            held.add(each)
            held.answer(each)
        return time.process_time() - began

    assert min(cost_s(8000) for _ in range(3)) < 10 * min(cost_s(80) for _ in range(3))


# As the stack uses it


def test_half_open_connections_are_bounded_and_the_oldest_gives_way_in_silence() -> None:
    book = Playbook(config=StackConfig(max_half_open=3))
    for port in range(5):
        book.guest.send_segment(REMOTES[4], (1000 + port, 80 + port), 1, 0, 2, 64000)
    book.guest.send_segment(REMOTES[4], (1005, 84), 1, 0, 2, 64000)  # a second one to the same place
    book._turn()
    assert book.stack.counters.dropped == {"tcp: too many half-open connections": 1}
    assert len(book.opened) == 5
    assert [it.key.guest_port for it in book.stack.half_open] == [1002, 1003, 1004]
    assert [it.state for it in book.opened[:2]] == [State.CLOSED] * 2
    assert list(book.stack.connections.values()) == book.opened[2:]
    assert book.stack.counters.half_open_gave_way == 2
    assert not book.device.to_guest
    book.opened[2].abort()
    book.stack.flush(book.now)
    assert len(book.stack.half_open) == 2


@VERSIONS
def test_a_full_table_of_half_open_connections_keeps_nobody_out(version: int) -> None:
    book = Playbook(version, config=StackConfig(max_half_open=1))
    for port, address in enumerate((REMOTES[version], book.stack.config.own[version == 6], REMOTES[version])):
        book.guest.send_segment(address, (1000 + port, 53 + port), 1, 0, 2, 64000)
    book._turn()
    assert [connection.key.guest_port for connection in book.opened] == [1000, 1001, 1002]
    assert [connection.key.guest_port for connection in book.stack.half_open] == [1001, 1002]


def test_nobody_gives_way_for_connects_to_the_gateway_and_they_are_bounded_too() -> None:
    """They are answered at once; else who sends many of them would end others' attempts at any rate."""
    book = Playbook(config=StackConfig(max_half_open=3))
    for port in range(3):
        book.guest.send_segment(REMOTES[4], (1000 + port, 80 + port), 1, 0, 2, 64000)
    for port in range(3 * MAX_TO_GATEWAY):
        book.guest.send_segment(book.stack.config.own[0], (2000 + port, 53), 1, 0, 2, 64000)
    for _ in range(5):
        book._turn()
    waiting = [it.key.guest_port for it in book.stack.half_open]
    assert waiting[:3] == [1000, 1001, 1002]
    assert len(waiting) == 3 + MAX_TO_GATEWAY
    assert book.stack.counters.half_open_gave_way == 0


def test_those_that_are_answered_wait_for_the_guest_beside_any_number_of_syns_but_within_a_bound() -> None:
    book = Playbook(config=StackConfig(max_half_open=2))
    for port in range(6):
        book.guest.send_segment(REMOTES[4], (1000 + port, 80 + port), 1, 0, 2, 64000)
        book._turn()
        if port < 3:
            book.opened[-1].accept()
            book._turn()
    book._turn()
    assert [it.key.guest_port for it in book.stack.half_open] == [1004, 1005, 1001, 1002]
    assert book.stack.counters.half_open_gave_way == 2
    assert list(book.stack.connections.values()) == [*book.opened[1:3], *book.opened[4:]]


def test_who_gave_way_may_try_again_with_the_same_ports() -> None:
    book = Playbook(config=StackConfig(max_half_open=1))
    for port in (1000, 1001, 1000):
        book.guest.send_segment(REMOTES[4], (port, port - 900), 1, 0, 2, 64000)
    book._turn()  # all in one
    assert [it.state for it in book.opened] == [State.CLOSED, State.CLOSED, State.SYN_RECEIVED]
    assert list(book.stack.connections.values()) == book.opened[2:]


def test_connections_given_up_make_room_within_two_seconds() -> None:
    book = Playbook(config=StackConfig(max_half_open=3))
    for port in range(5):
        book.guest.send_segment(REMOTES[4], (1000 + port, 80 + port), 1, 0, 2, 64000)
    book._turn()
    book.now += 2.0
    book.stack.expire(book.now)
    book.stack.flush(book.now)
    assert not book.stack.connections
    book.guest.send_segment(REMOTES[4], (1004, 80), 1, 0, 2, 64000)
    book._turn()
    assert [connection.key.guest_port for connection in book.opened] == [1000, 1001, 1002, 1003, 1004, 1004]
