# SPDX-License-Identifier: GPL-3.0-or-later
"""Cookies of the sandbox's own, of a real X server, and what a program without trust can do on it."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import display
from tests.support.display import Display
from torbox.desktop import x11
from torbox.desktop.x11 import Cookie
from torbox.errors import SetupError

needs_a_server = pytest.mark.skipif(bool(display.missing()), reason=f"needs {display.missing()}")


@pytest.fixture(scope="module")
def screen() -> Iterator[Display]:
    with display.display(os.getuid()) as found:
        yield found


def server_of(screen: Display) -> str:
    return f"{x11.SOCKETS}/X{screen.name[1:]}"


def extensions(screen: Display, cookie: bytes, tmp_path: Path) -> str:
    """What a program that has just this cookie is told."""
    file = tmp_path / "cookie"
    entry = Cookie(0xFFFF, b"", screen.name[1:].encode(), b"MIT-MAGIC-COOKIE-1", cookie)
    file.write_bytes(x11.emit(entry))
    environment = {**os.environ, **screen.environment, "XAUTHORITY": str(file)}
    return subprocess.run(["xdpyinfo"], env=environment, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("display", "number"),
    [
        (":0", 0),
        (":12.1", 12),
        ("unix:3", 3),
        ("", None),
        ("localhost:10.0", None),
        (":x", None),
        ("a:1", None),
    ],
)
def test_a_display_of_this_machine_has_a_number(display: str, number: int | None) -> None:
    assert x11.display_number(display) == number


def test_a_file_of_cookies_is_read_as_it_is_written_and_up_to_where_it_is_damaged() -> None:
    cookies = [
        Cookie(256, b"host", b"0", b"MIT-MAGIC-COOKIE-1", bytes(16)),
        Cookie(0xFFFF, b"", b"", b"x", b""),
    ]
    content = b"".join(map(x11.emit, cookies))
    assert list(x11.parse(content)) == cookies
    for end in range(len(content)):
        assert list(x11.parse(content[:end])) == cookies[: end >= len(x11.emit(cookies[0]))]


@needs_a_server
def test_an_untrusted_cookie_opens_the_server_and_next_to_none_of_its_extensions(
    screen: Display, tmp_path: Path
) -> None:
    cookie, held = x11.admit(server_of(screen), screen.environment["XAUTHORITY"], trusted=False)
    with held:
        told = extensions(screen, cookie, tmp_path)
    assert "BIG-REQUESTS" in told
    for forbidden in ("XTEST", "RECORD", "XInputExtension", "SECURITY", "MIT-SHM"):
        assert forbidden not in told


@needs_a_server
def test_a_trusted_cookie_is_another_than_the_sessions(screen: Display, tmp_path: Path) -> None:
    cookie, held = x11.admit(server_of(screen), screen.environment["XAUTHORITY"], trusted=True)
    with held:
        assert "XTEST" in extensions(screen, cookie, tmp_path)
    assert cookie not in Path(screen.environment["XAUTHORITY"]).read_bytes()


@needs_a_server
def test_without_a_right_cookie_there_is_an_error_that_names_the_file(
    screen: Display, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    with pytest.raises(SetupError, match="wrong: No such file"):
        x11.admit(server_of(screen), str(wrong), trusted=False)
    wrong.write_bytes(x11.emit(Cookie(0xFFFF, b"", b"", b"MIT-MAGIC-COOKIE-1", bytes(16))))
    with pytest.raises(SetupError, match=r"no cookie in .*wrong is right"):
        x11.admit(server_of(screen), str(wrong), trusted=False)


@pytest.mark.parametrize("claims", [0x3FFFFFFF, (64 << 10) // 4 + 1], ids=["4 GiB", "64 KiB and more"])
def test_a_server_that_claims_a_long_answer_is_not_listened_to(claims: int) -> None:
    ours, servers = socket.socketpair()
    with ours, servers:
        servers.sendall(struct.pack("<BxHI", 1, 0, claims) + bytes(24) + bytes(1000))
        with pytest.raises(SetupError, match="Message too long"):
            x11.look_up(ours, [b"NAME"], b"")


def test_a_server_that_answers_little_by_little_has_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(x11, "_TIMEOUT_S", 0.2)
    ours, servers = socket.socketpair()
    stop = threading.Event()

    def answer() -> None:
        for _ in range(100):
            if stop.wait(0.05):
                return
            servers.sendall(struct.pack("<B31x", 2))  # an event
        servers.shutdown(socket.SHUT_WR)

    with ours, servers:
        talker = threading.Thread(target=answer)
        talker.start()
        try:
            with pytest.raises(SetupError, match="timed out"):
                x11.look_up(ours, [b"NAME"], b"")
        finally:
            stop.set()
            talker.join()
