# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest
import socks

from tests.upstream.harness import Loop, no_descriptors
from tests.upstream.socks_server import Server, TorLike, echo, microsocks, read_exactly, saying, serving
from torbox.netstack.flow import Refusal
from torbox.netstack.ring import Ring, RingPool
from torbox.upstream import socks5
from torbox.upstream.interface import Target
from torbox.upstream.registry import open_upstream, parse_url, probe
from torbox.upstream.socks5 import Socks5Upstream
from torbox.upstream.socks5_protocol import Reply

LOGIN = (b"joe", b"secret")
TARGET = Target(b"", b"site.example", 80)
LOOPBACK = bytes((127, 0, 0, 1))


def through(loop: Loop, server: Server, *, deadline_s: float = 30.0, login: bool = True) -> Socks5Upstream:
    place = parse_url(f"socks5+unix:{server.path}" if server.path else f"socks5:{server.url}")
    return Socks5Upstream(loop.reactor, place, LOGIN if login else None, deadline_s=deadline_s)


def grant(sock: socket.socket) -> None:
    """The whole handshake, as a server, up to the reply."""
    with sock:
        TorLike()(sock)


@pytest.fixture(params=["tcp", "unix"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "socks") if request.param == "unix" else ""


def test_a_stream_carries_bytes_both_ways_and_both_ends_of_file(loop: Loop, path: str) -> None:
    tor = TorLike(echo)
    with serving(tor, path) as server:
        upstream = through(loop, server)
        guest = loop.guest(upstream, TARGET)
        loop.hear(guest, "connected")
        guest.send(b"hello")
        loop.until(lambda: len(guest.tx) == 5)
        assert guest.take() == b"hello"
        assert len(upstream) == 1
        guest.finish()
        loop.hear(guest, "eof")
        assert guest.heard == ["connected", "eof"]
        assert len(upstream) == 0
        assert len(loop.reactor) == 0
    (asked,) = tor.requests
    assert (asked.kind, asked.where, asked.port) == (3, b"site.example", 80)
    assert (asked.username, asked.password) == LOGIN


@pytest.mark.parametrize(
    ("target", "kind", "where"),
    [
        (Target(bytes((93, 184, 215, 14)), b"", 443), 1, bytes((93, 184, 215, 14))),
        (Target(bytes(range(16)), b"", 443), 4, bytes(range(16))),
        (Target(b"", b"n" * 255, 443), 3, b"n" * 255),
        (Target(b"", b"a\r\nb\xff\xfe\x00", 443), 3, b"a\r\nb\xff\xfe\x00"),
        (Target(b"", "bücher.example".encode(), 443), 3, "bücher.example".encode()),
    ],
)
def test_targets_arrive_byte_for_byte(loop: Loop, target: Target, kind: int, where: bytes) -> None:
    tor = TorLike()
    with serving(tor) as server:
        guest = loop.guest(through(loop, server), target)
        loop.hear(guest, "eof")
    assert [(asked.kind, asked.where, asked.port) for asked in tor.requests] == [(kind, where, 443)]


def test_bytes_that_come_with_the_reply_are_the_first_of_the_stream(loop: Loop) -> None:
    with serving(saying(b"\x05\x02", b"\x01\x00", b"\x05\x00\x00\x01" + bytes(6) + b"220 ready")) as server:
        guest = loop.guest(through(loop, server), TARGET)
        loop.until(lambda: len(guest.tx) == 9)
        assert guest.take() == b"220 ready"


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 7, 8, 0xF0, 0xF4, 0xF7, 0x99])
def test_every_reply_becomes_a_refusal_and_leaves_no_socket(loop: Loop, code: int) -> None:

    with serving(TorLike(refuse=code)) as server:
        upstream = through(loop, server)
        guest = loop.guest(upstream, TARGET)
        loop.hear(guest, "refused")
        assert guest.refusal is Reply(code).refusal
        assert guest.heard == ["refused"]
        assert len(upstream) == len(loop.reactor) == 0


