# SPDX-License-Identifier: GPL-3.0-or-later
"""Real servers inside, connections from here: active opens, as a forward into the sandbox will make them."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netstack.addresses import GATEWAYS, GUESTS
from tests.netstack.kernel import KernelGuest
from tests.netstack.services import BLOCK, Services
from torbox.netstack.flow import FlowKey
from torbox.netstack.tcp.connection import TcpConnection
from torbox.netstack.tcp.state import State

CONFIGURATION = """
user root root; daemon off; master_process off; pid {root}/pid; error_log {root}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {root}/body; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;
  uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;
  server {{ listen 80; listen [::]:80; root {root}; }}
}}
"""


@pytest.fixture
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="torbox-nginx-") as directory:
        root = Path(directory)
        root.joinpath("page").write_bytes(BLOCK * 24)
        root.joinpath("nginx.conf").write_text(CONFIGURATION.format(root=root))
        yield root


class Client:
    """Connections from the gateway to a port of the guest; what each has read, and whether it is over."""

    def __init__(self, guest: KernelGuest) -> None:
        self.services = Services(guest.device, time.monotonic())
        self.connections: dict[TcpConnection, bytearray] = {}
        self._port = 20000

    def ask(self, version: int, request: bytes) -> TcpConnection:
        self._port += 1
        key = FlowKey(GUESTS[version], 80, GATEWAYS[version], self._port)
        connection = self.services.stack.connect(key)
        assert connection is not None
        connection.snd_buf.write(request)
        self.connections[connection] = bytearray()
        return connection

    def turn(self, now: float) -> float:
        stack = self.services.stack
        more = stack.receive(now)
        stack.expire(now)
        for connection in list(stack.dirty):
            ring = connection.rcv_buf
            self.connections[connection] += b"".join(ring.peek(0, len(ring)))
            ring.consume(len(ring))
            if connection.guest_finished:
                connection.close()
        stack.flush(now)
        return now if more else stack.deadline

    def over(self) -> bool:
        return all(it.state in (State.CLOSED, State.TIME_WAIT) for it in self.connections)


def _serve(root: Path) -> None:
    """In the guest: become nginx, so that the end of the test ends it."""
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin")
    assert nginx, "nginx is missing"
    os.execv(nginx, [nginx, "-p", str(root), "-c", str(root / "nginx.conf"), "-e", "stderr"])


def test_a_web_server_inside_serves_connections_that_come_in(root: Path) -> None:
    with KernelGuest(lambda: _serve(root), mtu=1500) as guest:
        client = Client(guest)
        guest.outside.send(b"go")
        # Nobody listens yet: each attempt is refused by a reset, until one is not.
        answered = [client.ask(4, b"GET /page HTTP/1.0\r\n\r\n")]

        def try_again(now: float) -> float:
            deadline = client.turn(now)
            if answered[0].state is State.CLOSED and answered[0].was_reset:
                answered[:] = [client.ask(4, b"GET /page HTTP/1.0\r\n\r\n")]
                return now
            return deadline

        guest.until(try_again, lambda: answered[0].state not in (State.SYN_SENT, State.CLOSED), 20)
        client.connections = {answered[0]: client.connections[answered[0]]}
        answered.append(client.ask(6, b"GET /page HTTP/1.0\r\n\r\n"))
        guest.until(client.turn, client.over, 30)
        for connection in answered:
            assert not connection.was_reset
            head, _, body = bytes(client.connections[connection]).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK")
            assert hashlib.sha256(body).digest() == hashlib.sha256(BLOCK * 24).digest()


def test_a_closed_port_inside_refuses_at_once() -> None:
    with KernelGuest(signal.pause) as guest:
        client = Client(guest)
        guest.outside.send(b"go")
        refused = [client.ask(version, b"") for version in (4, 6)]
        guest.until(client.turn, client.over, 5)
        assert all(it.was_reset for it in refused)
