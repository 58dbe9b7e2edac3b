# SPDX-License-Identifier: GPL-3.0-or-later
"""The ends of connections: each side's beginning, end, reset and slowness reaches the other."""

from __future__ import annotations

import gc
import hashlib
import os
import random
import socket
import threading
from pathlib import Path

import pytest

from tests.relay.guest import SITE, World, is_open, is_reset, read, tor_at, world, write
from tests.upstream.socks_server import TorLike, echo, serving
from torbox.netstack.stack import StackConfig
from torbox.netstack.tcp.connection import TcpConnection
from torbox.netstack.tcp.state import State
from torbox.relay import flow

BLOCK = random.Random(2).randbytes(1 << 20)


def test_the_syn_is_answered_only_when_the_far_end_is_connected() -> None:
    go = threading.Event()

    class Slow(TorLike):
        def __call__(self, sock: socket.socket) -> None:
            go.wait(10)
            super().__call__(sock)

    with serving(Slow(echo)) as server, world(tor_at(server)) as it:
        connection = it.guest.connect(SITE)
        for _ in range(10):
            it.turn()
        assert connection.state is State.SYN_SENT
        go.set()
        it.until(lambda: is_open(connection))


def test_a_guest_that_gives_up_before_the_far_end_is_connected_leaves_nothing() -> None:
    go = threading.Event()

    def never(sock: socket.socket) -> None:
        go.wait(10)

    with serving(never) as server, world(tor_at(server)) as it:
        connection = it.guest.connect(SITE)
        it.until(lambda: it.relay.counters.flows == 1)
        # Linux says nothing when a connecting program is killed, so this guest falls silent, too.
        connection.vanish()
        it.until(lambda: it.relay.counters.flows == 0)
        assert len(it.relay._upstream) == 0  # type: ignore[arg-type]
        assert not it.guest.device.errors
        go.set()


def test_a_far_end_that_is_lost_resets_the_guest_after_what_had_come() -> None:
    """Data and reset are found in one turn, and the guest still gets the data first."""
    go, gone = threading.Event(), threading.Event()

    def far_end(sock: socket.socket) -> None:
        go.wait(10)
        # Or it would wait for its handshake's last words to be acknowledged, and be lost when all is lost.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(b"half a fi")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        sock.close()
        gone.set()

    with serving(TorLike(far_end)) as server, world(tor_at(server)) as it:
        connection = it.opened(SITE)
        go.set()
        assert gone.wait(10)
        received = b""

        def drained() -> bool:
            nonlocal received
            received += read(connection)
            return is_reset(connection)

        it.until(drained)
        assert received == b"half a fi"
        assert it.relay.counters.lost == 1
        assert it.relay.counters.flows == 0


