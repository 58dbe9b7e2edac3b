# SPDX-License-Identifier: GPL-3.0-or-later
"""Two of our stacks on a bad link: whatever it does, the bytes out are the bytes in, and both ends close.

Time is simulated, so minutes of time-outs cost nothing. Each end sends its own stream and closes; the link
loses, doubles, reorders and delays. `make netsim` prints a table of throughput.
"""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import dataclass, replace

import pytest

from tests.netstack.addresses import GUESTS, REMOTES
from tests.support import command
from torbox.netstack.flow import FlowKey
from torbox.netstack.ring import RingPool
from torbox.netstack.stack import Stack, StackConfig
from torbox.netstack.tcp.connection import TcpConnection
from torbox.netstack.tcp.state import State
from torbox.netstack.testing import BadWire, LinkDevice

LIMIT_S = 10_000.0  # of simulated time
MAX_EVENTS = 400_000
SIZE = 300_000  # bytes, of the table
SEEDS = 11


@dataclass(frozen=True)
class Link:
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    delay_s: float = 0.001
    mtu: int = 1500
    gso: bool = False
    ring_limit: int = 1 << 18
    version: int = 4
    sack: bool = True
    timestamps: bool = True


class End:
    """One stack that accepts whatever comes, writes its stream, and reads the other's."""

    def __init__(self, device: LinkDevice, stream: bytes, link: Link, chance: random.Random) -> None:
        self.pool = RingPool()
        self.device = device
        self.stream = stream
        self.position = 0
        self.received = bytearray()
        self.connection: TcpConnection | None = None
        self.chance = chance
        self.stack = Stack(
            device, self, StackConfig(ring_limit=link.ring_limit), 0.0, chance.randbytes, pool=self.pool
        )

    def tcp_opened(self, connection: TcpConnection) -> None:
        assert self.connection is None or self.connection.state is State.CLOSED
        self.connection = connection
        connection.accept()

    def udp_arrived(self, key: FlowKey, payload: memoryview) -> bool:
        return False

    def turn(self, now: float) -> None:
        stack = self.stack
        while stack.receive(now):
            pass
        stack.expire(now)
        connection = self.connection
        if connection is not None and connection in stack.dirty and connection.state is not State.CLOSED:
            self._pump(connection)
        stack.flush(now)

    def _pump(self, connection: TcpConnection) -> None:
        ring = connection.rcv_buf
        size = self.chance.randint(0, len(ring)) if self.chance.random() < 0.2 else len(ring)
        self.received += b"".join(ring.peek(0, size))
        ring.consume(size)
        if len(ring):
            self.stack.mark(connection)
        if not connection.sender.closing:
            self.position += connection.snd_buf.write(self.stream[self.position :][: connection.snd_buf.free])
            if self.position == len(self.stream):
                connection.close()

    @property
    def done(self) -> bool:
        return self.connection is not None and self.connection.state in (State.CLOSED, State.TIME_WAIT)


