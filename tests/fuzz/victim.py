# SPDX-License-Identifier: GPL-3.0-or-later
"""A stack under fire: whatever a guest sends, it stays up, stays within its bounds, and still serves.

Invariants, after every turn:
  - nothing but WireError was raised, and that never leaves `receive`
  - SND.UNA <= SND.NXT <= SND.MAX; SND.UNA and RCV.NXT never go back
  - each ring holds no more than its limit, each table no more than its bound
  - the pool's account is what the rings and the text out of order really hold
  - what the owner reads is what the guest sent at that place, and what is sent is what the owner wrote there
  - what is sent can be parsed, has right checksums, and is no larger than the device carries
and at the end a newcomer is served.

Nothing here is left to chance: what the owner does follows from the number each turn is given, and initial
sequence numbers are all the same. So a run is its frames and its turns, and can be written down (case.py).
Data follows from sequence numbers: whatever a frame says, its text is replaced by what belongs there.
"""

from __future__ import annotations

import random

from torbox.netstack.flow import FlowKey, Refusal
from torbox.netstack.reassembly import MAX_BYTES, MAX_PACKETS
from torbox.netstack.ring import RingPool
from torbox.netstack.stack import BATCH, MAX_TO_GATEWAY, Stack, StackConfig
from torbox.netstack.tcp.connection import TcpConnection
from torbox.netstack.tcp.outoforder import PIECE_COST
from torbox.netstack.tcp.sequence import distance
from torbox.netstack.tcp.state import State
from torbox.netstack.testing import Guest, MemoryDevice
from torbox.netstack.wire import WireError, icmpv4, icmpv6, ip, ipv4, ipv6, tcp, udp, vnet

GUESTS = (bytes((10, 0, 2, 100)), bytes.fromhex("fd00" + "00" * 13 + "64"))
REMOTES = (bytes((192, 0, 2, 7)), bytes.fromhex("20010db8" + "00" * 11 + "07"))
RING_LIMIT = 5000  # bytes: small, so that windows close
OUR_ISS = 0xFFFFF000  # wraps after a few segments
NEWCOMER = 65000
MTU = 1500
TEXT = random.Random(0).randbytes(1 << 16) * 2
PASSES_S = (0.0, 0.0, 0.001, 0.001, 0.05, 0.3, 5.0, 130.0)  # what a turn lets go by
REFUSALS = list(Refusal)
OPENING = (State.SYN_SENT, State.SYN_RECEIVED)


class PatternDevice(MemoryDevice):
    """Puts into each segment that is one the text that belongs at its sequence number."""

    def read_into(self, buffer: memoryview) -> int:
        size = super().read_into(buffer)
        if size <= vnet.SIZE:
            return size
        try:
            form = ipv4 if buffer[vnet.SIZE] >> 4 == 4 else ipv6
            packet = form.parse(buffer, vnet.SIZE, size)
            if packet.protocol == ip.TCP and packet.fragment is None:
                segment = tcp.parse(packet, verify=not buffer[0] & vnet.NEEDS_CSUM)
                segment.data[:] = text_at(segment.seq, len(segment.data))
                buffer[0] |= vnet.NEEDS_CSUM
        except WireError:
            pass  # the stack's to find out
        return size


def text_at(seq: int, size: int) -> bytes:
    """What both sides send at a sequence number; `size` up to 64 KiB."""
    start = seq & 0xFFFF
    return TEXT[start : start + size]


