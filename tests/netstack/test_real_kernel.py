# SPDX-License-Identifier: GPL-3.0-or-later
"""The stack against the kernel's own TCP, through a real tun."""

from __future__ import annotations

import errno
import hashlib
import select
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.netstack.kernel import KernelGuest
from tests.netstack.services import BLOCK, ECHO, SINK, SOURCE, SOURCE_DIGEST, SOURCE_SIZE, Services
from torbox.netstack.ring import RingPool
from torbox.netstack.stack import StackConfig

V4, V6 = "192.0.2.7", "2001:db8::7"
ADDRESSES = pytest.mark.parametrize("address", [V4, V6], ids=["v4", "v6"])
DEVICES = pytest.mark.parametrize(
    "device",
    [
        {"mtu": 65520},
        {"mtu": 1500},
        {"mtu": 1500, "offload": False},
        {"mtu": 9000, "offload": False, "vnet_hdr": False},
    ],
    ids=["65520-gso", "1500-gso", "1500-plain", "9000-no-vnet"],
)


def run(work: Callable[[], Any], config: StackConfig | None = None, **device: Any) -> Any:
    with KernelGuest(work, **device) as guest:
        services = Services(guest.device, time.monotonic(), config)
        result = guest.run(services.turn)
        assert not services.stack.counters.dropped.keys() - {"not between two hosts"}
        return result


def connected(address: str, port: int) -> socket.socket:
    return socket.create_connection((address, port), timeout=20)


@ADDRESSES
@DEVICES
def test_24_MB_up_and_down_arrive_whole(address: str, device: dict[str, Any]) -> None:
    def work() -> tuple[str, str]:
        with connected(address, SINK) as up:
            for _ in range(SOURCE_SIZE >> 20):
                up.sendall(BLOCK)
            up.shutdown(socket.SHUT_WR)
            sent = up.makefile("rb").read().decode()
        digest = hashlib.sha256()
        with connected(address, SOURCE) as down:
            while data := down.recv(1 << 18):
                digest.update(data)
        return sent, digest.hexdigest()

    assert run(work, **device) == (SOURCE_DIGEST, SOURCE_DIGEST)


@ADDRESSES
@pytest.mark.parametrize("mtu", [1500, 65520])
def test_a_slow_reader_with_a_tiny_buffer_gets_every_byte(address: str, mtu: int) -> None:
    """slirp4netns#284: a sender that waits for room for a whole segment stalls for seconds here."""
    size = 1 << 20

    def work() -> tuple[str, float]:
        started = time.monotonic()
        digest = hashlib.sha256()
        with socket.socket(socket.AF_INET if "." in address else socket.AF_INET6) as down:
            down.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            down.settimeout(20)
            down.connect((address, SOURCE))
            while data := down.recv(3000):
                digest.update(data)
        return digest.hexdigest(), time.monotonic() - started

    with KernelGuest(work, mtu=mtu) as guest:
        services = Services(guest.device, time.monotonic(), size=size)
        digest, took_s = guest.run(services.turn)
    assert digest == hashlib.sha256(BLOCK[:size]).hexdigest()
    assert took_s < 5


@ADDRESSES
def test_our_own_tiny_rings_hold_a_fast_sender_back(address: str) -> None:
    def work() -> str:
        with connected(address, SINK) as up:
            for _ in range(4):
                up.sendall(BLOCK)
            up.shutdown(socket.SHUT_WR)
            return up.makefile("rb").read().decode()

    assert run(work, StackConfig(ring_limit=5000)) == hashlib.sha256(BLOCK * 4).hexdigest()


@ADDRESSES
def test_an_echo_keeps_both_directions_going_at_once(address: str) -> None:
    size = 8 << 20

    def work() -> bool:
        sent = received = 0
        digests = hashlib.sha256(), hashlib.sha256()
        with connected(address, ECHO) as both:
            both.setblocking(False)
            poll = select.poll()
            poll.register(both, select.POLLIN | select.POLLOUT)
            while received < size:
                for _, events in poll.poll(20_000):
                    if events & select.POLLOUT and sent < size:
                        piece = BLOCK[sent % len(BLOCK) :][: size - sent]
                        taken = both.send(piece)
                        digests[0].update(piece[:taken])
                        sent += taken
                        if sent == size:
                            both.shutdown(socket.SHUT_WR)
                            poll.modify(both, select.POLLIN)
                    if events & select.POLLIN:
                        data = both.recv(1 << 18)
                        digests[1].update(data)
                        received += len(data)
            both.settimeout(20)
            rest = both.recv(1)  # the end may come behind the last byte
        return rest == b"" and digests[0].digest() == digests[1].digest()

    assert run(work)


