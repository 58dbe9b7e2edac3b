# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.upstream.harness import Loop
from tests.upstream.socks_server import Server, TorLike, echo, read_exactly, serving
from torbox.errors import UpstreamError
from torbox.netstack.flow import Refusal
from torbox.upstream.interface import Resolution, Target
from torbox.upstream.registry import open_upstream, parse_url, probe
from torbox.upstream.socks5_protocol import TOR_RESOLVE, TOR_RESOLVE_PTR
from torbox.upstream.tor import NEGATIVE_TTL_S, RESOLVE_TTL_S, TorUpstream, credentials_of, new_isolation

ADDRESS = bytes((93, 184, 215, 14))
ADDRESS6 = bytes.fromhex("20010db8") + bytes(12)
ONION = b"x" * 56 + b".onion"


def tor_at(loop: Loop, server: Server, isolation: bytes | None = None) -> TorUpstream:
    url = parse_url(f"tor+unix:{server.path}" if server.path else f"tor:{server.url}")
    upstream = open_upstream(url, loop.reactor, isolation or new_isolation())
    assert isinstance(upstream, TorUpstream)
    return upstream


@pytest.fixture(params=["tcp", "unix"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "socks") if request.param == "unix" else ""


def test_each_sandbox_has_a_user_and_password_of_its_own_for_all_its_streams(loop: Loop, path: str) -> None:
    tor = TorLike(echo)
    with serving(tor, path) as server:
        for isolation in (b"a" * 32, b"b" * 32):
            upstream = tor_at(loop, server, isolation)
            for name in (b"one.example", ONION):
                loop.hear(loop.guest(upstream, Target(b"", name, 80)), "connected")
            loop.resolve(upstream, b"two.example", "A")
            upstream.close()
    logins = [(asked.username, asked.password) for asked in tor.requests]
    assert logins == [(b"61" * 16, b"61" * 16)] * 3 + [(b"62" * 16, b"62" * 16)] * 3
    assert [asked.where for asked in tor.requests[:2]] == [b"one.example", ONION]


def test_isolation_is_random_and_long_enough() -> None:
    user, password = credentials_of(new_isolation())
    assert len(user) == len(password) == 32
    assert user != password
    assert credentials_of(new_isolation()) != (user, password)
    with pytest.raises(ValueError, match="32 random bytes"):
        credentials_of(b"short")


def test_a_server_without_isolation_never_learns_a_target(loop: Loop) -> None:
    """Fail closed: it answers method 00, though only 02 was offered."""
    heard = b""

    def handler(sock: socket.socket) -> None:
        nonlocal heard
        heard += sock.recv(1000)
        sock.sendall(b"\x05\x00")
        while more := sock.recv(1000):
            heard += more

    with serving(handler) as server:
        guest = loop.guest(tor_at(loop, server), Target(b"", b"secret.example", 80))
        loop.hear(guest, "refused")
        assert guest.refusal is Refusal.NET_UNREACHABLE
    assert heard == b"\x05\x01\x02"


def test_names_are_resolved_by_tor(loop: Loop, path: str) -> None:
    tor = TorLike(
        names={b"four.example": ADDRESS, b"six.example": ADDRESS6}, pointers={ADDRESS: b"host.example."}
    )
    with serving(tor, path) as server:
        upstream = tor_at(loop, server)
        assert loop.resolve(upstream, b"four.example", "A") == Resolution((ADDRESS,), RESOLVE_TTL_S)
        assert loop.resolve(upstream, b"six.example", "AAAA") == Resolution((ADDRESS6,), RESOLVE_TTL_S)
        assert loop.resolve(upstream, b"four.example", "AAAA") == Resolution((), RESOLVE_TTL_S)
        assert loop.resolve(upstream, b"six.example", "A") == Resolution((), RESOLVE_TTL_S)
        assert loop.resolve(upstream, b"none.example", "A") == Resolution((), NEGATIVE_TTL_S)
        assert loop.resolve(upstream, ADDRESS, "PTR") == Resolution((b"host.example",), RESOLVE_TTL_S)
        assert loop.resolve(upstream, ADDRESS6, "PTR") == Resolution((), NEGATIVE_TTL_S)
        assert len(upstream) == len(loop.reactor) == 0
    assert {asked.command for asked in tor.requests} == {TOR_RESOLVE, TOR_RESOLVE_PTR}
    assert {asked.port for asked in tor.requests} == {0}


def test_what_cannot_be_asked_is_a_fault_of_the_caller(loop: Loop) -> None:
    with serving(TorLike()) as server:
        upstream = tor_at(loop, server)
        for name, kind in ((b"x" * 256, "A"), (b"", "A"), (b"abc", "PTR"), (b"a.example", "MX")):
            with pytest.raises(ValueError):
                upstream.resolve(name, kind, lambda _: None)
        assert len(upstream) == 0


@pytest.mark.parametrize(
    "reply",
    [b"\x05\x01", b"\x05\x07", b"", b"\x04\x00", b"\x05\x00\x00\x03\x01x\0\0", b"\x05\x00\x00\x07\x01x\0\0"],
)
def test_an_odd_answer_to_a_look_up_means_that_nobody_could_say(loop: Loop, reply: bytes) -> None:
    def handler(sock: socket.socket) -> None:
        read_exactly(sock, 3)
        sock.sendall(b"\x05\x02")
        read_exactly(sock, 2 + 32 + 1 + 32)
        sock.sendall(b"\x01\x00")
        read_exactly(sock, 4 + 1 + 9 + 2)
        sock.sendall(reply)

    with serving(handler) as server:
        assert loop.resolve(tor_at(loop, server), b"a.example", "A").failed


def test_a_pointer_without_a_name_is_no_answer(loop: Loop) -> None:
    with serving(TorLike(pointers={ADDRESS: b""})) as server:
        assert loop.resolve(tor_at(loop, server), ADDRESS, "PTR").failed


def test_the_end_of_a_stream_is_believed_while_tor_lives(loop: Loop, path: str) -> None:
    tor = TorLike(lambda sock: sock.sendall(b"whole file"))
    with serving(tor, path) as server:
        upstream = tor_at(loop, server)
        guests = [loop.guest(upstream, Target(b"", b"a.example", 80)) for _ in range(20)]
        for guest in guests:
            loop.hear(guest, "eof")
            assert guest.heard == ["connected", "eof"]
            assert guest.take() == b"whole file"
            guest.finish()
        assert len(upstream) == len(loop.reactor) == 0


def test_the_end_of_a_stream_is_a_reset_when_tor_was_killed(loop: Loop, path: str) -> None:
    """A kernel ends the streams of a killed process in good order, and half a file would look whole."""
    server: Server

    def dies(sock: socket.socket) -> None:
        sock.sendall(b"half a fi")
        killed.wait(10)
        server.socket.close()  # what the kernel does for the dead, in whatever order

    killed = threading.Event()
    with serving(TorLike(dies), path) as server:
        upstream = tor_at(loop, server)
        guest = loop.guest(upstream, Target(b"", b"a.example", 80))
        loop.until(lambda: len(guest.tx) == 9)
        with contextlib.suppress(OSError):
            server.socket.shutdown(socket.SHUT_RDWR)
        killed.set()
        loop.hear(guest, "broken")
        assert guest.heard == ["connected", "broken"]
        assert len(upstream) == len(loop.reactor) == 0


def test_a_probe_takes_a_tor_and_nothing_else() -> None:
    with serving(TorLike(names={b"192.0.2.1": ADDRESS})) as server:
        probe(parse_url(f"tor:{server.url}"))

    def password_proxy(sock: socket.socket) -> None:
        sock.recv(1000)
        sock.sendall(b"\x05\x02")
        sock.recv(1000)
        sock.sendall(b"\x01\x00")
        sock.recv(1000)
        sock.sendall(b"\x05\x07\x00\x01" + bytes(6))

    with serving(password_proxy) as server, pytest.raises(UpstreamError, match="not Tor") as caught:
        probe(parse_url(f"tor:{server.url}"))
    assert "socks5://" in caught.value.advice
    with pytest.raises(UpstreamError, match="not known yet"):
        probe(parse_url("tor"))


# -- the real thing ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_tor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A real tor on a Unix socket that may connect nowhere: its only bridge is a closed port of loopback."""
    if shutil.which("tor") is None:
        pytest.skip("tor is not installed")
    home = tmp_path_factory.mktemp("tor")
    home.chmod(0o700)
    torrc = home / "torrc"
    torrc.write_text(
        f"DataDirectory {home}/data\nSocksPort unix:{home}/socks\nUseBridges 1\nBridge 127.0.0.1:1\n"
        "Log notice stdout\nShutdownWaitLength 0\n"
    )
    command = [
        "tor",
        "-f",
        str(torrc),
        "--defaults-torrc",
        "/dev/null",
        "__OwningControllerProcess",
        str(os.getpid()),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "Opened Socks listener connection (ready)" in line:
            break
    drain = threading.Thread(target=process.stdout.read)
    drain.start()
    yield home / "socks"
    process.kill()
    process.wait(10)
    drain.join(10)
    process.stdout.close()


def test_a_real_tor_is_recognised_before_it_has_any_circuit(real_tor: Path) -> None:
    began = time.monotonic()
    probe(parse_url(f"tor+unix:{real_tor}"))
    assert time.monotonic() - began < 1


def test_a_real_tor_resolves_an_address_by_itself(loop: Loop, real_tor: Path) -> None:
    upstream = open_upstream(parse_url(f"tor+unix:{real_tor}"), loop.reactor, new_isolation())
    literal = loop.resolve(upstream, b"93.184.215.14", "A")
    assert literal == Resolution((ADDRESS,), RESOLVE_TTL_S)


def test_a_real_tor_refuses_an_onion_address_that_is_none(loop: Loop, real_tor: Path) -> None:
    upstream = open_upstream(parse_url(f"tor+unix:{real_tor}"), loop.reactor, new_isolation())
    guest = loop.guest(upstream, Target(b"", b"notanonion.onion", 80))
    loop.hear(guest, "refused")
    assert guest.refusal in (Refusal.HOST_UNREACHABLE, Refusal.REFUSED)  # 0xF6, or 0x01 without the flag