def simulate(link: Link, size: int, seed: int, *, at_once: bool = False) -> tuple[End, End, float]:
    """Both ends, and how many seconds it took until both were done; `at_once`: both connect."""
    chance = random.Random(seed)
    clock = [0.0]
    devices = [
        LinkDevice(
            lambda: clock[0],
            BadWire(
                chance,
                loss=link.loss,
                duplication=link.duplication,
                reordering=link.reordering,
                delay_s=link.delay_s,
            ),
            mtu=link.mtu,
            gso=link.gso,
            checksums=link.gso,
        )
        for _ in range(2)
    ]
    devices[0].peer, devices[1].peer = devices[1], devices[0]
    here = End(devices[0], chance.randbytes(size), link, chance)
    there = End(devices[1], chance.randbytes(size // 2), link, chance)
    # The far end has the guest's addresses the other way round: its guest is what we call the remote end.
    there.connection = there.stack.connect(FlowKey(REMOTES[link.version], 80, GUESTS[link.version], 5000))
    if at_once:
        here.connection = here.stack.connect(FlowKey(GUESTS[link.version], 5000, REMOTES[link.version], 80))
    assert there.connection is not None
    there.connection.sack = link.sack  # what is not offered is not used by the other end either
    if not link.timestamps:
        there.connection.timestamps = None
    ends = (there, here)
    for _ in range(MAX_EVENTS):
        for end in ends:
            end.turn(clock[0])
        if here.done and there.done:
            break
        pumping = any(end.connection is not None and len(end.connection.rcv_buf) for end in ends)
        deadline = min(*(device.deadline for device in devices), *(end.stack.deadline for end in ends))
        if pumping:
            deadline = min(deadline, clock[0] + 0.001)
            for end in ends:
                if end.connection is not None:
                    end.stack.mark(end.connection)
        assert deadline < math.inf, "nothing will ever happen again"
        clock[0] = max(clock[0], deadline)
        assert clock[0] < LIMIT_S, "it takes for ever"
        for device in devices:
            device.arrive(clock[0])
    else:
        pytest.fail("too many events")
    return here, there, clock[0]


def check(here: End, there: End) -> None:
    for end in (here, there):
        assert end.connection is not None
        end.received += b"".join(end.connection.rcv_buf.peek(0, len(end.connection.rcv_buf)))
        end.connection.rcv_buf.clear()
    assert bytes(here.received) == there.stream
    assert bytes(there.received) == here.stream
    for end in (here, there):
        assert end.connection is not None
        assert not end.connection.was_reset
        end.stack.expire(LIMIT_S * 2)
        end.stack.flush(LIMIT_S * 2)
        assert not end.stack.connections
        assert end.pool.lent == 0


@pytest.mark.parametrize(
    "link",
    [
        Link(),
        Link(version=6),
        Link(gso=True, mtu=65520),
        Link(loss=0.01),
        Link(loss=0.1, version=6),
        Link(loss=0.3),
        Link(duplication=0.3),
        Link(reordering=0.3),
        Link(loss=0.05, duplication=0.1, reordering=0.2),
        Link(loss=0.05, duplication=0.1, reordering=0.2, gso=True, version=6),
        Link(loss=0.1, reordering=0.1, gso=True, mtu=65520),
        Link(loss=0.05, ring_limit=3000),
        Link(reordering=0.2, ring_limit=700),
        Link(loss=0.02, delay_s=0.1),
        Link(loss=0.1, duplication=0.1, reordering=0.5, mtu=1280, version=6, delay_s=0.02),
    ],
    ids=str,
)
def test_bytes_out_are_bytes_in_and_both_ends_close(link: Link) -> None:
    for seed in range(3):
        here, there, _ = simulate(link, 150_000, seed)
        check(here, there)


@pytest.mark.parametrize("loss", [0.0, 0.01, 0.03, 0.1, 0.2, 0.3])
@pytest.mark.parametrize("sack", [False, True])
@pytest.mark.parametrize("timestamps", [False, True])
def test_bytes_are_whole_at_every_loss_with_and_without_options(
    loss: float, sack: bool, timestamps: bool
) -> None:
    for seed, (gso, mtu) in enumerate(((False, 1500), (True, 1500), (True, 65520))):
        link = Link(loss=loss, gso=gso, mtu=mtu, sack=sack, timestamps=timestamps)
        here, there, _ = simulate(link, 100_000, seed)
        check(here, there)


@pytest.mark.parametrize("ring_limit", [700, 3000, 20_000])
@pytest.mark.parametrize(
    "link", [Link(duplication=0.3), Link(reordering=0.5), Link(loss=0.1, delay_s=0.02)], ids=str
)
def test_bytes_are_whole_through_buffers_of_any_size(ring_limit: int, link: Link) -> None:
    for seed, version in enumerate((4, 6)):
        here, there, _ = simulate(replace(link, ring_limit=ring_limit, version=version), 40_000, seed)
        check(here, there)


def test_a_single_loss_is_mended_without_a_time_out() -> None:
    """With SACK and one loss in a hundred; the median, since a lost last segment does cost one."""
    times = [simulate(Link(loss=0.01, ring_limit=1 << 20), 300_000, seed)[2] for seed in range(9)]
    assert statistics.median(times) < 0.05  # the least time-out is 0.2


@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_two_ends_may_open_at_once(loss: float) -> None:
    for seed in range(4):
        here, there, _ = simulate(Link(loss=loss), 50_000, seed, at_once=True)
        check(here, there)


def test_two_ends_that_both_went_back_still_hear_each_other() -> None:
    """After time-outs at both ends, acknowledgements from SND.NXT were old to each: nothing moved."""
    link = Link(loss=0.1, duplication=0.1, reordering=0.5, mtu=1280, version=6, delay_s=0.02)
    for seed in (1, 5, 11, 12, 56):
        here, there, _ = simulate(link, 150_000, seed)
        check(here, there)


def test_a_link_that_loses_nothing_carries_nothing_twice() -> None:
    here, there, took_s = simulate(Link(), 1_000_000, 1)
    check(here, there)
    assert here.connection is not None
    assert there.connection is not None
    assert here.connection.sender.resent == there.connection.sender.resent == 0
    assert took_s < 1


def test_a_long_fat_path_is_filled() -> None:
    """Without window scaling a round trip of 100 ms would carry 64 KiB, and this take 3 s at least."""
    here, there, took_s = simulate(Link(delay_s=0.05, ring_limit=1 << 20, gso=True), 2_000_000, 1)
    check(here, there)
    assert took_s < 0.9


def table() -> int:
    """Mbit/s of simulated time, the median of some seeds, by buffer and loss."""
    losses = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3)
    for sack, timestamps in ((False, False), (True, False), (False, True), (True, True)):
        print(f"SACK {'on' if sack else 'off'}, timestamps {'on' if timestamps else 'off'}")
        print("    ring limit " + "".join(f"{loss:>9.0%}" for loss in losses))
        for ring_limit in (4096, 65536, 1 << 20):
            row = ""
            for loss in losses:
                link = Link(loss=loss, ring_limit=ring_limit, sack=sack, timestamps=timestamps)
                took_s = statistics.median(simulate(link, SIZE, seed)[2] for seed in range(SEEDS))
                row += f"{SIZE * 8 / took_s / 1e6:9.2f}"
            print(f"    {ring_limit:10} {row}")
    return 0


if __name__ == "__main__":
    command.run(table)
