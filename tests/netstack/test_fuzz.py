# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a guest sends, the stack stays up, stays within its bounds, and still serves.

Invariants, after every frame:
  - nothing but WireError was raised, and that never leaves `receive`
  - SND.UNA <= SND.NXT <= SND.MAX and RCV.NXT never go back
  - each ring holds no more than its limit, each table no more than its bound
  - the pool's account is what the rings and the text out of order really hold
and at the end a newcomer is served.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from torbox.netstack.flow import FlowKey, Refusal
from torbox.netstack.reassembly import MAX_BYTES, MAX_PACKETS
from torbox.netstack.ring import RingPool
from torbox.netstack.stack import Stack, StackConfig
from torbox.netstack.tcp.connection import TcpConnection
from torbox.netstack.tcp.outoforder import PIECE_COST
from torbox.netstack.tcp.sequence import distance
from torbox.netstack.tcp.state import State
from torbox.netstack.testing import Guest, MemoryDevice
from torbox.netstack.wire import ip, ipv4, ipv6, tcp, udp, vnet

GUESTS = (bytes((10, 0, 2, 100)), bytes.fromhex("fd00" + "00" * 13 + "64"))
REMOTES = (bytes((192, 0, 2, 7)), bytes.fromhex("20010db8" + "00" * 11 + "07"))
RING_LIMIT = 5000
NEWCOMER = 65000


