# SPDX-License-Identifier: GPL-3.0-or-later
"""SOCKS servers for tests: one that behaves as Tor does, and one that does whatever a script says."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Handler = Callable[[socket.socket], None]


def read_exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


class Server:
    """Listens on loopback, or on a Unix socket, and gives each connection a thread of its own."""

    def __init__(self, handler: Handler, path: str = "") -> None:
        self._handler = handler
        if path:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.bind(path)
        else:
            self.socket = socket.socket()
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(512)
        self.path = path
        self.port = 0 if path else self.socket.getsockname()[1]
        self.url = f"unix:{path}" if path else f"//127.0.0.1:{self.port}"
        self._connections: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self._connections.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), connection:
            self._handler(connection)
        self._connections.discard(connection)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._accepting.join(10)
        for thread in self._threads:
            thread.join(10)


@contextlib.contextmanager
def serving(handler: Handler, path: str = "") -> Iterator[Server]:
    server = Server(handler, path)
    try:
        yield server
    finally:
        server.close()


@dataclass
class Request:
    command: int
    kind: int
    where: bytes
    port: int
    username: bytes
    password: bytes


@dataclass
class TorLike:
    """Speaks SOCKS 5 as a Tor does; `far_end` is what stands behind it.

    `names` are what RESOLVE answers; `pointers` what RESOLVE_PTR does; `refuse` a reply code for CONNECT.
    """

    far_end: Handler | None = None
    names: dict[bytes, bytes] = field(default_factory=dict)
    pointers: dict[bytes, bytes] = field(default_factory=dict)
    refuse: int = 0
    requests: list[Request] = field(default_factory=list)

    def __call__(self, sock: socket.socket) -> None:
        version, count = read_exactly(sock, 2)
        methods = read_exactly(sock, count)
        assert version == 5
        if 2 not in methods:
            sock.sendall(b"\x05\xff")
            return
        sock.sendall(b"\x05\x02")
        _, length = read_exactly(sock, 2)
        username = read_exactly(sock, length)
        password = read_exactly(sock, read_exactly(sock, 1)[0])
        sock.sendall(b"\x01\x00")
        _, command, _, kind = read_exactly(sock, 4)
        size = {1: 4, 4: 16}.get(kind) or read_exactly(sock, 1)[0]
        where = read_exactly(sock, size)
        (port,) = struct.unpack("!H", read_exactly(sock, 2))
        self.requests.append(Request(command, kind, where, port, username, password))
        if command == 0xF0:
            self._reply_address(sock, self.names.get(where))
        elif command == 0xF1:
            name = self.pointers.get(where)
            sock.sendall(
                b"\x05\x04\x00\x01" + bytes(6)
                if name is None
                else b"\x05\x00\x00\x03" + bytes((len(name),)) + name + bytes(2)
            )
        elif self.refuse:
            sock.sendall(bytes((5, self.refuse, 0, 1)) + bytes(6))
        else:
            sock.sendall(b"\x05\x00\x00\x01" + bytes(6))
            if self.far_end is not None:
                self.far_end(sock)

    def _reply_address(self, sock: socket.socket, address: bytes | None) -> None:
        if address is None:
            sock.sendall(b"\x05\x04\x00\x01" + bytes(6))
        else:
            sock.sendall(b"\x05\x00\x00" + (b"\x01" if len(address) == 4 else b"\x04") + address + bytes(2))


def echo(sock: socket.socket) -> None:
    while data := sock.recv(65536):
        sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


def saying(*messages: bytes, hold: bool = True) -> Handler:
    """A server that answers each message of the client with the next of `messages`, whatever it was."""

    def handler(sock: socket.socket) -> None:
        for message in messages:
            sock.recv(65536)
            sock.sendall(message)
        while hold and sock.recv(65536):
            pass

    return handler


@contextlib.contextmanager
def microsocks(*options: str) -> Iterator[int]:
    """microsocks says nothing when it listens, so it is asked until it does."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    process = subprocess.Popen(
        ["microsocks", "-i", "127.0.0.1", "-p", str(port), *options], stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(100_000):
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    break
        yield port
    finally:
        process.terminate()
        process.wait(10)