class Victim:
    def __init__(self, *, gso: bool = True) -> None:
        self.now = 10.0
        self.pool = RingPool()
        self.device = PatternDevice(MTU, gso=gso, checksums=gso)
        self.config = StackConfig(max_connections=12, max_half_open=6, ring_limit=RING_LIMIT)
        self.stack = Stack(
            self.device,
            self,
            self.config,
            self.now,
            random_bytes=lambda size: OUR_ISS.to_bytes(size, "big"),
            pool=self.pool,
        )
        self._numbers: dict[TcpConnection, tuple[int, int]] = {}
        self._opened: dict[TcpConnection, None] = {}
        self._datagrams: list[tuple[FlowKey, int]] = []

    # The owner's side: notes only

    def tcp_opened(self, connection: TcpConnection) -> None:
        self._opened[connection] = None

    def udp_arrived(self, key: FlowKey, payload: memoryview) -> bool:
        if key.remote_port % 2 or len(self._datagrams) > BATCH:
            return False
        self._datagrams.append((key, len(payload)))
        return True

    # One turn

    def turn(self, what: int) -> None:
        """All that waits is received, used as `what` says (32 bits), and flushed; time passes."""
        stack = self.stack
        while stack.receive(self.now):
            pass
        for connection in list(stack.dirty):
            self._use(connection, (what ^ connection.key.guest_port * 0x9E3779B1) & 0xFFFFFFFF)
            del connection  # whoever holds one holds its rings, and they are counted below
        for key, size in self._datagrams:
            stack.send_datagram(key, bytes(size * (what >> 28) % 4000))
        self._datagrams.clear()
        if what % 61 == 0:
            stack.connect(FlowKey(GUESTS[what >> 6 & 1], what >> 7 & 7, REMOTES[what >> 6 & 1], 22))
        self.now += PASSES_S[what >> 16 & 7]
        stack.expire(self.now)
        stack.flush(self.now)
        self._check()
        self._check_sent()

    def _use(self, connection: TcpConnection, what: int) -> None:
        verb, amount = what % 13, what >> 12
        if connection in self._opened:
            if connection.state is State.SYN_RECEIVED:
                if verb < 8 or connection.key.guest_port == NEWCOMER:
                    connection.accept()
                elif verb < 11:
                    self.stack.refuse(connection, REFUSALS[amount % len(REFUSALS)])
                else:
                    return  # it goes on to wait
            del self._opened[connection]
        elif connection.key.guest_port == NEWCOMER or connection.state is State.CLOSED:
            return
        elif verb < 5:
            self._read(connection, amount % RING_LIMIT)
        elif verb < 9 and not connection.sender.closing:
            sender = connection.sender
            start = sender.una + len(connection.snd_buf) + (sender.una == sender.iss)
            connection.snd_buf.write(text_at(start, amount % 3000))
        elif verb == 9:
            connection.close()
        elif verb == 10 and amount % 4 == 0:
            connection.abort()
        elif verb == 11:
            connection.probe()
        elif amount % 4 == 0:
            connection.keep_alive(0.2, 0.05, 2)

    @staticmethod
    def _read(connection: TcpConnection, size: int) -> None:
        ring, receiver = connection.rcv_buf, connection.receiver
        data = b"".join(ring.peek(0, size))
        start = receiver.nxt - receiver.finished - len(ring)
        assert data == text_at(start, len(data)), "what was read is not what was sent"
        ring.consume(size)

    # The invariants

    def _check(self) -> None:
        stack = self.stack
        assert len(stack.connections) <= self.config.max_connections
        assert stack.half_open.waiting <= self.config.max_half_open + MAX_TO_GATEWAY
        assert stack.half_open.answered <= self.config.max_half_open
        assert len(stack.reassembly) <= MAX_PACKETS
        partials = stack.reassembly._partials.values()
        assert sum(each.size for each in partials) == stack.reassembly.size <= MAX_BYTES
        assert all(each.state is State.CLOSED for each in stack.dirty)  # those that gave way
        numbers: dict[TcpConnection, tuple[int, int]] = {}
        held = 0
        for connection in stack.connections.values():
            sender, receiver = connection.sender, connection.receiver
            una, nxt = sender.una, receiver.nxt
            assert 0 <= distance(una, sender.nxt) <= distance(una, sender.max)
            before = self._numbers.get(connection)
            if before is not None:
                assert distance(before[0], una) >= 0, "SND.UNA went back"
                assert distance(before[1], nxt) >= 0, "RCV.NXT went back"
            if connection.state not in OPENING:
                numbers[connection] = (una, nxt)
            for ring in (connection.rcv_buf, connection.snd_buf):
                assert len(ring) <= ring.storage <= RING_LIMIT
                assert (len(ring) == 0) == (ring.storage == 0)
                held += ring.storage
            early = receiver.out_of_order
            if early is not None:
                assert early.size <= RING_LIMIT
                held += early.size + PIECE_COST * len(early)
            assert connection.deadline >= 0
        self._numbers = numbers
        if self._opened:
            alive = stack.connections
            self._opened = {each: None for each in self._opened if each in alive.values()}
        assert self.pool.lent == held

    def _check_sent(self) -> None:
        for frame in self.device.to_guest:
            view = memoryview(frame)
            header = vnet.parse(view)
            verify = not header.flags & vnet.NEEDS_CSUM
            form = ipv4 if frame[vnet.SIZE] >> 4 == 4 else ipv6
            packet = form.parse(view, vnet.SIZE, len(view))
            assert packet.end == len(view)
            assert packet.end - packet.header <= MTU or header.gso_size
            if packet.fragment is not None:
                continue
            if packet.protocol == ip.TCP:
                segment = tcp.parse(packet, verify=verify)
                assert segment.data == text_at(segment.seq, len(segment.data)), "not what was written"
                if header.gso_size:
                    assert len(segment.data) > header.gso_size
                    assert self.device.gso
            elif packet.protocol == ip.UDP:
                udp.parse(packet, verify=verify)
            else:
                assert verify
                (icmpv4 if packet.version == 4 else icmpv6).parse(packet)
        self.device.to_guest.clear()

    def serves_a_newcomer(self) -> None:
        """After the flood: the dead connections go, and a new one gets through."""
        for connection in list(self.stack.connections.values()):
            connection.abort()
            del connection
        self.stack.flush(self.now)
        assert not self.stack.connections
        self._opened.clear()
        self._numbers.clear()
        assert self.pool.lent == 0
        guest = Guest(self.device, GUESTS[0])
        self.device.to_guest.clear()
        guest.send_segment(REMOTES[0], (NEWCOMER, 80), 7, 0, tcp.SYN, 60000)
        self.stack.receive(self.now)
        for connection in list(self.stack.dirty):
            self._use(connection, 0)
        self.stack.flush(self.now)
        received = guest.received()
        assert received is not None
        assert tcp.parse(received[1], verify=False).flags == tcp.SYN | tcp.ACK