@pytest.mark.parametrize(
    "spoken",
    [
        (b"\x05\x00",),
        (b"\x05\xff",),
        (b"\x04\x5a" + bytes(6),),
        (b"HTTP/1.1 405 No\r\n\r\n",),
        (b"\x05\x02", b"\x01\x01"),
        (b"\x05\x02", b"\x01\x00", b"\x05\x00\x00\x09" + bytes(6)),
        (b"\x05\x02", b"\x01\x00", b"\x04\x00"),
    ],
)
def test_a_lying_server_is_a_dead_network(loop: Loop, spoken: tuple[bytes, ...]) -> None:
    with serving(saying(*spoken)) as server:
        guest = loop.guest(through(loop, server), TARGET)
        loop.hear(guest, "refused")
        assert guest.refusal is Refusal.NET_UNREACHABLE
        assert len(loop.reactor) == 0


@pytest.mark.parametrize("messages", [0, 1, 2, 3])
def test_a_server_that_hangs_up_in_the_handshake_is_a_dead_network(
    loop: Loop, messages: int, path: str
) -> None:
    spoken = (b"\x05\x02", b"\x01\x00", b"\x05\x00\x00\x01\x00")[:messages]
    with serving(saying(*spoken, hold=False), path) as server:
        guest = loop.guest(through(loop, server), TARGET)
        loop.hear(guest, "refused")
        assert guest.refusal is Refusal.NET_UNREACHABLE


