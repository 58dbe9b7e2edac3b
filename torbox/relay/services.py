# SPDX-License-Identifier: GPL-3.0-or-later
"""What torbox itself offers to the guest, at the gateway's addresses: DNS, on UDP and TCP port 53.

Everything else there is refused. A datagram is noted while packets are read and answered afterwards;
a connection is a stream like any other, which ends here instead of at a socket. All of it is bounded:
queries noted in a turn, those of connections in a turn, queries under way on a connection, and by the
name service those that leave.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torbox.netstack.dns import NameService
from torbox.netstack.flow import FlowKey
from torbox.netstack.ring import Ring
from torbox.relay.counters import RelayCounters
from torbox.upstream.interface import Reactor, Stream, StreamOwner, Timer

DNS_PORT = 53
MAX_NOTED = 256  # queries in one turn, which reads 32 packets or some more datagrams in super-packets
MAX_QUERY = 4096  # bytes of a query; a real one has less than 512
MAX_UNDER_WAY = 64  # queries of one connection; RFC 7766 §6.2.1.1 asks for pipelining
SHARE = 64  # queries of all connections in one turn, a millisecond or two
RING_MAX = 1 << 16  # bytes of each of a connection's rings: hundreds of questions are enough
UNREAD_MAX = 1 << 15  # bytes of answers that a guest has not read; its next question waits until it does
LINGER_S = 30.0  # seconds for answers that are under way, or wait for their turn, when the guest has finished


class Queue:
    """The connections whose queries wait for a turn with room for them, and `left`, the room in this one.

    They take turns: each has one query answered and goes to the end. So ten thousand that ask at once wait
    for each other, and nobody else waits for them.
    """

    __slots__ = ("left", "waiting")

    def __init__(self) -> None:
        self.left = SHARE
        self.waiting: OrderedDict[DnsStream, None] = OrderedDict()

    def begin_turn(self) -> None:
        self.left = SHARE
        waiting = self.waiting
        while waiting and self.left > 0:
            stream, _ = waiting.popitem(last=False)
            stream.answer_waiting()


SendDatagram = Callable[[FlowKey, bytes], object]


class GatewayServices:
    def __init__(
        self,
        addresses: tuple[bytes, ...],
        names: NameService,
        reactor: Reactor,
        counters: RelayCounters,
        send_datagram: SendDatagram,
    ) -> None:
        self._addresses = frozenset(addresses)
        self._names = names
        self._reactor = reactor
        self._counters = counters
        self._send_datagram = send_datagram
        self._noted: list[tuple[FlowKey, bytes]] = []
        self._queue = Queue()

    @property
    def busy(self) -> bool:
        """Connections wait for the next turn."""
        return bool(self._queue.waiting)

    def has(self, address: bytes) -> bool:
        """Whether an address is a gateway's."""
        return address in self._addresses

    def udp_arrived(self, key: FlowKey, payload: memoryview) -> bool:
        """Note a query; false if nobody listens there."""
        if key.remote_port != DNS_PORT or key.remote_address not in self._addresses:
            return False
        self._counters.queries += 1
        if len(self._noted) < MAX_NOTED and len(payload) <= MAX_QUERY:
            self._noted.append((key, bytes(payload)))
        else:
            self._counters.queries_dropped += 1
        return True

    def answer_noted(self, now: float) -> None:
        """Once a turn: answer what was noted, and some of what waits; the answers go out now or later."""
        self._queue.begin_turn()
        if not self._noted:
            return
        noted, self._noted = self._noted, []
        for key, query in noted:
            self._names.answer(query, now, self._reply_to(key))

    def _reply_to(self, key: FlowKey) -> Callable[[bytes], None]:
        return lambda message: (self._send_datagram(key, message), None)[1]

    def open_stream(self, port: int, rx: Ring, tx: Ring, owner: StreamOwner) -> Stream | None:
        """The stream of a connection to a gateway's port; None if nobody listens there."""
        if port != DNS_PORT:
            return None
        return DnsStream(self._names, self._reactor, self._counters, self._queue, rx, tx, owner)


