# SPDX-License-Identifier: GPL-3.0-or-later
"""The web site that tests visit: HTTP/1.1 and HTTPS, and a log that shows where a visit came from.

    /              a page of HTML
    /big?bytes=N   N bytes of `pattern`, 1 MiB if not said
    /echo-headers  the request's headers, as they came
    /visitor       where the visitor comes from: address, and the tor whose connection it is
    /upload        takes a PUT or POST; answers its length and SHA-256

A log line is `SOURCE VIA SCHEME HOST "REQUEST" STATUS`. VIA is the tor that holds the other end of the
connection, an exit or for the onion service the client, or `-`: the visit came by no tor. Run as a
program, the site serves the sockets it inherits: `site.py HTTP_DESCRIPTOR HTTPS_DESCRIPTOR CERTIFICATE
KEY TORS`, where TORS is JSON, `{"name": process id}`.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import socketserver
import ssl
import sys
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PAGE = b"""<!doctype html>
<html><head><title>torbox test site</title></head>
<body><h1>This page came through Tor.</h1></body></html>
"""
_BIG_BYTES = 1 << 20
_BLOCK = b"".join(hashlib.sha512(number.to_bytes(4, "big")).digest() for number in range(1024))  # 64 KiB
_IDLE_S = 60  # a visitor who says nothing is let go


def pattern(size: int) -> Iterator[bytes]:
    """`size` bytes that do not compress and in which a lost or swapped block shows."""
    while size > 0:
        yield _BLOCK[:size]
        size -= len(_BLOCK)


class Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_S
    scheme = "http"

    server: Site

    def setup(self) -> None:
        self.via = owner_of(self.client_address, self.request.getsockname(), self.server.tors)
        if self.server.tls is not None:
            # Here and not at the listener: a slow handshake is to hold up its own thread only.
            self.scheme = "https"
            self.request.settimeout(_IDLE_S)
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        if url.path == "/":
            self._send(PAGE, "text/html; charset=utf-8")
        elif url.path == "/big":
            size = int(query.get("bytes", [str(_BIG_BYTES)])[0])
            self._head(size, "application/octet-stream")
            if self.command != "HEAD":
                for block in pattern(size):
                    self.wfile.write(block)
        elif url.path == "/echo-headers":
            self._send(f"{self.headers}".encode(), "text/plain")
        elif url.path == "/visitor":
            self._send(f"{self.client_address[0]} {self.via}\n".encode(), "text/plain")
        else:
            self.send_error(404)

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        left = size = int(self.headers.get("Content-Length", "0"))
        digest = hashlib.sha256()
        while left:
            block = self.rfile.read(min(left, 65_536))
            if not block:
                self.close_connection = True
                return
            digest.update(block)
            left -= len(block)
        self._send(f"{size} {digest.hexdigest()}\n".encode(), "text/plain")

    do_POST = do_PUT

    def _head(self, size: int, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def _send(self, body: bytes, kind: str) -> None:
        self._head(len(body), kind)
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Errors of a request are in its status."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        headers = getattr(self, "headers", None)  # none, if the request could not be parsed
        host = headers.get("Host", "-") if headers else "-"
        line = f'{self.client_address[0]} {self.via} {self.scheme} {host} "{self.requestline}" {int(code)}\n'
        sys.stdout.write(line)  # in one piece: many threads write
        sys.stdout.flush()


class Site(ThreadingHTTPServer):
    """One listener's server: a thread per connection."""

    daemon_threads = True

    def __init__(
        self, listener: socket.socket, tors: Mapping[str, int], tls: ssl.SSLContext | None = None
    ) -> None:
        self.tors = tors
        self.tls = tls
        super().__init__(listener.getsockname(), Page, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = listener.getsockname()

    def handle_error(self, request: object, client_address: object) -> None:
        """A visitor who leaves in the middle is no error of the site; anything else is, and is shown."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError, ssl.SSLError)):
            socketserver.BaseServer.handle_error(self, request, client_address)  # type: ignore[arg-type]


def owner_of(peer: tuple[str, int], here: tuple[str, int], processes: Mapping[str, int]) -> str:
    """The name of the process that holds the other end of a connection on this machine, or `-`."""
    wanted = [f"{_hex(peer)}", f"{_hex(here)}"]
    for line in Path("/proc/net/tcp").read_text().splitlines():
        fields = line.split()
        if fields[1:3] == wanted:
            link = f"socket:[{fields[9]}]"
            break
    else:
        return "-"
    for name, pid in processes.items():
        try:
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                try:
                    if os.readlink(descriptor) == link:
                        return name
                except FileNotFoundError:
                    pass  # closed meanwhile
        except FileNotFoundError:
            pass  # this process has ended
    return "-"


def _hex(address: tuple[str, int]) -> str:
    """As /proc/net/tcp writes it: the address's bytes as one number of the machine's order."""
    number = int.from_bytes(socket.inet_aton(address[0]), sys.byteorder)
    return f"{number:08X}:{address[1]:04X}"


def serve(
    http: socket.socket, https: socket.socket, certificate: str, key: str, tors: Mapping[str, int]
) -> None:
    """Serve both for ever."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    threading.Thread(target=Site(https, tors, tls).serve_forever, daemon=True).start()
    Site(http, tors).serve_forever()


if __name__ == "__main__":
    plain, secure = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    serve(plain, secure, sys.argv[3], sys.argv[4], json.loads(sys.argv[5]))
