# SPDX-License-Identifier: GPL-3.0-or-later
"""A SOCKS server and what stands behind it, for ten thousand connections at once: a process with one epoll.

What a connection gets depends on the port it asks for, and addresses of HANGING are never answered:

    80   every byte comes back
    9    every byte is swallowed
    19   bytes without end
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
from types import TracebackType

HANGING = 77  # first octet of addresses to which nothing is ever connected
ECHO, SINK, SOURCE = 80, 9, 19
BLOCK = bytes(1 << 16)
BACKLOG = 4096


class _Client:
    __slots__ = ("buffer", "pending", "service", "sock", "stage")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.stage = 0  # greeting, password, request, stream
        self.buffer = b""
        self.service = 0
        self.pending = b""


class FarEnd:
    """`with FarEnd() as far:` the process runs, as the upstream `far.url`; with a path, at a Unix socket."""

    def __init__(self, path: str = "") -> None:
        self._path = path
        if path:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(path)
            self.url = f"tor+unix:{path}"
        else:
            self._listener = socket.socket()
            self._listener.bind(("127.0.0.1", 0))
            self.url = f"socks5://127.0.0.1:{self._listener.getsockname()[1]}"
        self._listener.listen(BACKLOG)
        self.pid = 0

    def __enter__(self) -> FarEnd:
        self.pid = os.fork()
        if not self.pid:
            try:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                _Server(self._listener).serve()
            finally:
                os._exit(1)
        self._listener.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        if self._path:
            os.unlink(self._path)


class _Server:
    def __init__(self, listener: socket.socket) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self._listener = listener
        listener.setblocking(False)
        self._clients: dict[int, _Client] = {}
        self._epoll = select.epoll()
        self._epoll.register(listener.fileno(), select.EPOLLIN)

    def serve(self) -> None:
        while True:
            for fileno, events in self._epoll.poll():
                if fileno == self._listener.fileno():
                    self._accept()
                    continue
                client = self._clients.get(fileno)
                if client is not None and not self._serve(client, events):
                    self._drop(client)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                sock.setblocking(False)
                self._clients[sock.fileno()] = _Client(sock)
                self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _drop(self, client: _Client) -> None:
        del self._clients[client.sock.fileno()]
        self._epoll.unregister(client.sock.fileno())
        client.sock.close()

    def _serve(self, client: _Client, events: int) -> bool:
        """False when the connection is over."""
        try:
            if events & select.EPOLLOUT:
                return self._send(client)
            if client.stage == 3 and client.pending:
                return True
            data = client.sock.recv(1 << 16)
            if not data:
                return False
            if client.stage < 3:
                client.buffer += data
                return self._handshake(client)
            if client.service == ECHO:
                client.pending = data
                return self._send(client)
            return True
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _send(self, client: _Client) -> bool:
        if client.service == SOURCE:
            client.sock.send(BLOCK)
            return True
        sent = client.sock.send(client.pending)
        client.pending = client.pending[sent:]
        self._epoll.modify(client.sock.fileno(), select.EPOLLOUT if client.pending else select.EPOLLIN)
        return True

    def _handshake(self, client: _Client) -> bool:
        data = client.buffer
        if client.stage == 0 and len(data) >= 2 and len(data) >= 2 + data[1]:
            method = 2 if 2 in data[2 : 2 + data[1]] else 0
            client.buffer = data = data[2 + data[1] :]
            client.stage = 1 if method else 2
            client.sock.send(bytes((5, method)))
        if client.stage == 1 and len(data) >= 2:
            user = data[1]
            if len(data) >= 3 + user and len(data) >= 3 + user + data[2 + user]:
                client.buffer = data = data[3 + user + data[2 + user] :]
                client.stage = 2
                client.sock.send(b"\1\0")
        if client.stage == 2 and len(data) >= 5:
            size = {1: 4, 4: 16}.get(data[3], 1 + data[4])
            if len(data) >= 6 + size:
                client.stage = 3
                client.buffer = b""
                client.service = int.from_bytes(data[4 + size : 6 + size], "big")
                if data[3] == 1 and data[4] == HANGING:
                    return True
                client.sock.send(b"\5\0\0\1" + bytes(6))
                if client.service == SOURCE:
                    self._epoll.modify(client.sock.fileno(), select.EPOLLOUT)
        return True