def test_a_guest_that_takes_nothing_of_what_had_come_is_reset_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flow, "LOST_LINGER_S", 0.05)

    def far_end(sock: socket.socket) -> None:
        sock.sendall(BLOCK + BLOCK[:500_000])  # a full ring in the guest, and half a ring here
        sock.recv(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    with serving(TorLike(far_end)) as server, world(tor_at(server)) as it:
        connection = it.opened(SITE)
        (outside,) = it.relay.stack.connections.values()
        it.until(lambda: len(connection.rcv_buf) + len(outside.snd_buf) >= len(BLOCK) + 500_000)
        assert len(outside.snd_buf) > 0
        write(connection, b"x")
        it.until(lambda: is_reset(connection))
        assert it.relay.counters.lost == 1
        assert it.relay.counters.flows == 0


def test_a_tor_that_is_killed_resets_the_guest() -> None:
    killed = threading.Event()

    def far_end(sock: socket.socket) -> None:
        sock.sendall(b"half a fi")
        killed.wait(10)

    with serving(TorLike(far_end)) as server, world(tor_at(server)) as it:
        connection = it.opened(SITE)
        it.until(lambda: len(connection.rcv_buf) == 9)
        server.socket.shutdown(socket.SHUT_RDWR)
        server.socket.close()
        killed.set()
        it.until(lambda: is_reset(connection))
        it.guest.connect(SITE)
        it.until(lambda: it.guest.device.errors)
        assert it.guest.device.errors == [(4, 3, 0)]


def test_a_guest_that_resets_resets_the_far_end() -> None:
    errors: list[type[BaseException] | None] = []

    def far_end(sock: socket.socket) -> None:
        try:
            sock.recv(1)
            errors.append(None)
        except OSError as error:
            errors.append(type(error))

    with serving(TorLike(far_end)) as server, world(tor_at(server)) as it:
        connection = it.opened(SITE)
        connection.abort()
        it.until(lambda: errors)
        assert errors == [ConnectionResetError]
        assert it.relay.counters.flows == 0


@pytest.mark.parametrize("guest_first", [True, False])
def test_half_closed_connections_carry_the_other_half(guest_first: bool) -> None:
    heard: list[bytes] = []

    def far_end(sock: socket.socket) -> None:
        if guest_first:
            heard.append(sock.makefile("rb").read())
            sock.sendall(BLOCK)
        else:
            sock.sendall(BLOCK)
            sock.shutdown(socket.SHUT_WR)
            heard.append(sock.makefile("rb").read())

    with serving(TorLike(far_end)) as server, world(tor_at(server)) as it:
        connection = it.opened(SITE)
        if guest_first:
            write(connection, b"question")
            connection.close()
        received = b""

        def drained() -> bool:
            nonlocal received
            received += read(connection)
            return connection.guest_finished and len(received) == len(BLOCK)

        it.until(drained)
        assert received == BLOCK
        if not guest_first:
            write(connection, b"question")
            connection.close()
        it.until(lambda: heard and it.relay.counters.flows == 0)
        assert heard == [b"question"]
        assert not connection.was_reset


def test_what_the_guest_sent_before_it_closed_arrives_though_the_far_end_is_slow(tmp_path: Path) -> None:
    """The connection is over in good order while its last bytes still wait in the ring."""
    go = threading.Event()
    heard: list[bytes] = []
    size = 900_000  # more than the kernel holds for a Unix socket, and the rest less than a ring

    def far_end(sock: socket.socket) -> None:
        sock.shutdown(socket.SHUT_WR)
        go.wait(10)
        heard.append(sock.makefile("rb").read())

    with serving(TorLike(far_end), str(tmp_path / "socks")) as server, world(tor_at(server)) as it:
        connection = it.opened(SITE)
        it.until(lambda: connection.guest_finished)
        (outside,) = it.relay.stack.connections.values()
        assert write(connection, BLOCK[:size]) == size
        connection.close()
        it.until(lambda: outside.state is State.CLOSED)
        assert len(outside.rcv_buf) > 0
        assert not it.relay.stack.connections
        assert it.relay.counters.flows == 1
        go.set()
        it.until(lambda: heard)
        assert heard == [BLOCK[:size]]
        it.until(lambda: it.relay.counters.flows == 0)


def deaf(go: threading.Event, finishes: bool) -> TorLike:
    """A far end that reads nothing; its own side is finished or not."""

    def far_end(sock: socket.socket) -> None:
        if finishes:
            sock.shutdown(socket.SHUT_WR)
        go.wait(20)

    return TorLike(far_end)


def left_behind(it: World, size: int) -> TcpConnection:
    """A connection into which the guest writes more than is taken, and which it then closes."""
    connection = it.opened(SITE)
    assert write(connection, BLOCK[:size]) == size
    connection.close()
    return connection


def test_what_a_far_end_never_takes_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "WATCH_S", 0.2)
    go = threading.Event()
    with serving(deaf(go, True), str(tmp_path / "socks")) as server, world(tor_at(server)) as it:
        connection = it.opened(SITE)
        it.until(lambda: connection.guest_finished)
        (outside,) = it.relay.stack.connections.values()
        assert write(connection, BLOCK[:900_000]) == 900_000
        connection.close()
        it.until(lambda: it.relay.counters.flows == 0)
        assert it.relay.counters.cut == 1
        assert len(it.relay._upstream) == 0  # type: ignore[arg-type]
        assert not len(outside.rcv_buf)
        go.set()


def test_what_a_far_end_takes_slowly_is_not_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "WATCH_S", 0.3)
    heard: list[int] = []

    def far_end(sock: socket.socket) -> None:
        sock.shutdown(socket.SHUT_WR)
        total = 0
        while data := sock.recv(60_000):
            total += len(data)
            threading.Event().wait(0.1)
        heard.append(total)

    with serving(TorLike(far_end), str(tmp_path / "socks")) as server, world(tor_at(server)) as it:
        connection = it.opened(SITE)
        it.until(lambda: connection.guest_finished)
        assert write(connection, BLOCK[:900_000]) == 900_000
        connection.close()
        it.until(lambda: heard)
        assert heard == [900_000]
        assert it.relay.counters.cut == 0


