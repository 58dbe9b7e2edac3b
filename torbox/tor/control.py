# SPDX-License-Identifier: GPL-3.0-or-later
"""Tor's control protocol, as much of it as a client needs who asks, signals and listens (control-spec).

Its own and not stem's: stem 1.8 takes 160 ms to import, starts threads (this process forks and must
die with the thread that started tor), uses what Python 3.10 deprecated, and ends a tor that it takes
for its own when it disconnects.
"""

from __future__ import annotations

import socket
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

_COOKIE_BYTES = 32  # control-spec §3.24
_REPLY_LIMIT = 4 << 20  # bytes; the longest that is asked for here are a few KiB
_EVENT = 650  # control-spec §4.1


class ControlError(OSError):
    """Tor's control port refused, broke off or did not speak the protocol."""


class Reply(NamedTuple):
    """One reply or event: the code of its last line, and its lines without codes.

    A line with a data block ("250+key=") is one entry, the block after its first newline.
    """

    code: int
    lines: list[str]


class ReplyParser:
    """Bytes of the control connection in, whole replies out."""

    def __init__(self) -> None:
        self._pending = b""
        self._lines: list[str] = []
        self._in_block = False

    def feed(self, data: bytes) -> list[Reply]:
        """The replies that are complete now. Raises ControlError at a line that no tor sends."""
        *lines, self._pending = (self._pending + data).split(b"\r\n")
        replies = []
        for raw in lines:
            line = raw.decode("utf-8", "replace")
            if self._in_block:
                if line == ".":
                    self._in_block = False
                else:
                    self._lines[-1] += "\n" + line.removeprefix(".")  # a leading dot is doubled on the wire
                continue
            if len(line) < 4 or not (line[:3].isascii() and line[:3].isdigit()) or line[3] not in "-+ ":
                raise ControlError(f"the control port does not speak Tor's protocol: {line[:60]!r}")
            self._lines.append(line[4:])
            self._in_block = line[3] == "+"
            if line[3] == " ":
                replies.append(Reply(int(line[:3]), self._lines))
                self._lines = []
        if len(self._pending) + sum(map(len, self._lines)) > _REPLY_LIMIT:
            raise ControlError("the control port sent a reply without an end")
        return replies


class Circuit(NamedTuple):
    """A line of `circuit-status`. `path` is what it goes through, `socks_user` whose streams it carries."""

    id: str
    status: str
    path: list[str]
    purpose: str
    socks_user: str


class Control:
    """A blocking, authenticated connection to a ControlSocket; a context manager.

    Events that arrive while a reply is awaited are kept in `events`. Raises ControlError, or the
    OSError of the socket.
    """

    def __init__(self, path: Path, cookie_path: Path, *, timeout_s: float = 10) -> None:
        self.events: list[Reply] = []
        self._parser = ReplyParser()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self.socket.settimeout(timeout_s)
            self.socket.connect(str(path))
            cookie = cookie_path.read_bytes()
            if len(cookie) != _COOKIE_BYTES:
                raise ControlError(f"{cookie_path} is not a control cookie: {len(cookie)} bytes")
            self.command(f"AUTHENTICATE {cookie.hex()}")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def command(self, line: str) -> Reply:
        """Send one command and await its reply; ControlError if tor refuses it."""
        self.socket.sendall(line.encode() + b"\r\n")
        while True:
            answer = None
            for reply in self.receive():
                if reply.code == _EVENT:
                    self.events.append(reply)
                else:
                    answer = reply  # one at most: one command at a time
            if answer is not None:
                if answer.code != 250:
                    raise ControlError(f"{line.split()[0]}: {answer.code} {answer.lines[-1]}")
                return answer

    def receive(self) -> list[Reply]:
        """What has arrived, after waiting for something if the socket blocks."""
        data = self.socket.recv(65_536)
        if not data:
            raise ControlError("tor closed the control connection")
        return self._parser.feed(data)

    def get_info(self, key: str) -> str:
        """The value of a GETINFO key, which may have several lines."""
        line = self.command(f"GETINFO {key}").lines[0]
        name, _, value = line.partition("=")
        if name != key:
            raise ControlError(f"GETINFO {key}: tor answered {line[:60]!r}")
        return value.removeprefix("\n")

    def circuits(self) -> list[Circuit]:
        return [parse_circuit(line) for line in self.get_info("circuit-status").splitlines() if line]


def parse_circuit(line: str) -> Circuit:
    """`ID STATUS [PATH] [KEY=VALUE …]`, values perhaps quoted (control-spec §4.1.1)."""
    number, status, *rest = line.split(" ")
    path = rest[0].split(",") if rest and "=" not in rest[0] else []
    options = dict(word.partition("=")[::2] for word in rest if "=" in word)
    user = options.get("SOCKS_USERNAME", "").strip('"')
    return Circuit(number, status, path, options.get("PURPOSE", ""), user)


def parse_bootstrap(line: str) -> tuple[int, str] | None:
    """Percent and summary of a bootstrap status line or event, or None if it is another."""
    if "BOOTSTRAP " not in line:
        return None
    percent = line.partition("PROGRESS=")[2].partition(" ")[0]
    summary = line.partition('SUMMARY="')[2].partition('"')[0]
    return (int(percent), summary) if percent.isascii() and percent.isdigit() else None
