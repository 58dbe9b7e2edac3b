# SPDX-License-Identifier: GPL-3.0-or-later
"""What the worst packets cost: no table that a guest has filled makes the next packet dearer than a bound.

Each case builds the table a guest can build, and sends the packets that walk most of it. Time is the
process's own and the best of some rounds, and compared with that of a nearly empty table; the factors allowed
are far above what is measured and far below what a walk over the whole table would be.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from torbox.netstack import timers
from torbox.netstack.flow import FlowKey, Refusal
from torbox.netstack.lookups import Lookups
from torbox.netstack.name_pool import NAMES_MAX, NamePool
from torbox.netstack.reassembly import MAX_PACKETS, MAX_PIECES, Reassembly
from torbox.netstack.ring import Ring, RingPool
from torbox.netstack.stack import Stack, StackConfig
from torbox.netstack.tcp.connection import TcpConnection
from torbox.netstack.tcp.outoforder import MAX_PIECES as MAX_EARLY
from torbox.netstack.tcp.receiver import Receiver
from torbox.netstack.testing import Guest, MemoryDevice
from torbox.netstack.timers import DUE_MAX, Timers
from torbox.netstack.wire import ip, ipv4, tcp

ADDRESSES = bytes((10, 0, 2, 100, 192, 0, 2, 7))
REMOTE = bytes((192, 0, 2, 7))


def cost_s(act: Callable[[int], object], count: int) -> float:
    """Seconds of this process for `act(0)` to `act(count - 1)`."""
    began = time.process_time()
    for number in range(count):
        act(number)
    return time.process_time() - began


class Owner:
    """Remembers what was opened."""

    def __init__(self) -> None:
        self.opened: list[TcpConnection] = []

    def tcp_opened(self, connection: TcpConnection) -> None:
        self.opened.append(connection)

    def udp_arrived(self, key: FlowKey, payload: memoryview) -> bool:
        return False


class World:
    def __init__(self) -> None:
        self.device = MemoryDevice()
        self.guest = Guest(self.device)
        self.owner = Owner()
        self.pool = RingPool()
        self.stack = Stack(self.device, self.owner, StackConfig(), 1.0, pool=self.pool)

    def syn(self, number: int) -> None:
        host, port = divmod(number, 60_000)
        remote = bytes((93, 1, 1 + host, 1))
        self.guest.send_segment(remote, (1 + port, 80), 1, 0, tcp.SYN, 64000)
        self.stack.receive(1.0)

    def turn(self) -> None:
        self.stack.flush(1.0)
        self.device.to_guest.clear()


def open_connections(world: World, first: int, count: int) -> None:
    for number in range(first, first + count):
        world.syn(number)
        world.owner.opened[-1].accept()
        world.turn()
        key = world.owner.opened[-1].key
        ack = (world.owner.opened[-1].sender.iss + 1) & 0xFFFFFFFF
        world.guest.send_segment(
            key.remote_address, (key.guest_port, key.remote_port), 2, ack, tcp.ACK, 64000
        )
        world.stack.receive(1.0)
        world.turn()


def test_a_connection_costs_as_much_among_ten_thousand_as_alone() -> None:
    world = World()

    def one_more(number: int) -> None:
        open_connections(world, len(world.stack.connections), 1)

    few = min(cost_s(one_more, 200) for _ in range(3))
    open_connections(world, len(world.stack.connections), 10_000)
    assert min(cost_s(one_more, 200) for _ in range(3)) < 8 * few


def test_refusals_by_silence_and_time_wait_cost_the_same_when_their_tables_are_full() -> None:
    world = World()
    sent = 0

    def refused(number: int) -> None:
        nonlocal sent
        world.syn(sent)
        sent += 1
        world.stack.refuse(world.owner.opened.pop(), Refusal.TIMED_OUT)
        world.turn()

    few = min(cost_s(refused, 200) for _ in range(3))
    cost_s(refused, 8000)
    assert min(cost_s(refused, 200) for _ in range(3)) < 8 * few


def fragment(identification: int, offset: int, size: int = 8) -> ip.Packet:
    flags = offset >> 3 | 0x2000
    packet = ipv4.emit(ADDRESSES, 17, size, identification=identification, flags=flags) + bytes(size)
    return ipv4.parse(memoryview(packet), 0, len(packet))


def test_a_fragment_costs_the_same_however_many_are_held() -> None:
    def filled(packets: int, pieces: int) -> Reassembly:
        held = Reassembly()
        for identification in range(packets):
            for piece in range(pieces):
                held.put(fragment(identification, 16 * piece), 1.0)
        return held

    def each_s(packets: int, pieces: int) -> float:
        held = filled(packets, pieces)
        last = [fragment(number, 16 * pieces) for number in range(packets)]
        return cost_s(lambda number: held.put(last[number], 1.0), packets) / packets

    few = min(each_s(MAX_PACKETS, 2) for _ in range(9))
    assert min(each_s(MAX_PACKETS, MAX_PIECES - 1) for _ in range(9)) < 3 * few
    assert min(each_s(MAX_PACKETS * 4, 2) for _ in range(9)) < 8 * few  # the oldest gives way


def receiver(pool: RingPool | None = None) -> Receiver:
    made = Receiver(Ring(1 << 20, pool=pool or RingPool()), 1460)
    made.synchronise(0)
    return made


@pytest.mark.parametrize("order", ["forward", "backward", "inside out"])
def test_single_bytes_out_of_order_cost_the_same_however_many_are_held(order: str) -> None:
    def places(count: int) -> list[int]:
        forward = [2 + 2 * at for at in range(count)]
        if order == "forward":
            return forward
        return forward[::-1] if order == "backward" else forward[::2] + forward[1::2]

    def each_s(count: int) -> float:
        held = receiver()
        seqs = places(count)
        data = memoryview(b"x")
        return cost_s(lambda number: held.take(seqs[number], data, False, 1.0), count) / count

    assert min(each_s(MAX_EARLY) for _ in range(3)) < 8 * min(each_s(30) for _ in range(9))


def test_a_segment_over_all_that_is_held_costs_the_same_however_many_pieces_that_is() -> None:
    def each_s(pieces: int) -> float:
        held = receiver()
        for number in range(pieces):
            held.take(10 + number, memoryview(b"x"), False, 1.0)
        data = memoryview(bytes(3000))
        return cost_s(lambda _: held.take(5, data, False, 1.0), 100)

    assert min(each_s(MAX_EARLY - 1) for _ in range(3)) < 8 * min(each_s(2) for _ in range(9))


def test_text_out_of_order_leaves_half_of_the_memory_to_others() -> None:
    """A thousand single bytes cost 81 each: without a bound of their own they would close every window."""
    pool = RingPool(limit=1 << 20)
    hoarders = [receiver(pool) for _ in range(40)]
    for hoarder in hoarders:
        for number in range(MAX_EARLY):
            hoarder.take(2 + 2 * number, memoryview(b"x"), False, 1.0)
    assert pool.lent <= pool.limit // 2
    assert sum(hoarder.pieces_refused for hoarder in hoarders) > 0
    newcomer = receiver(pool)
    newcomer.take(1, memoryview(b"hello"), False, 1.0)
    assert len(newcomer.buffer) == 5


def connection(port: int) -> TcpConnection:
    key = FlowKey(bytes((10, 0, 2, 100)), port, REMOTE, 80)
    return TcpConnection(key, mss=1460, max_payload=0, iss=0, mark=lambda it: None, pool=RingPool())


def test_timers_that_are_all_due_at_once_are_seen_to_by_shares() -> None:
    held = Timers()
    made = [connection(port) for port in range(3 * DUE_MAX)]
    for each in made:
        each.deadline = 5.0
        held.schedule(each)
    seen: list[TcpConnection] = []
    while held.deadline <= 5.0:
        due = held.due(5.0)
        assert 0 < len(due) <= DUE_MAX
        for each in due:
            each.deadline = 9.0
            held.schedule(each)
        seen += due
    assert seen == made


def test_deadlines_that_move_back_and_forth_do_not_let_the_heap_grow() -> None:
    held = Timers()
    made = [connection(port) for port in range(50)]
    for number in range(200_000 // 50):
        for each in made:
            each.deadline = 1e9 - number  # earlier each time: a new entry each time
            held.schedule(each)
    assert len(held) <= 2 * timers.SWEEP_AT + len(made)


def test_names_cost_the_same_when_the_pool_is_full_and_its_addresses_come_round_again() -> None:
    pool = NamePool()
    names = (b"%d.example" % number for number in range(10**9))
    few = min(cost_s(lambda _: pool.address_for(next(names), 4), 500) for _ in range(3))
    kept = [b"kept%d.example" % number for number in range(NAMES_MAX - 1)]
    for name in kept:
        pool.address_for(name, 4)
    assert min(cost_s(lambda _: pool.address_for(next(names), 4), 500) for _ in range(3)) < 8 * few


def test_a_question_beyond_the_bound_is_refused_at_a_bounded_cost() -> None:
    lookups = Lookups(lambda name, kind, done: None)
    failed: list[bool] = []

    def ask(number: int) -> None:
        lookups.ask(b"%d.example" % number, "A", 1.0, lambda outcome: failed.append(outcome.failed))

    cost_s(ask, 300)
    assert min(cost_s(ask, 100) for _ in range(3)) / 100 < 0.002
    assert failed
    assert all(failed)