def test_a_guest_that_has_finished_is_asked_whether_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that still waits for an answer may wait for ever; one whose kernel has forgotten it may not."""
    monkeypatch.setattr(flow, "WATCH_S", 0.1)
    go = threading.Event()
    with serving(deaf(go, False)) as server, world(tor_at(server)) as it:
        connection = it.opened(SITE)
        connection.close()
        it.until(lambda: connection.state is State.FIN_WAIT_2)
        received = it.relay.stack.counters.packets_from_guest
        it.until(lambda: it.relay.stack.counters.packets_from_guest >= received + 3)
        assert it.relay.counters.flows == 1
        connection.vanish()  # as Linux does after 60 s, if nobody holds it
        it.until(lambda: it.relay.counters.flows == 0)
        assert len(it.relay._upstream) == 0  # type: ignore[arg-type]
        go.set()


def test_a_guest_that_has_gone_without_a_word_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "KEEPALIVE", (0.1, 0.05, 2))
    with serving(TorLike(echo)) as server, world(tor_at(server)) as it:
        silent, other = it.opened(SITE), it.opened(SITE)
        at = it.relay.reactor.now
        while it.relay.reactor.now < at + 0.5:
            it.turn()
        assert is_open(silent), "a guest that answers is there"
        kept = it.relay.counters.flows
        del it.guest.stack.connections[next(iter(it.guest.stack.connections))]  # as if a container had gone
        it.until(lambda: it.relay.counters.flows == kept - 1)
        assert is_open(other)


def test_what_the_far_end_has_not_read_yet_survives_a_guest_that_finished_and_is_gone() -> None:
    go = threading.Event()
    heard: list[bytes] = []

    def far_end(sock: socket.socket) -> None:
        go.wait(20)
        heard.append(sock.makefile("rb").read())

    with serving(TorLike(far_end)) as server, world(tor_at(server)) as it:
        connection = left_behind(it, len(BLOCK))
        it.until(lambda: connection.state is State.FIN_WAIT_2)
        (outside,) = it.relay.stack.connections.values()
        it.until(lambda: not len(outside.rcv_buf))
        connection.abort()
        it.until(lambda: it.relay.counters.flows == 0)
        go.set()
        it.until(lambda: heard)
        assert heard == [BLOCK]


@pytest.mark.parametrize("finishes", [True, False])
def test_what_guests_leave_behind_is_bounded_and_the_oldest_goes_first(
    tmp_path: Path, finishes: bool
) -> None:
    go = threading.Event()
    with (
        serving(deaf(go, finishes), str(tmp_path / "socks")) as server,
        world(tor_at(server), max_finished=3) as it,
    ):
        outside: list[TcpConnection] = []
        for number in range(8):
            left_behind(it, 900_000)
            outside += [each for each in it.relay.stack.connections.values() if each not in outside]
            assert len(outside) == number + 1
            it.until(lambda newest=outside[-1]: newest.guest_finished)  # type: ignore[misc]
            it.turn()
        assert it.relay.counters.flows == 3
        assert len(it.relay._upstream) <= 4  # type: ignore[arg-type]  # one may be asking whether Tor lives
        assert it.relay.counters.cut == 5
        assert [len(each.rcv_buf) > 0 for each in outside] == [False] * 5 + [True] * 3
        go.set()


def test_back_pressure_reaches_from_the_guest_to_the_far_end_and_back() -> None:
    """Neither ring grows beyond its limit however long the other side does not read."""
    limit = 100_000
    blocked_at: list[int] = []

    def far_end(sock: socket.socket) -> None:
        sock.settimeout(0.3)
        total = 0
        try:
            while True:
                total += sock.send(BLOCK)
        except TimeoutError:
            blocked_at.append(total)
        sock.settimeout(20)
        while sock.recv(1 << 20):
            pass

    config = StackConfig(ring_limit=limit)
    with serving(TorLike(far_end)) as server, world(tor_at(server), stack_config=config) as it:
        connection = it.opened(SITE)
        (outside,) = it.relay.stack.connections.values()

        def stuck() -> bool:
            assert len(outside.snd_buf) <= limit
            assert len(outside.rcv_buf) <= limit
            return bool(blocked_at)

        it.until(stuck)
        assert len(outside.snd_buf) == limit
        total = 0

        def drained() -> bool:
            nonlocal total
            total += len(read(connection))
            return total == blocked_at[0]

        it.until(drained)


def test_megabytes_arrive_whole_both_ways_on_many_connections() -> None:
    size = 3 << 20
    with serving(TorLike(echo)) as server, world(tor_at(server)) as it:
        connections = [it.opened(SITE) for _ in range(8)]
        sent = [0] * len(connections)
        digests = [hashlib.sha256() for _ in connections]
        received = [0] * len(connections)

        def done() -> bool:
            for index, connection in enumerate(connections):
                if sent[index] < size:
                    at = sent[index] % len(BLOCK)
                    sent[index] += write(connection, BLOCK[at : at + size - sent[index]])
                    if sent[index] == size:
                        connection.close()
                data = read(connection)
                digests[index].update(data)
                received[index] += len(data)
            return all(total == size for total in received)

        it.until(done)
        expected = hashlib.sha256(BLOCK * 3).hexdigest()
        assert [digest.hexdigest() for digest in digests] == [expected] * len(connections)
        it.until(lambda: it.relay.counters.flows == 0)


def test_500_connections_leave_no_descriptor_and_no_object_behind() -> None:
    with serving(TorLike(echo)) as server, world(tor_at(server)) as it:
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        gc.disable()
        try:
            for _ in range(10):
                connections = [it.guest.connect(SITE) for _ in range(50)]
                for index, connection in enumerate(connections):
                    it.until(lambda connection=connection: is_open(connection))  # type: ignore[misc]
                    write(connection, b"x" * 1000)
                    if index % 5 == 0:
                        connection.abort()
                    else:
                        connection.close()
                it.until(lambda: it.relay.counters.flows == 0)
            assert it.relay.counters.opened == 500
            assert len(it.relay._upstream) == 0  # type: ignore[arg-type]
            del connections, connection
            it.relay.stack._time_wait.clear()
            it.relay.stack.connections.clear()
            flows = sum(type(thing).__name__ in ("TcpFlow", "Socks5Stream") for thing in gc.get_objects())
            assert flows == 0, "what ended must not wait for the collector"
        finally:
            gc.enable()
        it.until(lambda: len(os.listdir("/proc/self/fd")) <= before)
