# SPDX-License-Identifier: GPL-3.0-or-later
"""One UDP socket of this machine's, against others on loopback, and in a network of the test's own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.upstream.harness import Loop, no_descriptors
from torbox.netstack.flow import Refusal
from torbox.upstream import datagram_socket
from torbox.upstream.datagram_socket import BATCH, DatagramSocket

ROOT = Path(__file__).parents[2]
LOOPBACK = {4: bytes((127, 0, 0, 1)), 6: bytes(15) + b"\x01"}
FAMILIES = pytest.mark.parametrize("family", [4, 6])


class Owner:
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.got: list[tuple[bytes, int, bytes]] = []
        self.failed: list[tuple[bytes, int, Refusal]] = []
        self.mtus: list[tuple[bytes, int, int]] = []
        self.on_arrival: Callable[[], None] = lambda: None

    def arrived(self, address: bytes, port: int, payload: memoryview) -> None:
        self.got.append((address, port, bytes(payload)))
        self.on_arrival()

    def unreachable(self, address: bytes, port: int, why: Refusal) -> None:
        self.failed.append((address, port, why))

    def too_big(self, address: bytes, port: int, mtu: int) -> None:
        self.mtus.append((address, port, mtu))


@contextlib.contextmanager
def opened(loop: Loop, family: int) -> Iterator[tuple[DatagramSocket, Owner]]:
    owner = Owner()
    gone: list[DatagramSocket] = []
    datagrams = DatagramSocket(loop.reactor, family, owner, lambda address: None, gone.append)
    try:
        yield datagrams, owner
    finally:
        datagrams.close()
        datagrams.close()
        assert gone == [datagrams]


@contextlib.contextmanager
def far_end(family: int) -> Iterator[socket.socket]:
    kind = socket.AF_INET if family == 4 else socket.AF_INET6
    with socket.socket(kind, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1" if family == 4 else "::1", 0))
        sock.settimeout(10)
        yield sock


@FAMILIES
def test_a_datagram_goes_out_and_its_answer_comes_back(loop: Loop, family: int) -> None:
    with opened(loop, family) as (datagrams, owner), far_end(family) as far:
        port = far.getsockname()[1]
        for payload in (b"hello", b"", b"x" * 60_000):
            assert datagrams.send(LOOPBACK[family], port, memoryview(payload), False) is None
            heard, place = far.recvfrom(1 << 16)
            assert heard == payload
            far.sendto(payload, place)
            loop.until(lambda: owner.got)
            assert owner.got == [(LOOPBACK[family], port, payload)]
            owner.got.clear()


@FAMILIES
def test_one_socket_serves_all_far_ends_and_each_sees_the_same_port(loop: Loop, family: int) -> None:
    with opened(loop, family) as (datagrams, _), far_end(family) as one, far_end(family) as other:
        for far in (one, other):
            datagrams.send(LOOPBACK[family], far.getsockname()[1], memoryview(b"x"), False)
        assert one.recvfrom(9)[1] == other.recvfrom(9)[1]


@FAMILIES
def test_a_closed_port_is_heard_of_and_the_next_datagram_is_not_lost_by_it(loop: Loop, family: int) -> None:
    with opened(loop, family) as (datagrams, owner), far_end(family) as far:
        with far_end(family) as closed:
            closed_port = closed.getsockname()[1]
        datagrams.send(LOOPBACK[family], closed_port, memoryview(b"x"), False)
        # On loopback the error is there at once, before epoll is asked.
        assert datagrams.send(LOOPBACK[family], far.getsockname()[1], memoryview(b"y"), False) is None
        assert far.recv(9) == b"y"
        assert owner.failed == [(LOOPBACK[family], closed_port, Refusal.REFUSED)]
        datagrams.send(LOOPBACK[family], closed_port, memoryview(b"x"), False)
        loop.until(lambda: len(owner.failed) == 2)


def test_a_burst_takes_turns_with_everybody_else(loop: Loop) -> None:
    with opened(loop, 4) as (datagrams, owner), far_end(4) as far:
        datagrams.send(LOOPBACK[4], far.getsockname()[1], memoryview(b"?"), False)
        _, place = far.recvfrom(9)
        for number in range(3 * BATCH):
            far.sendto(b"%d" % number, place)
        loop.reactor.turn(loop.reactor.now + 10)
        assert len(owner.got) <= 2 * BATCH
        loop.until(lambda: len(owner.got) == 3 * BATCH)
        assert [payload for _, _, payload in owner.got] == [b"%d" % number for number in range(3 * BATCH)]


def test_errors_take_turns_too(loop: Loop) -> None:
    with opened(loop, 4) as (datagrams, owner):
        with far_end(4) as closed:
            port = closed.getsockname()[1]
        sock = datagrams._socket
        assert sock is not None
        for _ in range(2 * BATCH):  # past `send`, which reads them
            with contextlib.suppress(ConnectionRefusedError):
                sock.sendto(b"x", ("127.0.0.1", port))
        loop.until(lambda: len(owner.failed) >= BATCH)


def test_an_owner_may_close_it_while_it_is_told_of_a_datagram(loop: Loop) -> None:
    with opened(loop, 4) as (datagrams, owner), far_end(4) as far:
        datagrams.send(LOOPBACK[4], far.getsockname()[1], memoryview(b"?"), False)
        _, place = far.recvfrom(9)
        for _ in range(3):
            far.sendto(b"x", place)
        owner.on_arrival = datagrams.close
        loop.until(lambda: owner.got)
        assert len(owner.got) == 1
        assert len(loop.reactor) == 0
        assert datagrams.send(LOOPBACK[4], 9, memoryview(b"x"), False) is None


def test_no_descriptor_is_an_error_of_the_callers(loop: Loop) -> None:
    with no_descriptors(), pytest.raises(OSError, match="Too many open files"):
        DatagramSocket(loop.reactor, 4, Owner(), lambda address: None, lambda it: None)
    assert len(loop.reactor) == 0


@pytest.mark.parametrize("number", sorted(datagram_socket._REFUSALS))
def test_what_fails_at_once_is_returned_in_the_guests_words(loop: Loop, number: int) -> None:
    with opened(loop, 4) as (datagrams, owner):

        class Failing:
            def sendto(self, payload: bytes, place: object) -> int:
                raise OSError(number, os.strerror(number))

            def recvmsg(self, *sizes: int) -> object:
                raise BlockingIOError

        real, datagrams._socket = datagrams._socket, Failing()  # type: ignore[assignment]
        try:
            why = datagrams.send(LOOPBACK[4], 9, memoryview(b"x"), False)
        finally:
            datagrams._socket = real
        assert why is datagram_socket._REFUSALS[number]
        assert owner.failed == []


# In a network namespace: a veth of 1500 bytes whose far end hears everything. Printed: what happened.
SMALL_LINK = r"""
import socket, subprocess, sys
from tests.upstream.harness import Loop
from tests.upstream.test_datagram_socket import Owner
from torbox.relay.reactor import Reactor
from torbox.upstream.datagram_socket import DatagramSocket