@ADDRESSES
def test_a_refusal_is_what_connect_says_at_once(address: str) -> None:
    def work() -> tuple[list[int], bool, float]:
        started = time.monotonic()
        errors = []
        for port in (1, 2, 3, 4):
            with socket.socket(socket.AF_INET if "." in address else socket.AF_INET6) as one:
                one.settimeout(20)
                errors.append(one.connect_ex((address, port)))
        took_s = time.monotonic() - started
        with socket.socket(socket.AF_INET if "." in address else socket.AF_INET6) as one:
            one.settimeout(0.3)
            timed_out = one.connect_ex((address, 5)) == errno.EAGAIN
        return errors, timed_out, took_s

    errors, timed_out, took_s = run(work)
    prohibited = errno.EHOSTUNREACH if "." in address else errno.EACCES
    assert errors == [errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, prohibited]
    assert timed_out
    assert took_s < 1


@ADDRESSES
@DEVICES
def test_a_datagram_nobody_takes_is_refused_at_once_and_one_taken_is_answered(
    address: str, device: dict[str, Any]
) -> None:
    def work() -> tuple[int, bytes, bytes, float]:
        started = time.monotonic()
        family = socket.AF_INET if "." in address else socket.AF_INET6
        with (
            socket.socket(family, socket.SOCK_DGRAM) as one,
            socket.socket(family, socket.SOCK_DGRAM) as other,
        ):
            one.connect((address, 443))
            one.settimeout(20)
            one.send(b"quic?")
            try:
                one.recv(1)
                error = 0
            except OSError as refused:
                error = refused.errno or -1
            other.connect((address, ECHO))
            other.settimeout(20)
            other.send(b"small")
            small = other.recv(100)
            other.send(BLOCK[:60_000])  # in fragments where the MTU is small
            large = other.recv(65535)
        return error, small, large, time.monotonic() - started

    error, small, large, took_s = run(work, **device)
    assert error == errno.ECONNREFUSED
    assert small == b"small"
    assert large == BLOCK[:60_000]
    assert took_s < 1


def test_ping_reaches_the_gateway_and_is_told_that_the_world_is_prohibited() -> None:
    def work() -> list[tuple[int, str]]:
        results = []
        for address in ("10.0.2.2", "fd00::2", V4, V6):
            done = subprocess.run(
                ["ping", "-n", "-c", "1", "-W", "5", address], capture_output=True, text=True, check=False
            )
            results.append((done.returncode, done.stdout))
        return results

    gateway4, gateway6, world4, world6 = run(work)
    assert gateway4[0] == gateway6[0] == 0
    assert world4[0] == world6[0] == 1
    assert "Packet filtered" in world4[1]
    assert "prohibited" in world6[1]


@ADDRESSES
def test_a_program_killed_with_unread_data_resets_and_is_forgotten(address: str) -> None:
    def work() -> int:
        with connected(address, SOURCE) as down:
            down.recv(1)
            down.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with connected(address, ECHO) as after:
            after.sendall(b"still here")
            return len(after.recv(100))

    with KernelGuest(work) as guest:
        services = Services(guest.device, time.monotonic())
        assert guest.run(services.turn) == len(b"still here")
        guest.until(services.turn, lambda: len(services.stack.connections) <= 1, 10)  # the echo may linger


def test_many_connections_at_once_and_nothing_left_behind() -> None:
    count = 300

    def work() -> int:
        sockets = [connected(V4 if i % 2 else V6, ECHO) for i in range(count)]
        for i, one in enumerate(sockets):
            one.sendall(b"%d" % i)
        right = sum(one.recv(10) == b"%d" % i for i, one in enumerate(sockets))
        for one in sockets:
            one.shutdown(socket.SHUT_WR)
        for one in sockets:
            right += one.recv(1) == b""
            one.close()
        return right

    pool = RingPool()
    with KernelGuest(work) as guest:
        services = Services(guest.device, time.monotonic(), pool=pool)
        assert guest.run(services.turn) == 2 * count
        guest.until(services.turn, lambda: not services.stack.connections, 10)
        assert not services.stack.half_open
    assert pool.lent == 0
