# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math

from torbox.netstack.flow import FlowKey
from torbox.netstack.ring import RingPool
from torbox.netstack.tcp.connection import TcpConnection
from torbox.netstack.timers import SWEEP_AT, Timers

POOL = RingPool()


def connection(deadline: float) -> TcpConnection:
    made = TcpConnection(
        FlowKey(bytes(4), 1, bytes(4), 2), mss=1, max_payload=0, iss=0, mark=lambda _: None, pool=POOL
    )
    made.deadline = deadline
    return made


def test_connections_come_up_in_the_order_of_their_deadlines() -> None:
    timers = Timers()
    late, soon, never = connection(5.0), connection(2.0), connection(math.inf)
    for one in (late, soon, never):
        timers.schedule(one)
    assert timers.deadline == 2.0
    assert timers.due(1.9) == []
    assert timers.due(6.0) == [soon, late]
    assert timers.deadline == math.inf


def test_a_deadline_that_moved_to_later_is_looked_at_again() -> None:
    timers = Timers()
    one = connection(2.0)
    timers.schedule(one)
    one.deadline = 7.0
    timers.schedule(one)
    assert len(timers) == 1
    assert timers.due(3.0) == []
    assert timers.deadline == 7.0
    assert timers.due(7.0) == [one]


def test_a_deadline_that_moved_to_earlier_counts_at_once() -> None:
    timers = Timers()
    one = connection(9.0)
    timers.schedule(one)
    one.deadline = 2.0
    timers.schedule(one)
    assert timers.due(2.0) == [one]
    assert timers.due(10.0) == []


def test_a_deadline_that_was_called_off_does_not_come_up() -> None:
    timers = Timers()
    one = connection(2.0)
    timers.schedule(one)
    one.deadline = math.inf
    timers.schedule(one)
    assert timers.due(3.0) == []
    assert len(timers) == 0


def test_what_was_forgotten_is_not_held_and_is_swept_out() -> None:
    timers = Timers()
    kept = connection(100.0)
    timers.schedule(kept)
    for i in range(3 * SWEEP_AT):
        one = connection(50.0 + i)
        timers.schedule(one)
        timers.forget(one)
        assert one.scheduled is None
    assert len(timers) <= SWEEP_AT + 2
    assert timers.due(10_000.0) == [kept]
    assert len(timers) == 0
