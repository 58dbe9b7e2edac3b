# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math
import os
import select
import socket
from collections.abc import Iterator

import pytest

from torbox.relay.reactor import IDLE_MOST_S, MAX_EVENTS, SWEEP_AT, Reactor, ReactorTimer
from torbox.relay.spin import SPIN_S


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reactor(clock: Clock) -> Iterator[Reactor]:
    reactor = Reactor(clock)
    yield reactor
    reactor.close()


def test_each_edge_is_told_once(reactor: Reactor) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        heard: list[int] = []
        reactor.register(ours.fileno(), heard.append)
        reactor.turn(reactor.now)
        assert heard == [select.EPOLLOUT]
        theirs.send(b"x")
        reactor.turn(reactor.now)
        assert heard[1:] == [select.EPOLLIN | select.EPOLLOUT]
        reactor.turn(reactor.now)
        assert len(heard) == 2
        theirs.close()
        reactor.turn(reactor.now)
        assert heard[2] & select.EPOLLRDHUP
        reactor.unregister(ours.fileno())


def test_an_event_never_reaches_a_newcomer_with_a_reused_number(reactor: Reactor) -> None:
    """Both are ready in one batch; the first one's callback closes the second and takes its number."""
    pairs = [socket.socketpair(), socket.socketpair()]
    heard: list[str] = []
    newcomers: list[tuple[socket.socket, socket.socket]] = []

    def first(_events: int) -> None:
        heard.append("first")
        victim = pairs[1][0]
        number = victim.fileno()
        reactor.unregister(number)
        victim.close()
        pair = socket.socketpair()
        newcomers.append(pair)
        if pair[0].fileno() != number:
            os.dup2(pair[0].fileno(), number)
            pair[0].close()
            newcomers[0] = (socket.socket(fileno=number), pair[1])
        reactor.register(number, lambda _events: heard.append("newcomer"))

    reactor.register(pairs[0][0].fileno(), first)
    reactor.register(pairs[1][0].fileno(), lambda _events: heard.append("second"))
    assert reactor.turn(reactor.now) == 2
    assert heard == ["first"]
    reactor.turn(reactor.now)
    assert heard == ["first", "newcomer"]
    for pair in [pairs[0], *newcomers]:
        pair[0].close()
        pair[1].close()
    pairs[1][1].close()


def test_the_last_one_comes_last_even_if_it_was_ready_first(reactor: Reactor) -> None:
    pairs = [socket.socketpair() for _ in range(4)]
    heard: list[int] = []
    reactor.register_last(pairs[0][0].fileno(), lambda _events: heard.append(0))
    for index, (ours, _) in enumerate(pairs[1:], 1):
        reactor.register(ours.fileno(), lambda _events, index=index: heard.append(index))  # type: ignore[misc]
    reactor.call_at(reactor.now, lambda: heard.append(9))
    reactor.turn(reactor.now)
    assert sorted(heard[:3]) == [1, 2, 3]
    assert heard[3:] == [9, 0]
    with pytest.raises(ValueError, match="one descriptor alone"):
        reactor.register_last(pairs[1][0].fileno(), heard.append)
    for pair in pairs:
        for sock in pair:
            sock.close()


def test_a_descriptor_can_be_unregistered_twice_or_by_another_callback(reactor: Reactor) -> None:
    pairs = [socket.socketpair(), socket.socketpair()]
    heard: list[int] = []

    def drop(which: int) -> None:
        heard.append(which)
        for ours, _ in pairs:
            reactor.unregister(ours.fileno())
            reactor.unregister(ours.fileno())

    reactor.register(pairs[0][0].fileno(), lambda _events: drop(0))
    reactor.register(pairs[1][0].fileno(), lambda _events: drop(1))
    reactor.turn(reactor.now)
    assert len(heard) == 1
    assert len(reactor) == 0
    for pair in pairs:
        for sock in pair:
            sock.close()


def test_timers_are_kept_in_order_and_those_made_meanwhile_wait_a_turn(
    reactor: Reactor, clock: Clock
) -> None:
    heard: list[str] = []

    def first() -> None:
        heard.append("a")
        reactor.call_at(clock.now, lambda: heard.append("new"))

    reactor.call_at(clock.now + 2, lambda: heard.append("later"))
    reactor.call_at(clock.now + 1, first)
    reactor.call_at(clock.now + 1, lambda: heard.append("b"))
    assert reactor.deadline == clock.now + 1
    reactor.turn(clock.now)
    assert heard == []
    clock.now += 1
    reactor.turn(clock.now)
    assert heard == ["a", "b"]
    reactor.turn(clock.now)
    assert heard == ["a", "b", "new"]
    clock.now += 1
    reactor.turn(clock.now)
    assert heard == ["a", "b", "new", "later"]
    assert reactor.deadline == math.inf


