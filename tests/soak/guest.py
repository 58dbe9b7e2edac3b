# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs inside during a soak: thousands of connections that stay, and a hundred at a time that do not."""

from __future__ import annotations

import resource
import select
import socket
import time

PORT = 80
BATCH = 200  # connects under way at once
PATIENCE_S = 120.0
TEXT = 32  # bytes that go there and come back

_held: dict[int, socket.socket] = {}  # by descriptor; they stay from one call to the next


def _site(number: int) -> tuple[str, int]:
    """One of 200: the ports of short connections rest for a minute (TIME-WAIT inside)."""
    return f"93.184.{number % 200}.14", PORT


def _begin(number: int) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex(_site(number))
    return sock


def hold(count: int) -> int:
    """Open connections until `count` are held; how many are."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    end = time.monotonic() + PATIENCE_S
    while len(_held) < count:
        begun = {}
        with select.epoll() as poll:
            for number in range(min(BATCH, count - len(_held))):
                sock = _begin(number)
                begun[sock.fileno()] = sock
                poll.register(sock.fileno(), select.EPOLLOUT)
            while begun:
                assert time.monotonic() < end, f"{len(_held)} are open"
                for fileno, _ in poll.poll(1.0):
                    sock = begun.pop(fileno)
                    poll.unregister(fileno)
                    error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    assert not error, f"connect: {error}"
                    _held[fileno] = sock
    return len(_held)


def all_answer() -> int:
    """Say something of its own on each that is held; how many say the same back."""
    end = time.monotonic() + PATIENCE_S
    wanted = {fileno: b"%*d" % (TEXT, fileno) for fileno in _held}
    got = dict.fromkeys(_held, b"")
    with select.epoll() as poll:
        for fileno, sock in _held.items():
            sock.send(wanted[fileno])
            poll.register(fileno, select.EPOLLIN)
        left = len(_held)
        while left:
            assert time.monotonic() < end, f"{left} did not answer"
            for fileno, _ in poll.poll(1.0):
                got[fileno] += _held[fileno].recv(4096)
                if len(got[fileno]) >= TEXT:
                    poll.unregister(fileno)
                    left -= 1
    return sum(got[fileno] == wanted[fileno] for fileno in _held)


def let_go() -> None:
    for sock in _held.values():
        sock.close()
    _held.clear()


def short(count: int, limit_s: float) -> int:
    """Connect, say something, hear it, close: so many times; how many were right."""
    end = time.monotonic() + limit_s
    begun: dict[int, socket.socket] = {}
    right = number = 0
    with select.epoll() as poll:
        while number < count or begun:
            assert time.monotonic() < end, f"{right} of {count}"
            while number < count and len(begun) < BATCH // 2:
                sock = _begin(number)
                number += 1
                begun[sock.fileno()] = sock
                poll.register(sock.fileno(), select.EPOLLOUT)
            for fileno, events in poll.poll(1.0):
                sock = begun[fileno]
                if events == select.EPOLLOUT:
                    sock.send(b"%*d" % (TEXT, fileno))
                    poll.modify(fileno, select.EPOLLIN)
                    continue
                right += sock.recv(4096) == b"%*d" % (TEXT, fileno)
                del begun[fileno]
                sock.close()
    return right
