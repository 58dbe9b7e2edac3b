# SPDX-License-Identifier: GPL-3.0-or-later
"""The session bus by way of a real xdg-dbus-proxy, and the number by which a client says who it is."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from torbox import syscalls
from torbox.desktop import bus, doorman
from torbox.desktop.bus import Introduction
from torbox.errors import SetupError

REAL = pytest.mark.skipif(
    not all(map(shutil.which, (bus.PROXY, "dbus-daemon", "dbus-send"))),
    reason="needs xdg-dbus-proxy and dbus",
)


@pytest.fixture
def session_bus(tmp_path: Path) -> Iterator[str]:
    path = f"{tmp_path}/session-bus"
    address = f"unix:path={path}"
    command = [
        "dbus-daemon",
        "--session",
        "--nofork",
        "--nopidfile",
        f"--address={address}",
        "--print-address=1",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        daemon.stdout.readline()
        yield path
        daemon.terminate()


def asked(address: str, method: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["dbus-send", f"--bus={address}", "--print-reply", "--dest=org.freedesktop.DBus", "/", method]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=20)


def message(order: str, member: str, body: bytes = b"") -> bytes:
    """A call as it is on the wire."""
    fields = b""
    for code, kind, value in ((1, "o", "/an/object"), (3, "s", member), (6, "s", "org.example.Name")):
        fields += bytes(-len(fields) % 8) + struct.pack("BB2s", code, 1, kind.encode() + b"\0")
        fields += struct.pack(f"{order}I", len(value)) + value.encode() + b"\0"
    first = struct.pack(f"{order}cBBBIII", b"l" if order == "<" else b"B", 1, 0, 1, len(body), 7, len(fields))
    return first + fields + bytes(-len(fields) % 8) + body


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("/run/user/1/bus", "unix:path=/run/user/1/bus"),
        ("@/tmp/x", "unix:abstract=/tmp/x"),
        ("/a,b;", "unix:path=/a%2cb%3b"),
    ],
)
def test_an_address_is_written_so_that_it_is_read_as_meant(path: str, address: str) -> None:
    assert bus.address(path) == address


@REAL
def test_the_proxy_hides_every_name_but_those_it_was_told(session_bus: str, tmp_path: Path) -> None:
    proxy = bus.Proxy(session_bus, str(tmp_path / "inside"), ("--own=org.example.Mine",))
    try:
        inside = f"unix:path={tmp_path}/inside"
        assert "org.freedesktop.DBus" in asked(inside, "org.freedesktop.DBus.ListNames").stdout
        name = "org.freedesktop.DBus.RequestName"
        mine = asked(inside, name, "string:org.example.Mine", "uint32:0")
        assert "uint32 1" in mine.stdout, mine.stderr
        other = asked(inside, name, "string:org.example.Other", "uint32:0")
        assert "ServiceUnknown" in other.stderr
        assert (
            "uint32 1" in asked(bus.address(session_bus), name, "string:org.example.Other", "uint32:0").stdout
        )
    finally:
        proxy.end()
    assert not asked(inside, "org.freedesktop.DBus.ListNames").stdout


@REAL
def test_a_proxy_that_cannot_listen_is_an_error(session_bus: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="No such file"):
        bus.Proxy(session_bus, str(tmp_path / "no" / "where"), ())


@REAL
def test_the_proxy_is_confined_and_knows_nothing_of_its_caller(session_bus: str, tmp_path: Path) -> None:
    proxy = bus.Proxy(session_bus, str(tmp_path / "inside"), ())
    try:
        process = Path(f"/proc/{proxy._pid}")
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
        assert status["Name"] == bus.PROXY
        assert [int(status[f"Cap{which}"], 16) for which in ("Inh", "Prm", "Eff", "Bnd", "Amb")] == [0] * 5
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        for kind in ("user", "mnt", "net", "ipc"):
            assert (process / "ns" / kind).readlink() != Path(f"/proc/self/ns/{kind}").readlink()
        assert (process / "environ").read_bytes() == b""
        kept = {descriptor.readlink() for descriptor in (process / "fd").iterdir()}
        assert not any(str(path).startswith((str(tmp_path), "/home", "/root")) for path in kept)
        assert not (tmp_path / "inside-proxy").exists()  # nothing can be made any more where it listens
    finally:
        proxy.end()


@REAL
def test_what_the_proxy_does_without_is_told_if_it_is_allowed_to_be_missing(
    session_bus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(syscalls, "unshare", refuse)
    with pytest.raises(SetupError, match="--allow-missing stack-namespaces"):
        bus.Proxy(session_bus, str(tmp_path / "one"), ())
    told: list[str] = []
    allowed = frozenset({"stack-namespaces"})
    proxy = bus.Proxy(session_bus, str(tmp_path / "two"), (), allowed, lambda name, _why: told.append(name))
    try:
        os.unlink(session_bus)  # as the sandbox's own directory is once it has started
        listed = asked(bus.address(str(tmp_path / "two")), "org.freedesktop.DBus.ListNames")
        assert "org.freedesktop.DBus" in listed.stdout, listed.stderr
    finally:
        proxy.end()
    assert told == ["stack-namespaces"]


@REAL
def test_a_proxy_that_is_not_in_usr_is_an_error(
    session_bus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(f"/usr/bin/{bus.PROXY}", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="xdg-dbus-proxy cannot be confined") as caught:
        bus.Proxy(session_bus, str(tmp_path / "inside"), ())
    assert "below /usr" in caught.value.advice


def test_without_a_proxy_nothing_is_shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="xdg-dbus-proxy: No such file") as caught:
        bus.Proxy("/x", str(tmp_path / "inside"), ())
    assert "Install xdg-dbus-proxy" in caught.value.advice


def test_the_number_that_a_client_says_becomes_the_users_and_all_else_stays() -> None:
    said = b"\0AUTH EXTERNAL 31303030\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n" + message(
        "<", "AUTH EXTERNAL 31303030\r\n"
    )
    wanted = said.replace(b"31303030", b"34323432", 1)
    for step in (1, 3, len(said)):
        introduction, on = Introduction(4242), b""
        for at in range(0, len(said), step):
            on += introduction.feed(said[at : at + step])[0]
        assert on == wanted
    assert Introduction(7).feed(b"\0AUTH EXTERNAL\r\nDATA\r\n")[0] == b"\0AUTH EXTERNAL\r\nDATA\r\n"


def test_so_does_one_that_is_said_when_the_bus_asks() -> None:
    said = b"\0AUTH\r\nAUTH EXTERNAL\r\nDATA 31303030\r\nBEGIN\r\n"
    assert Introduction(4242).feed(said)[0] == said.replace(b"31303030", b"34323432")
    cookie = b"\0AUTH EXTERNAL\r\nCANCEL\r\nAUTH DBUS_COOKIE_SHA1 7573657\r\nDATA 31303030\r\n"
    assert Introduction(4242).feed(cookie)[0] == cookie


def test_a_line_without_an_end_is_not_waited_for() -> None:
    with pytest.raises(ValueError, match="without an end"):
        Introduction(os.getuid()).feed(b"x" * 20000)
    with pytest.raises(ValueError, match="without an end"):
        Introduction(os.getuid()).reply(b"x" * 20000)


def test_the_bus_does_not_say_its_own_number() -> None:
    number = b"0123456789abcdef" * 2
    reply = message("<", "Hello", b"OK " + number + b"\r\n")
    said = b"REJECTED EXTERNAL\r\nOK " + number + b"\r\nOK " + number + b"\r\nAGREE_UNIX_FD\r\n"
    for step in (1, 7, 500):
        introduction, content = Introduction(7), said + reply * 2
        back = b"".join(introduction.reply(content[at : at + step]) for at in range(0, len(content), step))
        assert back == said.replace(number, b"0" * 32) + reply * 2


def test_of_a_real_bus_neither_its_greeting_nor_its_answer_tells_its_number(
    session_bus: str, tmp_path: Path
) -> None:
    (number,) = re.findall(
        "[0-9a-f]{32}", asked(f"unix:path={session_bus}", "org.freedesktop.DBus.GetId").stdout
    )
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(doorman.listening(str(tmp_path / "door")))
        door = doorman.Door(listener, session_bus, lambda: Introduction(os.getuid()), True)
        stack.enter_context(doorman.posted([door]))
        end = stack.enter_context(socket.socket(socket.AF_UNIX))
        end.settimeout(20)
        end.connect(str(tmp_path / "door"))
        end.sendall(b"\0AUTH EXTERNAL 31303030\r\n")
        assert end.recv(100) == b"OK " + b"0" * 32 + b"\r\n"
        for method, works in (("GetId", False), ("ListNames", True)):
            told = asked(f"unix:path={tmp_path}/door", f"org.freedesktop.DBus.{method}")
            assert (told.returncode == 0) == works, told.stderr
            assert number not in told.stdout + told.stderr


@pytest.mark.parametrize("order", ["<", ">"])
def test_no_message_asks_for_the_machines_id_or_by_which_process_a_name_is_owned(order: str) -> None:
    said = b"".join(
        (
            message(order, "GetMachineId", b"GetMachineId"),
            message(order, "GetMachineIdentity"),
            message(order, "Ping", message(order, "GetMachineId")),
            message(order, "GetConnectionUnixProcessID"),
        )
    )
    wanted = b"".join(
        (
            message(order, "NotMachineId", b"GetMachineId"),
            message(order, "GetMachineIdentity"),
            message(order, "Ping", message(order, "GetMachineId")),
            message(order, "NotConnectionUnixProcessID"),
        )
    )
    for step in (1, 5, len(said)):
        introduction = Introduction(1000)
        assert introduction.feed(b"\0AUTH ANONYMOUS\r\nBEGIN\r\n")[0]
        on = b"".join(introduction.feed(said[at : at + step])[0] for at in range(0, len(said), step))
        assert on == wanted


@pytest.mark.parametrize("said", [b"x" * 16, b"l\1\0\1\0\0\0\0\1\0\0\0\xff\xff\xff\xff"])
def test_what_is_no_message_ends_the_connection(said: bytes) -> None:
    introduction = Introduction(1000)
    introduction.feed(b"BEGIN\r\n")
    with pytest.raises(ValueError, match="message"):
        introduction.feed(said)