def test_a_cancelled_timer_is_not_called_not_even_by_its_neighbour_of_the_same_moment(
    reactor: Reactor, clock: Clock
) -> None:
    heard: list[str] = []
    second = reactor.call_at(clock.now + 1, lambda: heard.append("never"))
    second.cancel()
    second.cancel()
    assert reactor.deadline == math.inf
    victims: list[ReactorTimer] = []
    reactor.call_at(clock.now + 1, lambda: victims[0].cancel())
    victims.append(reactor.call_at(clock.now + 1, lambda: heard.append("never")))
    clock.now += 1
    reactor.turn(clock.now)
    assert heard == []


def test_cancelled_timers_do_not_pile_up(reactor: Reactor, clock: Clock) -> None:
    kept = reactor.call_at(clock.now + 500, lambda: None)
    for _ in range(SWEEP_AT * 20):
        reactor.call_at(clock.now + 120, lambda: None).cancel()
    assert len(reactor._timers) <= SWEEP_AT
    assert reactor.deadline == kept.when


def test_now_is_the_time_after_the_wait(reactor: Reactor, clock: Clock) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        seen: list[float] = []
        reactor.register(ours.fileno(), lambda _events: seen.append(reactor.now))
        clock.now = 123.0
        reactor.turn(123.0)
        assert seen == [123.0]


class TiredEpoll:
    """Nothing ever happens; says for how long it was asked to wait, and lets that time pass."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.asked: list[float] = []

    def poll(self, wait_s: float, _most: int) -> list[tuple[int, int]]:
        self.asked.append(wait_s)
        self.clock.now += wait_s or SPIN_S / 3.5
        return []


def test_a_turn_that_may_spin_asks_for_a_while_before_it_sleeps(
    clock: Clock, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoll = TiredEpoll(clock)
    monkeypatch.setattr(reactor, "_epoll", epoll)
    reactor.turn(reactor.now + 1, spin=True)
    assert epoll.asked == [0, 0, 0, 0, pytest.approx(1)]
    epoll.asked.clear()
    reactor.turn(reactor.now + 1, spin=True)
    assert epoll.asked == [0, 0, pytest.approx(1)], "it was in vain, so it is tried for half as long"
    epoll.asked.clear()
    reactor.turn(reactor.now, spin=True)
    assert epoll.asked == [0], "a turn that may not wait does not spin either"
    epoll.asked.clear()
    reactor.turn(reactor.now + 1)
    assert epoll.asked == [pytest.approx(1)]


@pytest.mark.parametrize("spin", [False, True])
def test_what_nobody_waits_for_is_done_before_a_sleep(
    spin: bool, clock: Clock, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoll = TiredEpoll(clock)
    monkeypatch.setattr(reactor, "_epoll", epoll)
    asked: list[list[float]] = []
    reactor.call_idle(lambda: asked.append(list(epoll.asked)))
    reactor.turn(reactor.now)
    assert not asked, "there may be more to do"
    reactor.turn(reactor.now + 1, spin=spin)
    assert len(asked) == 1
    assert set(asked[0]) == {0}, "everything else was looked for first"
    assert epoll.asked[-1] == pytest.approx(1)
    reactor.turn(reactor.now + 1, spin=spin)
    assert len(asked) == 1


def test_what_nobody_waits_for_is_done_all_the_same_by_a_loop_that_is_never_idle(
    clock: Clock, reactor: Reactor
) -> None:
    done: list[str] = []
    reactor.call_idle(lambda: done.append("done"))
    reactor.turn(reactor.now)
    assert not done
    clock.now += 2 * IDLE_MOST_S
    reactor.turn(reactor.now)
    assert done == ["done"]


def test_events_beyond_the_bound_come_with_the_next_turn(reactor: Reactor) -> None:
    ready = [os.eventfd(1, os.EFD_CLOEXEC) for _ in range(MAX_EVENTS + 10)]
    try:
        heard: list[int] = []
        for fileno in ready:
            reactor.register(fileno, heard.append)
        assert reactor.turn(0.0) == len(heard) == MAX_EVENTS
        assert reactor.turn(0.0) == 10
    finally:
        for fileno in ready:
            reactor.unregister(fileno)
            os.close(fileno)