def test_a_reply_one_byte_at_a_time_is_understood(loop: Loop) -> None:
    def handler(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for size, message in (
            (3, b"\x05\x02"),
            (12, b"\x01\x00"),
            (19, b"\x05\x00\x00\x03\x02hi\x00\x01abc"),
        ):
            read_exactly(sock, size)
            for byte in message:
                sock.sendall(bytes((byte,)))
        sock.recv(1)

    with serving(handler) as server:
        guest = loop.guest(through(loop, server), TARGET)
        loop.until(lambda: len(guest.tx) == 3)
        assert guest.take() == b"abc"


@pytest.mark.parametrize("dribble", [False, True])
def test_a_slow_server_gets_one_deadline_for_everything(loop: Loop, dribble: bool) -> None:
    done = threading.Event()

    def handler(sock: socket.socket) -> None:
        if dribble:
            sock.sendall(b"\x05\x02\x01\x00\x05\x00\x00\x03\xff")
            while not done.wait(0.01):
                sock.sendall(b"x")
                if len(drops) > 100:
                    return
                drops.append(1)
        done.wait(20)

    drops: list[int] = []
    with serving(handler) as server:
        upstream = through(loop, server, deadline_s=0.2)
        began = loop.reactor.now
        guest = loop.guest(upstream, TARGET)
        loop.hear(guest, "refused")
        assert guest.refusal is Refusal.TIMED_OUT
        assert 0.2 <= loop.reactor.now - began < 2
        assert len(upstream) == len(loop.reactor) == 0
        done.set()


def test_nothing_listening_is_a_dead_network(loop: Loop, free_port: int, tmp_path: Path) -> None:
    for text in (f"socks5://127.0.0.1:{free_port}", f"socks5+unix:{tmp_path}/none"):
        upstream = Socks5Upstream(loop.reactor, parse_url(text), LOGIN)
        guest = loop.guest(upstream, TARGET)
        loop.hear(guest, "refused")
        assert guest.refusal is Refusal.NET_UNREACHABLE
        assert len(upstream) == len(loop.reactor) == 0


def test_an_aborted_attempt_tells_its_owner_nothing(loop: Loop, free_port: int) -> None:
    with serving(TorLike(echo)) as server:
        upstream = through(loop, server)
        guests = [loop.guest(upstream, TARGET)]
        guests.append(
            loop.guest(
                Socks5Upstream(loop.reactor, parse_url(f"socks5://127.0.0.1:{free_port}"), None), TARGET
            )
        )
        for guest in guests:
            assert guest.stream is not None
            guest.stream.abort()
        other = loop.guest(upstream, TARGET)
        loop.hear(other, "connected")
        assert [guest.heard for guest in guests] == [[], []]
        upstream.close()
        assert len(upstream) == len(loop.reactor) == 0


def test_a_full_backlog_of_a_unix_listener_is_waited_for(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "busy")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        upstream = Socks5Upstream(loop.reactor, parse_url(f"socks5+unix:{path}"), LOGIN)
        guests = [loop.guest(upstream, TARGET) for _ in range(3)]
        loop.turn(loop.reactor.now)
        assert [guest.heard for guest in guests] == [[], [], []]

        def serve() -> None:
            for _ in guests:
                grant(listener.accept()[0])

        thread = threading.Thread(target=serve)
        thread.start()
        for guest in guests:
            loop.hear(guest, "connected")
        thread.join()
        upstream.close()


def test_without_descriptors_connections_are_refused_and_come_back_later(loop: Loop) -> None:
    with serving(TorLike(echo)) as server:
        upstream = through(loop, server)
        with no_descriptors():
            guest = loop.guest(upstream, TARGET)
        loop.hear(guest, "refused")
        assert guest.refusal is Refusal.NET_UNREACHABLE
        loop.hear(loop.guest(upstream, TARGET), "connected")
        upstream.close()


def test_500_connections_leak_no_descriptor(loop: Loop, path: str) -> None:
    with serving(TorLike(echo), path) as server:
        upstream = through(loop, server)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            guests = [loop.guest(upstream, TARGET) for _ in range(50)]
            for index, guest in enumerate(guests):
                guest.send(b"x" * (index * 1000 + 1))
            for guest in guests:
                loop.hear(guest, "connected")
            for index, guest in enumerate(guests):
                assert guest.stream is not None
                if index % 3:
                    loop.until(guest.rx_empty)
                    guest.finish()
                    loop.hear(guest, "eof")
                else:
                    guest.stream.abort()
            loop.dismiss()
        assert len(upstream) == len(loop.reactor) == 0
    # the server's own threads have gone with it
    assert len(os.listdir("/proc/self/fd")) <= before


# -- independent parties ---------------------------------------------------------------------------


@pytest.mark.parametrize("login", [False, True])
def test_microsocks_is_understood(loop: Loop, login: bool, free_port: int) -> None:
    options = ("-u", "joe", "-P", "secret") if login else ()
    user = "joe:secret@" if login else ""
    with microsocks(*options) as port, serving(echo) as far_end:
        url = parse_url(f"socks5://{user}127.0.0.1:{port}")
        probe(url)
        upstream = open_upstream(url, loop.reactor, b"")
        guest = loop.guest(upstream, Target(LOOPBACK, b"", far_end.port))
        loop.hear(guest, "connected")
        guest.send(b"ping")
        loop.until(lambda: len(guest.tx) == 4)
        guest.finish()
        loop.hear(guest, "eof")
        named = loop.guest(upstream, Target(b"", b"localhost", far_end.port))
        loop.hear(named, "connected")
        closed = loop.guest(upstream, Target(LOOPBACK, b"", free_port))
        loop.hear(closed, "refused")
        assert closed.refusal is Refusal.REFUSED
        upstream.close()


def test_the_servers_of_these_tests_satisfy_an_independent_client() -> None:
    with serving(TorLike(echo)) as server:
        client = socks.socksocket()
        client.set_proxy(socks.SOCKS5, "127.0.0.1", server.port, username="joe", password="secret")
        client.settimeout(10)
        with client:
            client.connect(("site.example", 80))
            client.sendall(b"hello")
            assert read_exactly(client, 5) == b"hello"


def test_the_generic_proxy_resolves_nothing(loop: Loop) -> None:
    upstream = Socks5Upstream(loop.reactor, parse_url("socks5://127.0.0.1:1"), None)
    assert loop.resolve(upstream, b"a.example", "A").failed
    assert (upstream.takes_names, upstream.takes_onions) == (True, False)


def test_the_deadline_leaves_room_before_the_guests_own() -> None:
    assert 63 < socks5.CONNECT_DEADLINE_S < 127


def test_what_came_behind_the_handshake_waits_for_memory_and_is_not_lost(loop: Loop) -> None:
    def speaks_first(sock: socket.socket) -> None:
        read_exactly(sock, 3)
        sock.sendall(b"\x05\x00")
        read_exactly(sock, 10)
        sock.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00" + b"220 hello")  # one write, one segment
        sock.recv(1)

    pool = RingPool(limit=1 << 16, spare_limit=0)
    hog = Ring(1 << 16, 1 << 16, pool)
    hog.write(bytes(1 << 16))
    with serving(speaks_first) as server:
        upstream = through(loop, server, login=False)
        guest = loop.guest(upstream, Target(bytes((192, 0, 2, 1)), b"", 25), pool=pool)
        loop.hear(guest, "connected")
        hog.clear()
        loop.until(lambda: guest.take() == b"220 hello")
