# SPDX-License-Identifier: GPL-3.0-or-later
"""An honest program inside: new connections, one that stays open, and names, with a patience of seconds."""

from __future__ import annotations

import os
import socket
import struct
import time
from dataclasses import dataclass, field

SITE = ("93.184.215.14", 80)
GATEWAY = ("10.0.2.2", 53)
PATIENCE_S = 20.0  # of one request; a kernel repeats a lost SYN after 1, 2, 3, 4, 5, 7 and 11 s
TEXT = b"hello" * 40


@dataclass
class Told:
    """What became of its requests."""

    done: int = 0
    failures: list[str] = field(default_factory=list)
    longest_s: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.done} requests, the longest {self.longest_s * 1000:.0f} ms, {len(self.failures)} failures"
        )


def _exchange(sock: socket.socket) -> None:
    sock.sendall(TEXT)
    got = b""
    while len(got) < len(TEXT):
        data = sock.recv(65536)
        if not data:
            raise OSError("the far end closed")
        got += data
    if got != TEXT:
        raise OSError("something else came back")


def _connect() -> None:
    with socket.create_connection(SITE, PATIENCE_S) as sock:
        _exchange(sock)


def _look_up() -> None:
    """As a resolver does: asked again when nothing comes, within the same patience."""
    name = os.urandom(6).hex().encode()
    query = struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + bytes((len(name),)) + name + b"\x04test\0\0\1\0\1"
    end = time.monotonic() + PATIENCE_S
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(GATEWAY)
        while time.monotonic() < end:
            sock.send(query)
            sock.settimeout(1.0)
            try:
                if sock.recv(4096)[:2] == query[:2]:
                    return
            except TimeoutError:
                continue
    raise OSError("no answer to a name")


class _Lasting:
    """A connection that stays, made anew only if it was lost."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None

    def exchange(self) -> None:
        try:
            if self._socket is None:
                self._socket = socket.create_connection(SITE, PATIENCE_S)
            _exchange(self._socket)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def requests(seconds: float) -> Told:
    """Ask for so long, and at least twice for each kind."""
    told = Told()
    end = time.monotonic() + seconds
    lasting = _Lasting()
    rounds = 0
    while time.monotonic() < end or rounds < 2:
        rounds += 1
        for what, request in (("lasting", lasting.exchange), ("connect", _connect), ("name", _look_up)):
            began = time.monotonic()
            try:
                request()
                told.done += 1
            except OSError as error:
                told.failures.append(f"{what}: {error!r}")
            told.longest_s = max(told.longest_s, time.monotonic() - began)
    lasting.close()
    return told