def ip(*words): subprocess.run(["ip", *words], check=True)
ip("link", "add", "here", "type", "veth", "peer", "name", "there")
for name in ("here", "there", "lo"): ip("link", "set", name, "up")
ip("address", "add", "203.0.113.1/24", "dev", "here")
ip("neighbour", "add", "203.0.113.2", "lladdr", "02:00:00:00:00:02", "dev", "here")
ip("address", "add", "2001:db8:5::1/64", "dev", "here", "nodad")
ip("neighbour", "add", "2001:db8:5::2", "lladdr", "02:00:00:00:00:02", "dev", "here")
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.bind(("there", 0))
wire.settimeout(0.5)

def heard(family):
    sizes = []
    try:
        while True:
            frame = wire.recv(70000)
            v4 = frame[12:14] == b"\x08\x00"
            if v4 and family == 4 and frame[23] == 17: sizes.append((len(frame) - 14, frame[20] >> 6))
            if not v4 and family == 6 and frame[20] in (17, 44): sizes.append((len(frame) - 14, 0))
    except TimeoutError:
        return sizes

reactor = Reactor()
for family, there in ((4, "203.0.113.2"), (6, "2001:db8:5::2")):
    address = socket.inet_pton(socket.AF_INET if family == 4 else socket.AF_INET6, there)
    owner = Owner()
    datagrams = DatagramSocket(reactor, family, owner, lambda address: None, lambda it: None)
    for size, may_fragment in ((1400, False), (3000, False), (3000, True), (3000, False)):
        why = datagrams.send(address, 9, memoryview(bytes(size)), may_fragment)
        print(family, size, may_fragment, why, [mtu for _, _, mtu in owner.mtus], heard(family))
        assert all(where[:2] == (address, 9) for where in owner.mtus)
        owner.mtus.clear()
    datagrams.close()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a link of its own, watched by a raw socket")
def test_a_datagram_larger_than_the_link_is_told_of_unless_it_may_be_cut() -> None:
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", SMALL_LINK],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == [
        "4 1400 False None [] [(1428, 1)]",
        "4 3000 False None [1500] []",
        "4 3000 True None [] [(1500, 0), (1500, 0), (68, 0)]",
        "4 3000 False None [1500] []",
        "6 1400 False None [] [(1448, 0)]",
        "6 3000 False None [1500] []",
        "6 3000 True None [] [(1496, 0), (1496, 0), (160, 0)]",
        "6 3000 False None [1500] []",
    ], done.stderr
