# SPDX-License-Identifier: GPL-3.0-or-later
"""24 MB up and 24 MB down between the kernel's TCP and ours, in every combination of what may differ.

A family, an MTU, with and without super-packets, and a guest that does its best, dawdles over
reading, writes in driblets, or has no room. Each says by SHA-256 what it got.
"""

from __future__ import annotations

import hashlib
import itertools
import socket
import time

import pytest

from tests.netstack.kernel import KernelGuest
from tests.netstack.services import BLOCK, SINK, SOURCE, SOURCE_DIGEST, SOURCE_SIZE, Services

FAMILIES = {"v4": "192.0.2.7", "v6": "2001:db8::7"}
MTUS = (1280, 1500, 9000, 65520)
OFFLOADS = {"gso": True, "plain": False}
GUESTS = ("brisk", "slow reader", "slow writer", "tiny rcvbuf")
COMBINATIONS = list(itertools.product(FAMILIES, MTUS, OFFLOADS, GUESTS))

PAUSE_EVERY = 2 << 20  # bytes; rings and windows are full by then
PAUSE_S = 0.01
DRIBLET = 997  # bytes; no divisor of anything
TINY = 4096  # bytes asked for as receive buffer; Linux makes it twice that
LIMIT_S = 60.0


def _connected(address: str, port: int, rcvbuf: int = 0) -> socket.socket:
    one = socket.socket(socket.AF_INET if "." in address else socket.AF_INET6)
    if rcvbuf:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    one.settimeout(LIMIT_S)
    one.connect((address, port))
    return one


def _up(address: str, guest: str) -> str:
    """Send all of it; what the far end says it has got."""
    with _connected(address, SINK) as one:
        for _ in range(SOURCE_SIZE // len(BLOCK)):
            if guest == "slow writer":
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for at in range(0, len(BLOCK), DRIBLET):
                    one.sendall(BLOCK[at : at + DRIBLET])
            else:
                one.sendall(BLOCK)
        one.shutdown(socket.SHUT_WR)
        return one.makefile("rb").read().decode()


def _down(address: str, guest: str) -> str:
    """Read all of it; what has come."""
    digest, got, paused = hashlib.sha256(), 0, 0
    with _connected(address, SOURCE, TINY if guest == "tiny rcvbuf" else 0) as one:
        while data := one.recv(1 << 18):
            digest.update(data)
            got += len(data)
            if guest == "slow reader" and got - paused >= PAUSE_EVERY:
                paused = got
                time.sleep(PAUSE_S)  # the dawdling itself, nothing is waited for
    return digest.hexdigest()


@pytest.mark.parametrize(
    ("family", "mtu", "offload", "guest"), COMBINATIONS, ids=["-".join(map(str, it)) for it in COMBINATIONS]
)
def test_24_MB_up_and_down_arrive_whole(family: str, mtu: int, offload: str, guest: str) -> None:
    address = FAMILIES[family]

    def work() -> tuple[str, str]:
        return _up(address, guest), _down(address, guest)

    with KernelGuest(work, mtu, offload=OFFLOADS[offload]) as kernel:
        services = Services(kernel.device, time.monotonic())
        assert kernel.run(services.turn, LIMIT_S) == (SOURCE_DIGEST, SOURCE_DIGEST)
        assert not services.stack.counters.dropped.keys() - {"not between two hosts"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mtu", [1500, 65520])
def test_24_MB_arrive_whole_over_a_tun_without_virtio_headers(family: str, mtu: int) -> None:
    """Where IFF_VNET_HDR is not to be had, each packet has its whole checksum, and each end checks it."""
    address = FAMILIES[family]

    def work() -> tuple[str, str]:
        return _up(address, "brisk"), _down(address, "brisk")

    with KernelGuest(work, mtu, vnet_hdr=False) as kernel:
        assert (kernel.device.gso, kernel.device.checksums) == (False, False)
        services = Services(kernel.device, time.monotonic())
        assert kernel.run(services.turn, LIMIT_S) == (SOURCE_DIGEST, SOURCE_DIGEST)
        assert not services.stack.counters.dropped.keys() - {"not between two hosts"}
