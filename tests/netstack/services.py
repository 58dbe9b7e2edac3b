# SPDX-License-Identifier: GPL-3.0-or-later
"""Owners for a stack under test: small services by port, as the relay would drive them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

from torbox.netstack.device import Device
from torbox.netstack.flow import FlowKey, Refusal
from torbox.netstack.ring import POOL, RingPool
from torbox.netstack.stack import Stack, StackConfig
from torbox.netstack.tcp.connection import TcpConnection
from torbox.netstack.tcp.state import State

ECHO = 7
SINK = 9  # swallows, and answers the end of file with the SHA-256 of it all
DISCARD = 10  # swallows
SOURCE = 19  # sends SOURCE_SIZE bytes and closes
REFUSING = {
    1: Refusal.REFUSED,
    2: Refusal.NET_UNREACHABLE,
    3: Refusal.HOST_UNREACHABLE,
    4: Refusal.PROHIBITED,
    5: Refusal.TIMED_OUT,
}

SOURCE_SIZE = 24 << 20
BLOCK = random.Random(1).randbytes(1 << 20)
SOURCE_DIGEST = hashlib.sha256(BLOCK * (SOURCE_SIZE >> 20)).hexdigest()


class Services:
    """One worker's turn: `turn(now)` receives, pumps, flushes, and returns the next deadline."""

    def __init__(
        self,
        device: Device,
        now: float,
        config: StackConfig | None = None,
        size: int = SOURCE_SIZE,
        pool: RingPool = POOL,
    ) -> None:
        self.stack = Stack(device, self, config or StackConfig(), now, pool=pool)
        self.source_size = size
        self.datagrams: list[tuple[FlowKey, bytes]] = []
        self._opened: list[TcpConnection] = []
        self._pump: dict[int, Callable[[TcpConnection], None]] = {
            ECHO: self._echo,
            SINK: self._sink,
            DISCARD: self._discard,
            SOURCE: self._source,
        }

    def tcp_opened(self, connection: TcpConnection) -> None:
        self._opened.append(connection)

    def udp_arrived(self, key: FlowKey, payload: memoryview) -> bool:
        if key.remote_port != ECHO:
            return False
        self.datagrams.append((key, bytes(payload)))
        return True

    def turn(self, now: float) -> float:
        stack = self.stack
        more = stack.receive(now)
        stack.expire(now)
        for connection in self._opened:
            why = REFUSING.get(connection.key.remote_port)
            if connection.key.remote_port in self._pump:
                connection.accept()
            else:
                stack.refuse(connection, why or Refusal.REFUSED)
        self._opened.clear()
        for key, payload in self.datagrams:
            stack.send_datagram(key, payload)
        self.datagrams.clear()
        for connection in list(stack.dirty):
            if connection.state not in (State.CLOSED, State.SYN_RECEIVED):
                self._pump[connection.key.remote_port](connection)
        stack.flush(now)
        return now if more else stack.deadline

    @staticmethod
    def _echo(connection: TcpConnection) -> None:
        rx, tx = connection.rcv_buf, connection.snd_buf
        moved = sum(tx.write(view) for view in rx.peek(0, tx.free))
        rx.consume(moved)
        if connection.guest_finished and not len(rx):
            connection.close()

    @staticmethod
    def _sink(connection: TcpConnection) -> None:
        if connection.owner is None:
            connection.owner = hashlib.sha256()
        rx = connection.rcv_buf
        for view in rx.peek(0, len(rx)):
            connection.owner.update(view)
        rx.consume(len(rx))
        if connection.guest_finished and connection.state is State.CLOSE_WAIT:
            connection.snd_buf.write(connection.owner.hexdigest().encode())
            connection.close()

    @staticmethod
    def _discard(connection: TcpConnection) -> None:
        connection.rcv_buf.consume(len(connection.rcv_buf))
        if connection.guest_finished:
            connection.close()

    def _source(self, connection: TcpConnection) -> None:
        sent = connection.owner or 0
        tx = connection.snd_buf
        while sent < self.source_size and tx.free:
            at = sent % len(BLOCK)
            sent += tx.write(memoryview(BLOCK)[at : min(len(BLOCK), at + self.source_size - sent)])
        connection.owner = sent
        if sent == self.source_size:
            connection.close()
