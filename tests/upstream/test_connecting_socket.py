# SPDX-License-Identifier: GPL-3.0-or-later
"""A socket that does not get to its far end: what the guest sees, and that nothing is left of it."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

from tests.upstream.harness import Loop
from torbox.netstack.flow import Refusal
from torbox.upstream.connecting_socket import Address, ConnectingSocket, refusal_of


class Told:
    """A StreamOwner of a stream that never opens."""

    def __init__(self) -> None:
        self.refusals: list[Refusal] = []

    def refused(self, why: Refusal) -> None:
        self.refusals.append(why)

    def connected(self) -> None:
        raise AssertionError

    moved = eof = broken = connected


def refused(loop: Loop, family: int, address: Address, deadline_s: float = 30) -> Refusal:
    told = Told()
    stream = ConnectingSocket(loop.reactor, family, address, told, deadline_s)
    assert told.refusals == []  # in a later turn: whoever asked is not called back while it asks
    loop.until(lambda: bool(told.refusals))
    assert stream._socket is None
    assert stream._timer is None
    (why,) = told.refusals
    return why


def test_a_port_that_is_closed_is_told(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = server.getsockname()
    assert refused(loop, socket.AF_INET, place) is Refusal.NET_UNREACHABLE
    assert refused(loop, socket.AF_UNIX, "/no/such/socket") is Refusal.NET_UNREACHABLE


def test_a_far_end_that_never_takes_it_is_waited_for_until_the_deadline(loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "full")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as first:
        server.bind(path)
        server.listen(0)
        first.connect(path)
        assert refused(loop, socket.AF_UNIX, path, 0.1) is Refusal.TIMED_OUT


def test_a_proxy_that_cannot_be_reached_is_a_network_that_is_down() -> None:
    assert refusal_of(errno.ECONNREFUSED) is Refusal.NET_UNREACHABLE
    assert refusal_of(errno.ENOENT) is Refusal.NET_UNREACHABLE
    assert refusal_of(errno.EMFILE) is Refusal.NET_UNREACHABLE
    assert refusal_of(None) is Refusal.NET_UNREACHABLE
    assert refusal_of(errno.ETIMEDOUT) is Refusal.TIMED_OUT
    assert refusal_of(errno.EHOSTUNREACH) is Refusal.HOST_UNREACHABLE
