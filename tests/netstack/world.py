# SPDX-License-Identifier: GPL-3.0-or-later
"""A stack with a guest on one side and an owner on the other, for what is not a conversation in TCP."""

from __future__ import annotations

from tests.netstack.addresses import GUESTS
from torbox.netstack.flow import FlowKey
from torbox.netstack.ring import RingPool
from torbox.netstack.stack import Stack, StackConfig
from torbox.netstack.tcp.connection import TcpConnection
from torbox.netstack.testing import Guest, MemoryDevice
from torbox.netstack.wire import icmpv4, icmpv6, ip


class World:
    """A stack, its guest, and an owner that takes datagrams to port 53 alone."""

    def __init__(
        self, version: int = 4, *, mtu: int = 1500, config: StackConfig | None = None, offload: bool = True
    ):
        self.version = version
        self.now = 50.0
        self.device = MemoryDevice(mtu, gso=offload, checksums=offload)
        self.guest = Guest(self.device, GUESTS[version])
        self.datagrams: list[tuple[FlowKey, bytes]] = []
        self.opened: list[TcpConnection] = []
        self.stack = Stack(self.device, self, config or StackConfig(), self.now, pool=RingPool())

    def tcp_opened(self, connection: TcpConnection) -> None:
        self.opened.append(connection)

    def udp_arrived(self, key: FlowKey, payload: memoryview) -> bool:
        if key.remote_port != 53:
            return False
        self.datagrams.append((key, bytes(payload)))
        return True

    def turn(self) -> list[ip.Packet]:
        """Everything that is sent for all that was put in."""
        while self.stack.receive(self.now):
            pass
        self.stack.flush(self.now)
        packets = []
        while received := self.guest.received():
            packets.append(received[1])
        return packets

    def icmp(self) -> list[tuple[bytes, int, int, bytes]]:
        """(source, type, code, body) of each message that is sent."""
        messages = []
        for packet in self.turn():
            assert packet.destination == self.guest.address
            message = icmpv4.parse(packet) if self.version == 4 else icmpv6.parse(packet)
            messages.append((packet.source, message.type, message.code, bytes(message.body)))
        return messages