class DnsStream:
    """DNS over TCP, RFC 1035 §4.2.2: each message behind two bytes of length."""

    __slots__ = (
        "_alive",
        "_buffer",
        "_counters",
        "_finished",
        "_names",
        "_owner",
        "_queue",
        "_reactor",
        "_rx",
        "_timer",
        "_tx",
        "_under_way",
    )

    def __init__(
        self,
        names: NameService,
        reactor: Reactor,
        counters: RelayCounters,
        queue: Queue,
        rx: Ring,
        tx: Ring,
        owner: StreamOwner,
    ) -> None:
        self._names = names
        self._reactor = reactor
        self._counters = counters
        self._queue = queue
        for ring in (rx, tx):
            ring.limit = min(ring.limit, RING_MAX)
        self._rx = rx
        self._tx = tx
        self._owner = owner
        self._buffer = b""  # a query, as far as it has come, with its length before it
        self._under_way = 0
        self._finished = False
        self._alive = True
        self._timer: Timer = reactor.call_at(reactor.now, owner.connected)

    def pump(self) -> bool:
        """See Stream. Answers while nobody waits and the turn has room; then it waits with the others."""
        queue = self._queue
        if queue.waiting and self in queue.waiting:
            return False
        while self._is_whole():
            if queue.waiting or queue.left <= 0:
                queue.waiting[self] = None
                break
            self._answer()
        return False

    def answer_waiting(self) -> None:
        """Its turn has come: one query. The flow is pumped as well, which sees whether more can be done."""
        self._answer()
        if self._is_whole():
            self._queue.waiting[self] = None
        elif self._finished and not self._under_way:
            self._end()
        if self._alive:
            self._owner.moved()

    def _is_whole(self) -> bool:
        """Whether a query is in `_buffer` that may be answered now; it is taken out of the ring for that."""
        rx = self._rx
        while self._alive and self._under_way < MAX_UNDER_WAY and len(self._tx) <= UNREAD_MAX:
            wanted = 2
            if len(self._buffer) >= 2:
                wanted += int.from_bytes(self._buffer[:2], "big")
                if wanted > 2 + MAX_QUERY:
                    self._lose()
                    return False
                if len(self._buffer) == wanted:
                    return True
            taken = b"".join(rx.peek(0, wanted - len(self._buffer)))
            if not taken:
                return False
            rx.consume(len(taken))
            self._buffer += taken
        return False

    def _answer(self) -> None:
        query, self._buffer = self._buffer[2:], b""
        self._queue.left -= 1
        self._counters.queries += 1
        self._under_way += 1
        if not self._names.answer(query, self._reactor.now, self._answered, tcp=True):
            self._under_way -= 1

    def _lose(self) -> None:
        """The guest does not play by the rules."""
        self._counters.queries_dropped += 1
        self.abort()
        self._owner.broken()

    def _answered(self, message: bytes) -> None:
        self._under_way -= 1
        if not self._alive:
            return
        framed = len(message).to_bytes(2, "big") + message
        if self._tx.free < len(framed):  # the guest asks and does not read, and memory is short
            self._lose()
            return
        self._tx.write(framed)
        if self._finished and not self._under_way and self not in self._queue.waiting:
            self._end()
        else:
            self._owner.moved()

    def unsent(self) -> int:
        """See Stream."""
        return 0

    def shutdown(self) -> None:
        self._finished = True
        if not self._under_way and self not in self._queue.waiting:
            self._end()
        elif self._alive:
            self._timer = self._reactor.call_at(self._reactor.now + LINGER_S, self._end)

    def _end(self) -> None:
        if self._alive:
            self.abort()
            self._owner.eof()

    def abort(self) -> None:
        self._alive = False
        self._queue.waiting.pop(self, None)
        self._timer.cancel()
