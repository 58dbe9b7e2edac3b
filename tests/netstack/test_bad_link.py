# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's TCP and ours over a link that delays, loses, doubles and reorders, both ways.

The link is made in user space, between the tun and the stack, so that it needs no module of the kernel and
is the same wherever the tests run. On it a frame is what the tun hands over: with offload, a
super-packet is lost as a whole. Worse links than these are test_netsim's, where time-outs cost no time.
"""

from __future__ import annotations

import hashlib
import random
import socket
import time
from typing import Any

import pytest

from tests.netstack.kernel import KernelGuest
from tests.netstack.services import BLOCK, SINK, SOURCE, Services
from torbox.netstack.testing import BadWire, FaultyDevice

FAMILIES = {"v4": "192.0.2.7", "v6": "2001:db8::7"}
DEVICES = {
    "65520-gso": {"mtu": 65520},
    "1500-gso": {"mtu": 1500},
    "1500-plain": {"mtu": 1500, "offload": False},
}
# The link, and how many bytes go each way over it: enough for losses, few enough for their time-outs.
LINKS: dict[str, tuple[dict[str, float], int]] = {
    "20 ms": ({"delay_s": 0.02}, 8 << 20),
    "1 % lost": ({"delay_s": 0.001, "loss": 0.01}, 8 << 20),
    "10 % lost": ({"delay_s": 0.001, "loss": 0.1}, 1 << 17),
    "reordered": ({"delay_s": 0.001, "reordering": 0.2}, 8 << 20),
    "doubled": ({"delay_s": 0.001, "duplication": 0.2}, 8 << 20),
    "all of it": (
        {"delay_s": 0.005, "loss": 0.02, "duplication": 0.05, "reordering": 0.1},
        1 << 20,
    ),
}
LIMIT_S = 100.0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("link", LINKS)
def test_bytes_arrive_whole_both_ways_over_a_bad_link(family: str, device: str, link: str) -> None:
    address = FAMILIES[family]
    faults, size = LINKS[link]
    data = (BLOCK * (size // len(BLOCK) + 1))[:size]
    chance = random.Random(f"{device} {link} {family}")

    def work() -> tuple[str, str]:
        with socket.create_connection((address, SINK), timeout=LIMIT_S) as one:
            one.sendall(data)
            one.shutdown(socket.SHUT_WR)
            up = one.makefile("rb").read().decode()
        digest = hashlib.sha256()
        with socket.create_connection((address, SOURCE), timeout=LIMIT_S) as one:
            while part := one.recv(1 << 18):
                digest.update(part)
        return up, digest.hexdigest()

    options: dict[str, Any] = DEVICES[device]
    with KernelGuest(work, **options) as kernel:
        faulty = FaultyDevice(
            kernel.device, time.monotonic, BadWire(chance, **faults), BadWire(chance, **faults)
        )
        services = Services(faulty, time.monotonic(), size=size)

        def turn(now: float) -> float:
            faulty.carry(now)
            deadline = services.turn(now)
            faulty.carry(now)
            return min(deadline, faulty.deadline)

        digest = hashlib.sha256(data).hexdigest()
        assert kernel.run(turn, LIMIT_S) == (digest, digest)
