# SPDX-License-Identifier: GPL-3.0-or-later
"""One connection of the guest and the stream that carries it on.

    guest's SYN ─► open ─► stream connects ─► connected: SYN-ACK        refused: RST or ICMP
    guest's FIN ─► last byte of rcv_buf went out ─► stream.shutdown()
    far end's   ─► eof: FIN behind the last byte of snd_buf
    guest's RST ─► stream.abort()
    far end lost ─► what had come is delivered, then RST

The stream calls the flow, which only notes and marks; the relay pumps the flow once in its turn. When
both directions have ended, the two forget each other.

When the guest's end is closed in good order and bytes of it still wait for a slow far end, the flow
outlives the connection. So from the guest's FIN on it is watched: if in WATCH_S the far end takes no byte
of those that wait, a flow without connection ends; one with a connection asks the guest whether there is
still somebody (its kernel forgets a closed socket after 60 s, and then answers with a reset). And the
relay bounds how many such flows there are, because each holds a socket.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torbox.netstack.flow import Refusal
from torbox.netstack.tcp.connection import TcpConnection
from torbox.netstack.tcp.state import State
from torbox.relay.counters import RelayCounters
from torbox.upstream.interface import Reactor, Stream, Timer

LOST_LINGER_S = 5.0  # seconds for the guest to take what had come before the far end was lost
# Seconds of silence before the guest is asked, seconds between questions, how many: RFC 9293 §3.8.4, tcp(7).
# The guest's kernel answers for its programs; but behind it may be a container that has gone without a word.
KEEPALIVE = (7200.0, 75.0, 9)
WATCH_S = 90.0  # seconds; Linux lets an orphan wait some 100 for a far end that takes nothing (tcp(7))


class FlowOwner(Protocol):
    """What a flow needs of the relay."""

    @property
    def counters(self) -> RelayCounters: ...

    @property
    def reactor(self) -> Reactor: ...

    def mark(self, connection: TcpConnection) -> None: ...

    def refuse(self, connection: TcpConnection, why: Refusal) -> None: ...

    def guest_finished(self, flow: TcpFlow) -> None:
        """The guest has said all; the flow is watched until it is forgotten."""

    def forgotten(self, flow: TcpFlow) -> None:
        """The flow has let everything go."""


class TcpFlow:
    """The StreamOwner of one connection. The relay gives it its stream right after it was made."""

    __slots__ = (
        "_connection",
        "_far_ended",
        "_guest_ended",
        "_lost",
        "_relay",
        "_stream",
        "_timer",
        "_waiting",
    )

    def __init__(self, relay: FlowOwner, connection: TcpConnection) -> None:
        self._relay = relay
        self._connection: TcpConnection | None = connection
        self._stream: Stream | None = None
        self._far_ended = False  # the stream has said eof
        self._guest_ended = False  # the stream was told to shut down
        self._lost = False
        self._timer: Timer | None = None  # for the guest to take the rest, or to watch what it left
        self._waiting = -1  # bytes of a guest that has finished, when last looked at; -1: it has not
        connection.owner = self
        relay.counters.flows += 1
        relay.counters.opened += 1

    def attach(self, stream: Stream) -> None:
        self._stream = stream

    # -- what the stream says ----------------------------------------------------------------------

    def connected(self) -> None:
        if self._connection is not None:
            self._connection.keep_alive(*KEEPALIVE)
            self._connection.accept()
            self._relay.mark(self._connection)

    def refused(self, why: Refusal) -> None:
        connection = self._connection
        self._stream = None
        self._forget()
        if connection is not None:
            self._relay.refuse(connection, why)

    def moved(self) -> None:
        if self._connection is not None:
            self._relay.mark(self._connection)

    def eof(self) -> None:
        self._far_ended = True
        if self._connection is not None:
            self._connection.close()
            self._relay.mark(self._connection)

    def broken(self) -> None:
        self._stream = None
        self._lost = True
        self._relay.counters.lost += 1
        if self._connection is not None:
            self._relay.mark(self._connection)
            self._call_in(LOST_LINGER_S, self._stop_lingering)

    def _call_in(self, seconds: float, callback: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._relay.reactor.call_at(self._relay.reactor.now + seconds, callback)

    def _stop_lingering(self) -> None:
        self._timer = None
        if self._connection is not None:
            self._connection.abort()
            self._relay.mark(self._connection)

    # -- the turn ----------------------------------------------------------------------------------

    def pump(self) -> bool:
        """Let the stream move bytes and pass on what ended; true if it wants the next turn too."""
        connection = self._connection
        if connection is None:
            return False
        if connection.was_reset and connection.state is State.CLOSED:
            self._let_go()
            return False
        stream = self._stream
        again = stream.pump() if stream is not None else False
        if self._lost:
            if not len(connection.snd_buf):
                connection.abort()
                self._let_go()
            return False
        if connection.receiver.finished:
            if not self._guest_ended and not len(connection.rcv_buf):
                self._guest_ended = True
                if self._stream is not None:
                    self._stream.shutdown()
            if self._waiting < 0 and not (self._far_ended and self._guest_ended):
                self._waiting = self._left(connection)
                self._call_in(WATCH_S, self._watch)
                self._relay.guest_finished(self)
        if self._far_ended and self._guest_ended:
            self._stream = None  # has let its socket go by itself; the connection needs no more help
            self._forget()
        return again

    def _left(self, connection: TcpConnection) -> int:
        """Bytes of the guest that the far end has not taken."""
        return len(connection.rcv_buf) + (self._stream.unsent() if self._stream is not None else 0)

    def _watch(self) -> None:
        """The guest has finished: is there a reason to go on?"""
        self._timer = None
        connection = self._connection
        if connection is None:
            return
        waiting = self._left(connection)
        if not 0 < waiting < self._waiting:
            if connection.state in (State.CLOSED, State.TIME_WAIT):
                self.cut()
                return
            connection.probe()
        self._waiting = waiting
        self._call_in(WATCH_S, self._watch)

    def cut(self) -> None:
        """End it on both sides."""
        connection = self._connection
        if connection is not None:
            self._relay.counters.cut += 1
            connection.abort()
            self._relay.mark(connection)
            self._let_go()

    def _let_go(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.abort()
        self._forget()

    def _forget(self) -> None:
        """Break the circle of references, so that memory is freed at once and not by the collector."""
        if self._connection is None:
            return
        self._connection.owner = None
        self._connection = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._relay.counters.flows -= 1
        if self._waiting >= 0:
            self._relay.forgotten(self)

    def close(self) -> None:
        """The relay ends."""
        self._let_go()
