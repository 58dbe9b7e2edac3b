# SPDX-License-Identifier: GPL-3.0-or-later
"""DNS at the gateway, by UDP and TCP."""

from __future__ import annotations

import socket
import struct
import threading

import dns.message
import dns.rdatatype
import pytest

from tests.relay.guest import (
    GATEWAY,
    GUEST,
    World,
    blocked,
    is_reset,
    query,
    rcode_and_data,
    read,
    tor_at,
    world,
    write,
)
from tests.upstream.socks_server import TorLike, serving
from torbox.netstack.flow import FlowKey
from torbox.netstack.tcp.connection import TcpConnection
from torbox.netstack.tcp.state import State
from torbox.relay import services
from torbox.relay.services import MAX_NOTED, MAX_QUERY, MAX_UNDER_WAY

GATEWAY6 = bytes.fromhex("fd000000000000000000000000000002")
SITE = bytes((93, 184, 215, 14))


def framed(message: bytes) -> bytes:
    return struct.pack("!H", len(message)) + message


def messages(it: World, connection: TcpConnection, count: int) -> list[bytes]:
    data = b""
    found: list[bytes] = []

    def arrived() -> bool:
        nonlocal data
        data += read(connection)
        while len(data) >= 2 and len(data) >= 2 + int.from_bytes(data[:2], "big"):
            size = int.from_bytes(data[:2], "big")
            found.append(data[2 : 2 + size])
            data = data[2 + size :]
        return len(found) >= count

    it.until(arrived)
    assert not data
    return found


@pytest.mark.parametrize("gateway", [GATEWAY, GATEWAY6], ids=["v4", "v6"])
def test_a_query_by_udp_is_answered_from_the_address_that_was_asked(gateway: bytes) -> None:
    with world(blocked, hosts={b"here.example": (SITE,)}) as it:
        answer = it.ask(query(b"here.example"), gateway)
        assert rcode_and_data(answer) == (0, SITE)
        message = dns.message.from_wire(answer)
        assert message.id == 7
        assert message.answer[0].rdtype == dns.rdatatype.A
        assert it.relay.counters.queries == 1


def test_pipelined_queries_by_tcp_are_all_answered_however_they_are_cut() -> None:
    with world(blocked, hosts={b"here.example": (SITE,)}) as it:
        connection = it.opened(GATEWAY, 53)
        stream = b"".join(framed(query(b"here.example", number=number)) for number in range(20))
        for at in range(0, len(stream), 7):
            write(connection, stream[at : at + 7])
            it.turn()
        answers = messages(it, connection, 20)
        assert [int.from_bytes(answer[:2], "big") for answer in answers] == list(range(20))
        assert {rcode_and_data(answer) for answer in answers} == {(0, SITE)}
        connection.close()
        it.until(lambda: connection.state in (State.TIME_WAIT, State.CLOSED))
        assert not connection.was_reset
        it.until(lambda: it.relay.counters.flows == 0)


def test_answers_under_way_are_waited_for_when_the_guest_has_finished() -> None:
    with (
        serving(TorLike(names={b"site.example": SITE})) as server,
        world(tor_at(server), dns_mode="tor") as it,
    ):
        connection = it.opened(GATEWAY, 53)
        write(connection, framed(query(b"site.example")))
        connection.close()
        assert rcode_and_data(messages(it, connection, 1)[0]) == (0, SITE)
        it.until(lambda: it.relay.counters.flows == 0)
        assert not connection.was_reset


def test_a_message_that_deserves_no_answer_does_not_keep_the_connection_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(services, "LINGER_S", 0.05)
    with world(blocked) as it:
        connection = it.opened(GATEWAY, 53)
        write(connection, framed(b"\0\0"))
        write(connection, framed(b""))
        write(connection, framed(query(b"a.example"))[:-3])  # and a message that never ends
        connection.close()
        it.until(lambda: it.relay.counters.flows == 0)
        it.until(lambda: connection.state in (State.TIME_WAIT, State.CLOSED))
        assert not connection.was_reset


def test_queries_under_way_on_one_connection_are_bounded_and_go_on_when_they_are_answered() -> None:
    go = threading.Event()

    class Slow(TorLike):
        def __call__(self, sock: socket.socket) -> None:
            go.wait(10)
            super().__call__(sock)

    count = MAX_UNDER_WAY + 20
    with serving(Slow()) as server, world(tor_at(server), dns_mode="tor") as it:
        connection = it.opened(GATEWAY, 53)
        write(connection, b"".join(framed(query(b"%d.example" % number)) for number in range(count)))
        it.until(lambda: it.relay.counters.queries == MAX_UNDER_WAY)
        for _ in range(5):
            it.turn()
        assert it.relay.counters.queries == MAX_UNDER_WAY
        go.set()
        assert len(messages(it, connection, count)) == count
        connection.abort()
        it.until(lambda: it.relay.counters.flows == 0)


