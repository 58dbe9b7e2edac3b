# SPDX-License-Identifier: GPL-3.0-or-later
"""A socket between two rings, without any handshake before it."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE_S
from tests.upstream.harness import Loop
from tests.upstream.socks_server import Server, read_exactly, serving
from torbox.netstack.ring import Ring, RingPool
from torbox.upstream import socket_stream
from torbox.upstream.interface import Resolution, StreamOwner, Target
from torbox.upstream.socket_stream import SocketStream

NOWHERE = Target(bytes(4), b"", 0)  # these streams go where their server is


class Direct:
    """The simplest upstream: a socket that is open as soon as it is connected."""

    takes_names = takes_onions = takes_ipv6 = False

    def __init__(self, loop: Loop, server: Server) -> None:
        self._reactor = loop.reactor
        self._server = server
        self._streams: set[SocketStream] = set()

    def __len__(self) -> int:
        return len(self._streams)

    def open_stream(self, target: Target, rx: Ring, tx: Ring, owner: StreamOwner) -> SocketStream:
        server = self._server
        family = socket.AF_UNIX if server.path else socket.AF_INET
        address = server.path or ("127.0.0.1", server.port)
        stream = SocketStream(self._reactor, family, address, rx, tx, owner, 30, self._streams.discard)
        self._streams.add(stream)
        return stream

    def resolve(self, name: bytes, kind: str, done: Callable[[Resolution], None]) -> None:
        raise AssertionError

    def close(self) -> None:
        raise AssertionError


@pytest.fixture(params=["tcp", "unix"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "far_end") if request.param == "unix" else ""


def test_the_far_end_may_finish_first_and_still_listen(loop: Loop, path: str) -> None:
    received: list[bytes] = []

    def far_end(sock: socket.socket) -> None:
        sock.sendall(b"all I have")
        sock.shutdown(socket.SHUT_WR)
        received.append(read_exactly(sock, 300_000))
        assert sock.recv(1) == b""
        received.append(b"end")

    with serving(far_end, path) as server:
        upstream = Direct(loop, server)
        guest = loop.guest(upstream, NOWHERE)
        loop.hear(guest, "eof")
        assert guest.take() == b"all I have"
        guest.send(b"x" * 300_000)
        loop.until(lambda: not len(guest.rx))
        guest.finish()
        loop.until(lambda: received[1:])
        assert len(upstream) == 0
    assert received == [b"x" * 300_000, b"end"]
    assert guest.heard == ["connected", "eof"]


def test_a_guest_that_never_finishes_is_ended_when_the_far_end_is_gone_and_it_has_all(
    loop: Loop, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_stream, "FIN_WAIT_S", 1)

    def far_end(sock: socket.socket) -> None:
        if not path:  # how long its kernel remembers it, seconds
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_LINGER2, 1)
        sock.sendall(b"all I have")

    with serving(far_end, path) as server:
        upstream = Direct(loop, server)
        guest = loop.guest(upstream, NOWHERE)
        loop.hear(guest, "eof")
        end = loop.reactor.now + 2.5
        loop.until(lambda: loop.reactor.now > end)
        assert guest.heard == ["connected", "eof"], "what it has not taken is not taken from it"
        assert guest.take() == b"all I have"
        loop.hear(guest, "broken")
        assert len(upstream) == 0


def test_a_far_end_that_still_listens_is_waited_for(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_stream, "FIN_WAIT_S", 1)

    def far_end(sock: socket.socket) -> None:
        sock.shutdown(socket.SHUT_WR)
        sock.recv(1)

    with serving(far_end) as server:
        guest = loop.guest(Direct(loop, server), NOWHERE)
        loop.hear(guest, "eof")
        end = loop.reactor.now + 2.5
        loop.until(lambda: loop.reactor.now > end)
        assert guest.heard == ["connected", "eof"]
        guest.finish()


def test_the_guest_may_finish_first_and_still_receive(loop: Loop, path: str) -> None:
    def far_end(sock: socket.socket) -> None:
        question = b""
        while more := sock.recv(100):
            question += more
        sock.sendall(question * 50_000)

    with serving(far_end, path) as server:
        guest = loop.guest(Direct(loop, server), NOWHERE)
        guest.send(b"abcd")
        loop.hear(guest, "connected")
        guest.finish()
        loop.hear(guest, "eof")
        assert guest.take() == b"abcd" * 50_000


def test_a_server_that_dies_in_mid_stream_is_broken_not_finished(loop: Loop) -> None:
    heard = threading.Event()  # what is reset before anybody looked was never connected

    def far_end(sock: socket.socket) -> None:
        sock.sendall(b"half a fi")
        assert heard.wait(PATIENCE_S)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    with serving(far_end) as server:
        upstream = Direct(loop, server)
        guest = loop.guest(upstream, NOWHERE)
        loop.hear(guest, "connected")
        heard.set()
        loop.hear(guest, "broken")
        assert guest.heard == ["connected", "broken"]
        assert len(upstream) == len(loop.reactor) == 0


def test_an_answer_given_before_the_request_was_read_arrives(loop: Loop, path: str) -> None:
    """413 Too Large and away: what was said is delivered, and only then the loss."""

    def far_end(sock: socket.socket) -> None:
        sock.recv(10)
        sock.sendall(b"413 too large")
        sock.shutdown(socket.SHUT_WR)

    with serving(far_end, path) as server:
        guest = loop.guest(Direct(loop, server), NOWHERE)
        loop.hear(guest, "connected")
        guest.send(b"x" * (1 << 20))

        def feed() -> bool:
            if guest.rx.free:
                guest.send(b"x" * guest.rx.free)
            return "broken" in guest.heard

        loop.until(feed)
        assert guest.take() == b"413 too large"
        assert guest.heard[0] == "connected"
        assert guest.heard[-1] == "broken"
        assert len(loop.reactor) == 0


def test_back_pressure_stops_the_server_at_the_ring_and_the_kernels_buffers(loop: Loop) -> None:
    sent: list[int] = []
    stuck = threading.Event()

    def far_end(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        sock.setblocking(False)
        total = 0
        with contextlib.suppress(BlockingIOError):
            while total < 64 << 20:
                total += sock.send(bytes(65536))
                if not sent:
                    loop_reads.wait(5)
        sock.setblocking(True)
        sent.append(total)
        stuck.set()
        while total < 8 << 20:
            total += sock.send(bytes(65536))

    loop_reads = threading.Event()
    loop_reads.set()
    with serving(far_end) as server:
        guest = loop.guest(Direct(loop, server), NOWHERE, limit=100_000)
        loop.until(lambda: not guest.tx.free)
        loop.until(stuck.is_set)
        for _ in range(3):
            guest.marked = True
            loop.turn(loop.reactor.now)
        assert len(guest.tx) == 100_000
        total = 0

        def drain() -> bool:
            nonlocal total
            total += len(guest.take())
            return "eof" in guest.heard and not len(guest.tx)

        loop.until(drain)
        assert total >= 8 << 20


def test_a_guest_that_outruns_the_server_is_held_in_its_ring(loop: Loop) -> None:
    go = threading.Event()
    received: list[int] = []

    def far_end(sock: socket.socket) -> None:
        go.wait(20)
        total = 0
        while more := sock.recv(1 << 20):
            total += len(more)
        received.append(total)

    with serving(far_end) as server:
        guest = loop.guest(Direct(loop, server), NOWHERE)
        loop.hear(guest, "connected")
        total = 0
        while True:
            total += guest.rx.write(bytes(guest.rx.free))
            before = len(guest.rx)
            guest.marked = True
            loop.turn(loop.reactor.now)
            if len(guest.rx) == before and not guest.marked:
                break
            assert total < 64 << 20
        assert len(guest.rx) == 1 << 20
        go.set()
        loop.until(lambda: not len(guest.rx))
        guest.finish()
        loop.hear(guest, "eof")
        loop.until(lambda: received)
    assert received == [total]


def test_one_busy_stream_stops_for_the_others_each_turn(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    share = 8192
    monkeypatch.setattr(socket_stream, "FAIR_SHARE", share)

    def far_end(sock: socket.socket) -> None:
        sock.sendall(bytes(1 << 20))
        while sock.recv(65536):
            pass

    with serving(far_end) as server:
        guest = loop.guest(Direct(loop, server), NOWHERE)
        loop.hear(guest, "connected")
        guest.send(bytes(1 << 20))
        total = turns = 0

        def drain() -> bool:
            nonlocal total, turns
            arrived = len(guest.take())
            assert arrived <= share
            total += arrived
            turns += arrived > 0
            return total == 1 << 20 and guest.rx_empty()

        loop.until(drain)
        assert turns >= (1 << 20) // share
        assert guest.fair_stops > 0


@pytest.mark.parametrize("ends", ["finishes", "waits", "aborts"])
def test_a_stream_that_stopped_for_the_others_says_that_more_comes_until_it_does(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """TCP keeps the scrap behind the last whole packet for that; else it would wait for ever."""
    share = 8192
    monkeypatch.setattr(socket_stream, "FAIR_SHARE", share)
    go_on = threading.Event()

    def far_end(sock: socket.socket) -> None:
        sock.sendall(bytes(2 * share))
        if ends != "finishes":
            go_on.wait(PATIENCE_S)

    with serving(far_end) as server:
        guest = loop.guest(Direct(loop, server), NOWHERE)
        loop.hear(guest, "connected")
        loop.until(lambda: guest.fair_stops)
        assert guest.tx.more
        if ends == "aborts":
            assert guest.stream is not None
            guest.stream.abort()
            assert not guest.tx.more
        else:
            loop.until(lambda: len(guest.tx) == 2 * share and not guest.marked)
            assert not guest.tx.more
        go_on.set()


def test_the_guests_reset_reaches_the_server_as_a_reset(loop: Loop) -> None:
    errors: list[int | None] = []

    def far_end(sock: socket.socket) -> None:
        try:
            sock.recv(1)
            errors.append(None)
        except OSError as error:
            errors.append(error.errno)

    with serving(far_end) as server:
        upstream = Direct(loop, server)
        guest = loop.guest(upstream, NOWHERE)
        loop.hear(guest, "connected")
        assert guest.stream is not None
        guest.stream.abort()
        guest.stream.abort()
        assert len(upstream) == len(loop.reactor) == 0
        loop.until(lambda: errors)
    assert errors == [errno.ECONNRESET]
    assert guest.heard == ["connected"]


def test_a_request_through_a_nagling_far_end_does_not_wait_for_a_delayed_acknowledgement(loop: Loop) -> None:
    """An answer in two small writes takes 40 ms unless the first is acknowledged at once."""

    def far_end(sock: socket.socket) -> None:
        while request := sock.recv(1000):
            for _ in range(2):
                sock.sendall(request)

    with serving(far_end) as server:
        guest = loop.guest(Direct(loop, server), NOWHERE)
        loop.hear(guest, "connected")
        began = loop.reactor.now
        for _ in range(40):
            guest.send(b"x" * 100)
            loop.until(lambda: len(guest.tx) == 200)
            guest.take()
        assert loop.reactor.now - began < 40 * 0.02


def test_a_reset_noticed_by_a_send_is_not_taken_for_an_end_of_file(loop: Loop) -> None:
    """The kernel tells of a reset once; a read after it finds what looks like an orderly end."""
    go, gone = threading.Event(), threading.Event()

    def far_end(sock: socket.socket) -> None:
        go.wait(10)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        sock.close()
        gone.set()

    with serving(far_end) as server:
        guest = loop.guest(Direct(loop, server), NOWHERE)
        loop.hear(guest, "connected")
        go.set()
        assert gone.wait(10)
        guest.send(b"hello")
        loop.hear(guest, "broken")
        assert guest.heard == ["connected", "broken"]


def test_a_ring_that_gets_no_memory_tries_again_by_itself(loop: Loop) -> None:
    """All memory of the rings is with others, so no acknowledgement will ever mark this stream."""

    def far_end(sock: socket.socket) -> None:
        sock.sendall(b"hello")
        sock.recv(1)

    pool = RingPool(limit=1 << 16, spare_limit=0)
    hog = Ring(1 << 16, 1 << 16, pool)
    hog.write(bytes(1 << 16))
    with serving(far_end) as server:
        upstream = Direct(loop, server)
        guest = loop.guest(upstream, NOWHERE, pool=pool)
        loop.hear(guest, "connected")
        for _ in range(5):
            loop.turn(loop.reactor.now + 0.01)
        assert len(guest.tx) == 0
        hog.clear()
        loop.until(lambda: guest.take() == b"hello")


def test_waiting_for_memory_ends_with_the_stream(loop: Loop) -> None:
    pool = RingPool(limit=0)
    with serving(lambda sock: sock.sendall(b"hello")) as server:
        guest = loop.guest(Direct(loop, server), NOWHERE, pool=pool)
        loop.hear(guest, "connected")
        loop.until(lambda: loop.reactor.deadline < loop.reactor.now + 1)
        assert guest.stream is not None
        guest.stream.abort()
        loop.until(lambda: loop.reactor.deadline > loop.reactor.now + 1)
        assert guest.heard == ["connected"]
