# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that ask for more than there is, beside one that asks for little: the relay serves both."""

from __future__ import annotations

import pytest

from tests.relay.guest import GUEST, SITE, World, is_open, read, tor_at, world, write
from tests.upstream.socks_server import Server, TorLike, echo, serving
from torbox.netstack.ring import Ring
from torbox.netstack.stack import MAX_HALF_OPEN, StackConfig
from torbox.netstack.tcp.state import State
from torbox.netstack.wire import tcp
from torbox.relay.reactor import Reactor
from torbox.upstream.interface import Stream, StreamOwner, Target, Upstream

FLOOD = 3000  # SYNs, half as many again as may wait


class Hanging:
    """A stream whose far end never says anything."""

    def __init__(self, hanging: dict[Hanging, None]) -> None:
        self._hanging = hanging
        hanging[self] = None

    def pump(self) -> bool:
        return False

    def shutdown(self) -> None:
        pass

    def unsent(self) -> int:
        return 0

    def abort(self) -> None:
        del self._hanging[self]


class HalfDead:
    """An upstream to which only `SITE` is there; whatever else is asked for hangs."""

    takes_names, takes_onions, takes_ipv6 = True, False, True

    def __init__(self, real: Upstream, hanging: dict[Hanging, None]) -> None:
        self.resolve, self.close = real.resolve, real.close
        self._real = real
        self._hanging = hanging

    def open_stream(self, target: Target, rx: Ring, tx: Ring, owner: StreamOwner) -> Stream:
        if target.address == SITE:
            return self._real.open_stream(target, rx, tx, owner)
        return Hanging(self._hanging)


def syn(remote: bytes, port: int) -> bytes:
    ports = port.to_bytes(2, "big") + b"\0\x50"
    return bytes(10) + tcp.emit(GUEST + remote, ports, 1, 0, tcp.SYN, 64000)


def send(it: World, frame: bytes) -> None:
    while not it.guest.device.write([frame]):
        it.turn()


@pytest.mark.parametrize("spread", [1, 3000], ids=["one address", "many addresses"])
def test_connects_that_hang_keep_nobody_else_from_connecting(spread: int) -> None:
    hanging: dict[Hanging, None] = {}

    def upstream(server: Server, reactor: Reactor) -> Upstream:
        return HalfDead(tor_at(server)(reactor), hanging)

    with (
        serving(TorLike(echo)) as server,
        world(lambda reactor: upstream(server, reactor), stack_config=StackConfig()) as it,
    ):
        stack = it.relay.stack
        for number in range(FLOOD):
            address = bytes((93, 1)) + (number % spread).to_bytes(2, "big")
            send(it, syn(address, 1000 + number))
            if number % 50 == 0:
                it.turn()
        it.until(lambda: stack.counters.packets_from_guest == FLOOD)
        it.turn()
        assert len(stack.half_open) == len(hanging) == MAX_HALF_OPEN
        turned_away = stack.counters.dropped.get("tcp: too many half-open connections", 0)
        assert stack.counters.half_open_gave_way + turned_away == FLOOD - MAX_HALF_OPEN
        assert (stack.counters.half_open_gave_way > 0) == (spread > 1)
        assert it.relay.counters.flows == MAX_HALF_OPEN

        connection = it.opened(SITE)
        for number in range(1000):  # it lasts
            send(it, syn(bytes((94, 1)) + (number % spread).to_bytes(2, "big"), 1000 + number))
        write(connection, b"hello")
        it.until(lambda: len(connection.rcv_buf) == 5)
        assert read(connection) == b"hello"
        assert is_open(connection)
        assert len(stack.half_open) <= MAX_HALF_OPEN
        for each in list(stack.half_open):
            assert each.state is State.SYN_RECEIVED
            each.abort()
        it.turn()
        it.until(lambda: not hanging)
        assert it.relay.counters.flows == 1


def test_one_that_connects_slowly_is_not_ended_by_a_flood_at_one_address() -> None:
    """A flood at one address fills the table many times over; who came before it and went elsewhere stays."""
    hanging: dict[Hanging, None] = {}
    config = StackConfig(max_half_open=200)
    with (
        serving(TorLike(echo)) as server,
        world(lambda reactor: HalfDead(tor_at(server)(reactor), hanging), stack_config=config) as it,
    ):
        for number in range(5):
            send(it, syn(bytes((95, 0, 0, 1)), 500 + number))
        for number in range(1000):
            send(it, syn(bytes((93, 0, 0, 1)), 1000 + number))
        for number in range(100):
            send(it, syn(bytes((96, 0, 0, number)), 1000 + number))
        it.until(lambda: it.relay.stack.counters.packets_from_guest == 1105)
        counts = [
            sum(each.key.remote_address[0] == first for each in it.relay.stack.half_open)
            for first in (95, 93, 96)
        ]
        assert counts == [5, 95, 100]
        assert it.relay.stack.counters.half_open_gave_way == 100


def test_who_gives_way_in_the_very_turn_it_came_asks_the_upstream_for_nothing() -> None:
    hanging: dict[Hanging, None] = {}
    config = StackConfig(max_half_open=1)
    with (
        serving(TorLike(echo)) as server,
        world(lambda reactor: HalfDead(tor_at(server)(reactor), hanging), stack_config=config) as it,
    ):
        for number in range(5):  # one batch
            send(it, syn(bytes((93, 0, 0, 1 + number)), 1000 + number))
        it.until(lambda: it.relay.stack.counters.tcp_opened == 5)
        assert it.relay.counters.opened == len(hanging) == 1