@pytest.mark.parametrize("message", [b"", b"\0\0", b"\0\1\x80" + bytes(9)], ids=["empty", "short", "answer"])
def test_messages_that_deserve_no_answer_do_not_jam_the_connection(message: bytes) -> None:
    with world(blocked, hosts={b"here.example": (SITE,)}) as it:
        connection = it.opened(GATEWAY, 53)
        write(connection, framed(message) * (MAX_UNDER_WAY * 3) + framed(query(b"here.example")))
        assert rcode_and_data(messages(it, connection, 1)[0]) == (0, SITE)


def test_a_burst_of_queries_is_answered_by_shares_of_a_turn_and_nobody_is_left_out() -> None:
    count = services.SHARE * 4
    burst = b"".join(framed(query(b"here.example", number=number)) for number in range(count))
    with world(blocked, hosts={b"here.example": (SITE,)}) as it:
        connections = [it.opened(GATEWAY, 53) for _ in range(3)]
        outside = list(it.relay.stack.connections.values())
        for each in outside:  # as if all of it came by one packet
            each.rcv_buf.write(burst)
            it.relay.mark(each)
        before = 0
        while it.relay.counters.queries < 3 * count:
            it.relay.turn(it.relay.reactor.now)
            assert it.relay.counters.queries - before <= services.SHARE
            before = it.relay.counters.queries
        assert [len(messages(it, connection, count)) for connection in connections] == [count] * 3
        assert not it.relay.services.busy


def test_more_connections_than_a_turn_has_room_for_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those served first ask on and on; the last still gets its answers at the same pace."""
    monkeypatch.setattr(services, "SHARE", 2)
    burst = b"".join(framed(query(b"here.example", number=number)) for number in range(30))
    with world(blocked, hosts={b"here.example": (SITE,)}) as it:
        connections = [it.opened(GATEWAY, 53) for _ in range(10)]
        outside = list(it.relay.stack.connections.values())
        for each in outside:
            each.rcv_buf.write(burst)
            it.relay.mark(each)
        it.relay.turn(it.relay.reactor.now)
        while it.relay.services.busy:
            assert it.relay.busy  # or it would wait for an event
            left = [len(each.rcv_buf) for each in outside]
            assert max(left) - min(left) <= 4 * len(burst) // 30  # the first turn, and one in rotation
            before = it.relay.counters.queries
            it.relay.turn(it.relay.reactor.now)
            assert it.relay.counters.queries - before <= 2
        assert [len(messages(it, connection, 30)) for connection in connections] == [30] * 10


def test_a_query_that_waits_for_its_turn_is_answered_though_the_guest_has_finished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One question, then its FIN, as simple programs ask: beside others it must not be lost."""
    monkeypatch.setattr(services, "SHARE", 1)
    with world(blocked, hosts={b"here.example": (SITE,)}) as it:
        connections = [it.opened(GATEWAY, 53) for _ in range(5)]
        for connection in connections[:4]:
            write(connection, framed(query(b"here.example")))
        write(connections[4], framed(b"\0\0"))  # one that deserves none
        for connection in connections:
            connection.close()
        for connection in connections[:4]:
            assert rcode_and_data(messages(it, connection, 1)[0]) == (0, SITE)
        it.until(lambda: it.relay.counters.flows == 0)
        assert not any(connection.was_reset for connection in connections)


def test_no_event_is_waited_for_while_queries_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "SHARE", 1)
    with world(blocked, hosts={b"here.example": (SITE,)}) as it:
        connections = [it.opened(GATEWAY, 53) for _ in range(3)]
        for each in it.relay.stack.connections.values():
            each.rcv_buf.write(framed(query(b"here.example")))
            it.relay.mark(each)
        it.relay.turn(it.relay.reactor.now)
        asked_to_wait: list[float] = []
        turn = it.relay.reactor.turn

        def watched(until: float, *, spin: bool = False) -> int:
            asked_to_wait.append(until - it.relay.reactor.now)
            return turn(it.relay.reactor.now)

        monkeypatch.setattr(it.relay.reactor, "turn", watched)
        while it.relay.services.busy:
            it.relay.turn()
        assert asked_to_wait == [0.0, 0.0]
        monkeypatch.undo()
        assert [len(messages(it, connection, 1)) for connection in connections] == [1, 1, 1]


