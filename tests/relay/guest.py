# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest without a kernel: a second stack at the other end of a socket pair that stands for the tun.

Datagrams of a socket pair keep packets apart as a tun does, so the relay's side is the real thing: a
TunDevice, an edge-triggered descriptor, the whole turn.
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from tests.support.patience import PATIENCE_S
from tests.upstream.socks_server import Server
from torbox.netstack.device import TunDevice
from torbox.netstack.flow import FlowKey
from torbox.netstack.ring import RingPool
from torbox.netstack.stack import Stack, StackConfig
from torbox.netstack.tcp.connection import TcpConnection
from torbox.netstack.tcp.state import State
from torbox.relay.policy import Rules
from torbox.relay.reactor import Reactor
from torbox.relay.relay import MAX_FINISHED, Relay
from torbox.upstream.interface import Upstream
from torbox.upstream.registry import open_upstream, parse_url
from torbox.upstream.tor import new_isolation

GUEST = bytes((10, 0, 2, 100))
GUEST6 = bytes.fromhex("fd00") + bytes(12) + b"\x01\x00"
GATEWAY = bytes((10, 0, 2, 2))
SITE = bytes((93, 184, 215, 14))
MTU = 65520
GLANCE_S = 0.005  # the guest's packets and the tests' server threads make no event of the relay's


def device_pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for sock in (ours, theirs):
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    return ours, theirs


class WatchedDevice:
    """A TunDevice that writes down the ICMP errors which come by: (version, type, code)."""

    def __init__(self, fd: int) -> None:
        self._tun = TunDevice(fd, MTU)
        self.mtu, self.checksums, self.gso = MTU, self._tun.checksums, self._tun.gso
        self.fileno, self.write = self._tun.fileno, self._tun.write
        self.errors: list[tuple[int, int, int]] = []

    def read_into(self, buffer: memoryview) -> int:
        size = self._tun.read_into(buffer)
        packet = buffer[10:size]
        if size and packet[0] >> 4 == 4 and packet[9] == 1:
            self.errors.append((4, packet[20], packet[21]))
        elif size and packet[0] >> 4 == 6 and packet[6] == 58:
            self.errors.append((6, packet[40], packet[41]))
        return size


class Guest:
    """Connects to what it likes. Ports count up from 40000."""

    def __init__(self, fd: int) -> None:
        self.device = WatchedDevice(fd)
        self.stack = Stack(
            self.device, self, StackConfig(own=(GUEST, GUEST6)), time.monotonic(), pool=RingPool()
        )
        self.datagrams: list[tuple[FlowKey, bytes]] = []
        self._port = 40000

    def tcp_opened(self, connection: TcpConnection) -> None:
        raise AssertionError("nobody connects to the guest")

    def udp_arrived(self, key: FlowKey, payload: memoryview) -> bool:
        self.datagrams.append((key, bytes(payload)))
        return True

    def connect(self, address: bytes, port: int = 80) -> TcpConnection:
        self._port += 1
        own = GUEST if len(address) == 4 else GUEST6
        connection = self.stack.connect(FlowKey(address, port, own, self._port))
        assert connection is not None
        return connection

    def send_datagram(self, address: bytes, port: int, payload: bytes) -> None:
        self._port += 1
        own = GUEST if len(address) == 4 else GUEST6
        assert self.stack.send_datagram(FlowKey(address, port, own, self._port), payload)

    def turn(self) -> None:
        now = time.monotonic()
        while self.stack.receive(now):
            pass
        self.stack.expire(now)
        self.stack.flush(now)


def write(connection: TcpConnection, data: bytes) -> int:
    size = connection.snd_buf.write(data)
    connection._mark(connection)
    return size


def read(connection: TcpConnection) -> bytes:
    data = b"".join(map(bytes, connection.rcv_buf.peek(0, 1 << 30)))
    connection.rcv_buf.consume(len(data))
    connection._mark(connection)
    return data


def is_open(connection: TcpConnection) -> bool:
    return connection.state in (State.ESTABLISHED, State.CLOSE_WAIT)


def is_reset(connection: TcpConnection) -> bool:
    return connection.state is State.CLOSED and connection.was_reset


@dataclasses.dataclass
class World:
    """A guest, and the relay that serves it."""

    guest: Guest
    relay: Relay

    def turn(self) -> None:
        self.guest.turn()
        self.relay.turn(self.relay.reactor.now + (0 if self.guest.stack.dirty else GLANCE_S))

    def until(self, happened: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not happened():
            assert time.monotonic() < end, "what was waited for did not happen"
            self.turn()

    def opened(self, address: bytes, port: int = 80) -> TcpConnection:
        connection = self.guest.connect(address, port)
        self.until(lambda: connection.state is not State.SYN_SENT)
        assert is_open(connection)
        return connection

    def ask(self, query: bytes, gateway: bytes = GATEWAY) -> bytes:
        """A DNS query by UDP, and its answer."""
        self.guest.datagrams.clear()
        self.guest.send_datagram(gateway, 53, query)
        self.until(lambda: self.guest.datagrams)
        ((key, answer),) = self.guest.datagrams
        assert (key.guest_address, key.guest_port) == (gateway, 53)
        return answer


@contextlib.contextmanager
def world(
    make_upstream: Callable[[Reactor], Upstream],
    *,
    rules: Rules | None = None,
    dns_mode: str = "names",
    hosts: Mapping[bytes, Sequence[bytes]] | None = None,
    stack_config: StackConfig | None = None,
    max_finished: int = MAX_FINISHED,
    loopback: Mapping[bytes, bytes] | None = None,
) -> Iterator[World]:
    ours, theirs = device_pair()
    reactor = Reactor()
    upstream = make_upstream(reactor)
    with ours, theirs:
        relay = Relay(
            TunDevice(ours.fileno(), MTU),
            upstream,
            reactor,
            stack_config=stack_config or StackConfig(),
            rules=rules or Rules(takes_onions=upstream.takes_onions, takes_ipv6=upstream.takes_ipv6),
            dns_mode=dns_mode,
            hosts=hosts or {},
            max_finished=max_finished,
            loopback=loopback,
        )
        guest = Guest(theirs.fileno())
        try:
            yield World(guest, relay)
        finally:
            relay.close()
            left = len(reactor)
            reactor.close()
        assert left == 0, "everything must be let go"


def query(name: bytes, rdtype: int = 1, number: int = 7) -> bytes:
    labels = b"".join(bytes((len(label),)) + label for label in name.split(b"."))
    return struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + struct.pack("!xHH", rdtype, 1)


def rcode_and_data(answer: bytes) -> tuple[int, bytes]:
    """The answer's code, and the data of its last record when there is one."""
    _, flags, _, answers, _, _ = struct.unpack_from("!HHHHHH", answer)
    if not answers:
        return flags & 15, b""
    size = {1: 4, 28: 16}[struct.unpack_from("!H", answer, answer.index(b"\xc0\x0c") + 2)[0]]
    start = answer.index(b"\xc0\x0c") + 12
    return flags & 15, answer[start : start + size]


def tor_at(server: Server) -> Callable[[Reactor], Upstream]:
    url = parse_url(f"tor+unix:{server.path}" if server.path else f"tor:{server.url}")
    return lambda reactor: open_upstream(url, reactor, new_isolation())


def blocked(reactor: Reactor) -> Upstream:
    return open_upstream(parse_url("block"), reactor, b"")