class Victim:
    """A stack under fire, and an owner that does something with each connection, by chance."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = 10.0
        self.pool = RingPool()
        self.device = MemoryDevice(1500)
        self.config = StackConfig(max_connections=12, max_half_open=6, ring_limit=RING_LIMIT)
        self.stack = Stack(
            self.device, self, self.config, self.now, random_bytes=self.chance.randbytes, pool=self.pool
        )
        self.seen: dict[TcpConnection, tuple[int, int]] = {}
        self.opened: list[TcpConnection] = []

    def tcp_opened(self, connection: TcpConnection) -> None:
        self.opened.append(connection)

    def udp_arrived(self, key: FlowKey, payload: memoryview) -> bool:
        return key.remote_port % 2 == 0

    def turn(self) -> None:
        stack, chance = self.stack, self.chance
        while stack.receive(self.now):
            pass
        for connection in list(stack.dirty):
            self._use(connection)
            del connection  # whoever holds one holds its rings, and they are counted below
        self.now += chance.choice((0.0, 0.001, 0.05, 0.3, 5.0))
        stack.expire(self.now)
        stack.flush(self.now)
        self._check()

    def _use(self, connection: TcpConnection) -> None:
        what = self.chance.randrange(12)
        if connection.state is State.SYN_RECEIVED and connection in self.opened:
            if what < 8 or connection.key.guest_port == NEWCOMER:
                connection.accept()
            else:
                self.stack.refuse(connection, self.chance.choice(list(Refusal)))
            self.opened.remove(connection)
        elif connection.key.guest_port == NEWCOMER or connection.state is State.CLOSED:
            return
        elif what < 4:
            connection.rcv_buf.consume(self.chance.randint(0, RING_LIMIT))
        elif what < 8 and not connection.sender.closing:
            connection.snd_buf.write(bytes(self.chance.randint(0, 3000)))
        elif what == 8:
            connection.close()
        elif what == 9:
            connection.abort()

    def _check(self) -> None:
        stack = self.stack
        assert len(stack.connections) <= self.config.max_connections
        assert len(stack.half_open) <= self.config.max_half_open
        assert len(stack.reassembly) <= MAX_PACKETS
        assert stack.reassembly.size <= MAX_BYTES
        assert not stack.dirty
        alive = set(stack.connections.values())
        self.seen = {connection: numbers for connection, numbers in self.seen.items() if connection in alive}
        self.opened = [connection for connection in self.opened if connection in alive]
        held = 0
        for connection in stack.connections.values():
            sender, receiver = connection.sender, connection.receiver
            assert 0 <= distance(sender.una, sender.nxt) <= distance(sender.una, sender.max)
            before = self.seen.get(connection)
            if before is not None and connection.state is not State.SYN_RECEIVED:
                assert distance(before[0], sender.una) >= 0
                assert distance(before[1], receiver.nxt) >= 0
            self.seen[connection] = (sender.una, receiver.nxt)
            for ring in (connection.rcv_buf, connection.snd_buf):
                assert len(ring) <= ring.storage <= RING_LIMIT
                assert (len(ring) == 0) == (ring.storage == 0)
                held += ring.storage
            if receiver.out_of_order is not None:
                assert receiver.out_of_order.size <= RING_LIMIT
                held += receiver.out_of_order.size + PIECE_COST * len(receiver.out_of_order)
            assert connection.deadline >= 0
        assert self.pool.lent == held
        self.device.to_guest.clear()

    def serves_a_newcomer(self) -> None:
        """After the flood: time passes, dead connections go, and a new one gets through."""
        for connection in list(self.stack.connections.values()):
            connection.abort()
        self.stack.flush(self.now)
        assert not self.stack.connections
        assert self.pool.lent == 0
        guest = Guest(self.device, GUESTS[0])
        self.device.to_guest.clear()
        guest.send_segment(REMOTES[0], (NEWCOMER, 80), 7, 0, tcp.SYN, 60000)
        self.stack.receive(self.now)
        for connection in list(self.stack.dirty):
            self._use(connection)
        self.stack.flush(self.now)
        received = guest.received()
        assert received is not None
        assert tcp.parse(received[1], verify=False).flags == tcp.SYN | tcp.ACK


def mostly_right(chance: random.Random, victim: Victim) -> bytes:
    """A frame that gets far: right addresses and checksums, and numbers near what a connection expects."""
    family = chance.randrange(2)
    addresses = GUESTS[family] + REMOTES[family]
    kind = chance.randrange(10)
    fragments = ipv4.fragments if family == 0 else ipv6.fragments
    emit: Callable[[bytes, int, int], bytes] = ipv4.emit if family == 0 else ipv6.emit
    if kind == 0:
        datagram = udp.emit(addresses, 1, chance.randrange(4), chance.randbytes(chance.randrange(200)))
        pieces = fragments(addresses, ip.UDP, datagram, chance.choice((68, 1500)), chance.randrange(3))
        return vnet.NONE + chance.choice(pieces)
    if kind == 1:
        body = chance.randbytes(chance.randrange(60))
        return vnet.NONE + emit(addresses, chance.choice((0, 1, 6, 17, 43, 44, 58, 60, 99)), len(body)) + body
    port = chance.randrange(8)
    seq, ack = chance.randrange(1 << 32), chance.randrange(1 << 32)
    for connection in victim.stack.connections.values():
        if connection.key.guest_port == port and connection.key.guest_address == GUESTS[family]:
            near = (0, 0, 0, -1, 1, 100, 1460, -500, RING_LIMIT, 70000)
            seq = (connection.receiver.nxt + chance.choice(near)) & 0xFFFFFFFF
            base = chance.choice((connection.sender.una, connection.sender.nxt, connection.sender.max))
            ack = (base + chance.choice((0, 0, 0, 1, -1, 500, -70000))) & 0xFFFFFFFF
    flags = chance.choice((2, 2, 16, 16, 16, 16, 24, 17, 17, 4, 20, 18, 48, 1, 0, 63, chance.randrange(64)))
    options = chance.choice(
        (b"", b"", b"\2\4\5\xb4", b"\2\4\0\1\1\3\3\xff", b"\3\3", b"\0\0\0\0", b"\2\0\0\0")
    )
    options += bytes(-len(options) % 4)
    data = bytes(chance.choice((0, 0, 1, 10, 1460, 6000)))
    window = chance.choice((0, 1, 100, 65535, chance.randrange(65536)))
    packet = tcp.emit(addresses, bytes((0, port, 0, 80)), seq, ack, flags, window, options, data)
    header = vnet.NONE
    if chance.random() < 0.1:
        header = chance.randbytes(vnet.SIZE)
    return header + packet


def damaged(frame: bytes, chance: random.Random) -> bytes:
    data = bytearray(frame)
    for _ in range(chance.choice((0, 0, 0, 1, 1, 3))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    if chance.random() < 0.05:
        del data[chance.randrange(len(data)) :]
    return bytes(data)


@given(st.lists(st.binary(max_size=120), max_size=40))
@settings(max_examples=150, deadline=None)
def test_garbage_is_counted_and_dropped(frames: list[bytes]) -> None:
    victim = Victim(0)
    for frame in frames:
        if frame:
            victim.device.from_guest.append(frame)
            victim.device.from_guest.append(vnet.NONE + b"\x45" + frame)
            victim.device.from_guest.append(vnet.NONE + b"\x60" + frame)
    victim.turn()
    assert victim.stack.counters.packets_from_guest == 3 * sum(map(bool, frames))
    victim.serves_a_newcomer()


@given(seed=st.integers(0, 1 << 30))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_frames_that_are_nearly_right_break_nothing(seed: int) -> None:
    fuzz(seed, 250)


def fuzz(seed: int, frames: int) -> None:
    victim = Victim(seed)
    chance = random.Random(seed + 1)
    for _ in range(frames):
        frame = damaged(mostly_right(chance, victim), chance)
        if frame:
            victim.device.from_guest.append(frame)
        if chance.random() < 0.6:
            victim.turn()
    victim.turn()
    victim.serves_a_newcomer()