def test_a_connection_that_is_reset_while_it_waits_is_waited_for_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(services, "SHARE", 1)
    with world(blocked, hosts={b"here.example": (SITE,)}) as it:
        connections = [it.opened(GATEWAY, 53) for _ in range(3)]
        outside = list(it.relay.stack.connections.values())
        for each in outside:
            each.rcv_buf.write(framed(query(b"here.example")) * 50)
            it.relay.mark(each)
        it.relay.turn(it.relay.reactor.now)
        assert it.relay.services.busy
        for connection in connections:
            connection.abort()
        it.until(lambda: it.relay.counters.flows == 0)
        assert not it.relay.services.busy
        assert it.relay.counters.queries < 150


def test_a_message_that_is_too_long_ends_the_connection() -> None:
    with world(blocked) as it:
        connection = it.opened(GATEWAY, 53)
        write(connection, framed(bytes(MAX_QUERY + 1))[:100])
        it.until(lambda: is_reset(connection))
        assert it.relay.counters.queries_dropped == 1
        assert it.relay.counters.flows == 0


def test_a_guest_that_asks_without_reading_is_asked_to_wait() -> None:
    with world(blocked, hosts={b"here.example": (SITE,)}) as it:
        connection = it.opened(GATEWAY, 53)
        connection.rcv_buf.write(bytes(connection.rcv_buf.free))  # its window is closed
        (outside,) = it.relay.stack.connections.values()
        outside.sender.wnd = 0
        outside.snd_buf.write(bytes(services.UNREAD_MAX + 1))  # as if the answers of a long time were unread
        write(connection, framed(query(b"here.example")) * 3)
        it.until(lambda: len(outside.rcv_buf) > 0)
        it.turn()
        assert it.relay.counters.queries == 0
        outside.snd_buf.consume(10)
        it.relay.mark(outside)
        it.turn()
        assert it.relay.counters.queries > 0
        assert it.relay.counters.queries_dropped == 0
        connection.abort()
        it.until(lambda: it.relay.counters.flows == 0)


def test_questions_may_not_take_the_memory_that_others_need() -> None:
    with world(blocked) as it:
        connection = it.opened(GATEWAY, 53)
        (outside,) = it.relay.stack.connections.values()
        assert outside.rcv_buf.limit == outside.snd_buf.limit == services.RING_MAX
        for _ in range(3):  # the window that was announced on opening is that small
            it.turn()
        assert connection.sender.wnd <= services.RING_MAX


def test_a_guest_whose_answers_find_no_room_is_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "UNREAD_MAX", 1 << 30)
    with world(blocked, hosts={b"here.example": (SITE,)}) as it:
        connection = it.opened(GATEWAY, 53)
        (outside,) = it.relay.stack.connections.values()
        outside.snd_buf.write(bytes(outside.snd_buf.free))
        write(connection, framed(query(b"here.example")))
        it.until(lambda: it.relay.counters.queries_dropped)
        it.until(lambda: read(connection) == b"" and is_reset(connection))
        assert it.relay.counters.flows == 0


def test_a_guest_that_resets_the_connection_leaves_nothing() -> None:
    with (
        serving(TorLike(names={b"site.example": SITE})) as server,
        world(tor_at(server), dns_mode="tor") as it,
    ):
        connection = it.opened(GATEWAY, 53)
        write(connection, framed(query(b"site.example")))
        it.until(lambda: it.relay.counters.queries == 1)
        connection.abort()
        it.until(lambda: it.relay.counters.flows == 0)
        it.until(lambda: len(it.relay._upstream) == 0)  # type: ignore[arg-type]


def test_a_flood_of_queries_in_one_turn_is_cut_off() -> None:
    with world(blocked) as it:
        key = FlowKey(GUEST, 5000, GATEWAY, 53)
        for number in range(MAX_NOTED + 10):
            assert it.relay.udp_arrived(key, memoryview(query(b"a.example", number=number)))
        assert it.relay.udp_arrived(key, memoryview(bytes(MAX_QUERY + 1)))
        assert it.relay.counters.queries_dropped == 11
        it.until(lambda: len(it.guest.datagrams) == MAX_NOTED)
        assert not it.relay.udp_arrived(key._replace(remote_port=54), memoryview(b""))
        assert not it.relay.udp_arrived(key._replace(remote_address=SITE), memoryview(b""))


def test_with_dns_off_queries_are_refused() -> None:
    with world(blocked, dns_mode="off", hosts={b"here.example": (SITE,)}) as it:
        assert rcode_and_data(it.ask(query(b"a.example")))[0] == 5
        assert rcode_and_data(it.ask(query(b"here.example"))) == (0, SITE)


def test_a_look_up_that_the_upstream_cannot_make_is_a_failure_to_the_guest() -> None:
    with world(blocked, dns_mode="tor") as it:
        assert rcode_and_data(it.ask(query(b"a.example")))[0] == 2
