# SPDX-License-Identifier: GPL-3.0-or-later
"""What a real kernel offers is what is used with it, and whatever it does not offer is done without."""

from __future__ import annotations

import hashlib
import random
import socket
import time
from pathlib import Path

import pytest

from tests.netstack.kernel import KernelGuest
from tests.netstack.services import BLOCK, SINK, SOURCE, Services
from torbox.netstack.tcp.connection import TcpConnection
from torbox.netstack.testing import BadWire, FaultyDevice

SIZE = 8 << 20
LOST = 20  # one in so many large frames
TCP_INFO_OPTIONS = 5  # offset of tcpi_options in struct tcp_info
TIMESTAMPS, SACK = 1, 2  # TCPI_OPT_*


class Sieve(BadWire):
    """Loses every twentieth large frame, so that each run has its losses."""

    def __init__(self) -> None:
        super().__init__(random.Random(7), delay_s=0.0005)
        self._large = 0

    def put(self, frame: bytes, now: float) -> None:
        if len(frame) > 4000:
            self._large += 1
            if self._large % LOST == 0:
                return
        super().put(frame, now)


@pytest.mark.parametrize("timestamps", [True, False])
@pytest.mark.parametrize("sack", [True, False])
def test_a_lossy_link_is_mended_with_what_the_kernel_offers(sack: bool, timestamps: bool) -> None:
    data = BLOCK * (SIZE // len(BLOCK))

    def work() -> tuple[int, str, str]:
        Path("/proc/sys/net/ipv4/tcp_sack").write_text(str(int(sack)))
        Path("/proc/sys/net/ipv4/tcp_timestamps").write_text(str(int(timestamps)))
        with socket.create_connection(("192.0.2.7", SINK), timeout=60) as one:
            options = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 64)[TCP_INFO_OPTIONS]
            one.sendall(data)
            one.shutdown(socket.SHUT_WR)
            up = one.makefile("rb").read().decode()
        digest = hashlib.sha256()
        with socket.create_connection(("192.0.2.7", SOURCE), timeout=60) as one:
            while part := one.recv(1 << 18):
                digest.update(part)
        return options, up, digest.hexdigest()

    with KernelGuest(work, mtu=9000) as kernel:
        faulty = FaultyDevice(kernel.device, time.monotonic, Sieve(), Sieve())
        services = Services(faulty, time.monotonic(), size=SIZE)
        seen: dict[int, TcpConnection] = {}

        def turn(now: float) -> float:
            faulty.carry(now)
            deadline = services.turn(now)
            for connection in services.stack.connections.values():
                seen[connection.key.remote_port] = connection
            faulty.carry(now)
            return min(deadline, faulty.deadline)

        options, up, down = kernel.run(turn, 100)
    digest = hashlib.sha256(data).hexdigest()
    assert (up, down) == (digest, digest)
    assert bool(options & SACK) == sack
    assert bool(options & TIMESTAMPS) == timestamps
    source = seen[SOURCE]
    assert source.sack == sack
    assert (source.timestamps is not None) == timestamps
    assert source.sender.resent > 0
    assert (source.sender.scoreboard is not None) == sack
