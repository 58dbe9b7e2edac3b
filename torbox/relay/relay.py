# SPDX-License-Identifier: GPL-3.0-or-later
"""Between the stack and the upstream: every connection and datagram of one guest passes here.

One turn

    reactor.turn     sockets and timers say what happened; each only marks its connection
    stack.receive    the same for packets, which come last
    stack.expire     the same for TCP's own timers
    open, answer     new connections are judged and given a stream; noted queries are answered
    stack.flush      each marked connection once: it is pumped, that is, bytes move between its rings and
                     its socket, and says all it has to say

so nothing re-enters, and a burst of packets costs one send and one acknowledgement.

Where a connection goes: an address of the name pool by its name; a gateway's address to torbox's own
services, or, if that was asked for, this machine's loopback; any other, if policy.py lets it, as the
address it is. Nothing here resolves or logs.
"""

from __future__ import annotations

import math
import select
import time
from collections.abc import Callable, Mapping, Sequence

from torbox.netstack.device import Device
from torbox.netstack.dns import NameService
from torbox.netstack.flow import FlowKey, Refusal
from torbox.netstack.name_board import Section
from torbox.netstack.name_pool import NamePool
from torbox.netstack.stack import Stack, StackConfig
from torbox.netstack.tcp.connection import TcpConnection
from torbox.netstack.tcp.state import State
from torbox.relay.association import MAX_ASSOCIATIONS, Associations
from torbox.relay.counters import RelayCounters
from torbox.relay.flow import TcpFlow
from torbox.relay.moderation import Moderation
from torbox.relay.policy import Rules, judge
from torbox.relay.reactor import Reactor
from torbox.relay.services import DNS_PORT, GatewayServices
from torbox.upstream.interface import Resolution, Target, Upstream

# Bytes moved in a turn, as packets; bulk keeps the loop awake by itself, and spinning would cost it a fifth.
SMALL = 1 << 14
BULK_ECHO_S = 0.002  # seconds after bulk in which small packets are its acknowledgements, not an exchange
MAX_FINISHED = 1024  # flows whose guest has finished and whose far end has not; each holds a socket

Done = Callable[[tuple[bytes, ...], int, bool], None]


class Relay:
    """`turn` is called for ever; `close` lets everything go."""

    def __init__(
        self,
        device: Device,
        upstream: Upstream,
        reactor: Reactor,
        *,
        stack_config: StackConfig,
        rules: Rules,
        dns_mode: str,
        hosts: Mapping[bytes, Sequence[bytes]],
        loopback: Mapping[bytes, bytes] | None = None,
        max_finished: int = MAX_FINISHED,
        max_associations: int = MAX_ASSOCIATIONS,
        section: Section | None = None,
        spin: bool = True,
    ) -> None:
        """`section` is this worker's share of the sandbox's names, if it is one of several.

        `loopback`: gateway's address → the one its ports, but for DNS, are forwarded to without being judged.

        `spin`: wait actively for a moment after small traffic, so that nobody need wake this process.
        """
        self.reactor = reactor
        self.counters = RelayCounters()
        self.stack = Stack(device, self, stack_config, reactor.now)
        self.pool = NamePool(section=section)
        self.names = NameService(
            mode=dns_mode,
            pool=self.pool,
            hosts=hosts,
            takes_onions=upstream.takes_onions,
            takes_ipv6=rules.takes_ipv6,
            resolve=self._resolve,
            nowhere=rules.own_names,
        )
        self.services = GatewayServices(
            stack_config.own, self.names, reactor, self.counters, self.stack.send_datagram
        )
        self._upstream = upstream
        self._rules = rules
        self._loopback = loopback or {}
        self.associations = Associations(
            upstream,
            self._judge_datagram,
            self._loopback,
            reactor,
            self.stack,
            self.counters,
            max_associations,
        )
        self.stack.datagram_refused = self.associations.refused_by_guest
        self._max_finished = max_finished
        self._spin = spin
        self._bytes_seen = 0  # both ways, by the end of the last turn
        self._was_small = False
        self._bulk_at = -math.inf
        self._moderation = Moderation()
        self._rest_s = 0.0
        self._finished: dict[TcpFlow, None] = {}  # by when their guests finished
        self._opened: list[TcpConnection] = []
        self._tun_readable = False
        self._device = device
        if device.fileno() >= 0:
            reactor.register_last(device.fileno(), self._tun_ready)

    # -- StackOwner: notes only --------------------------------------------------------------------

    def tcp_opened(self, connection: TcpConnection) -> None:
        self._opened.append(connection)

    def udp_arrived(self, key: FlowKey, payload: memoryview) -> bool:
        """See StackOwner. Datagrams wait for nobody: they go on at once, and only touch their own socket."""
        if self.services.has(key.remote_address) and (
            key.remote_port == DNS_PORT or not self.associations.takes(key.remote_address)
        ):
            return self.services.udp_arrived(key, payload)
        return self.associations.send(key, payload, self.stack.datagram_may_fragment)

    def _tun_ready(self, events: int) -> None:
        if events & (select.EPOLLIN | select.EPOLLERR | select.EPOLLHUP):
            self._tun_readable = True

    # -- FlowOwner ---------------------------------------------------------------------------------

    def mark(self, connection: TcpConnection) -> None:
        self.stack.mark(connection)

    def refuse(self, connection: TcpConnection, why: Refusal) -> None:
        self.counters.refused[why] += 1
        self.stack.refuse(connection, why)

    def guest_finished(self, flow: TcpFlow) -> None:
        self._finished[flow] = None
        if len(self._finished) > self._max_finished:
            next(iter(self._finished)).cut()

    def forgotten(self, flow: TcpFlow) -> None:
        self._finished.pop(flow, None)

    # -- the turn ----------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Something is left to do without waiting for anything."""
        return self._tun_readable or bool(self.stack.dirty) or self.services.busy

    def turn(self, until: float = math.inf) -> int:
        """Wait for something to do, but not beyond `until`, and do it; the number of events there were.

        OSError: the device is gone.
        """
        stack, reactor = self.stack, self.reactor
        deadline = stack.deadline
        if self._tun_readable or stack.dirty or self.services.busy:
            until = reactor.now
        else:
            until = min(until, deadline)
            if self._rest_s:
                time.sleep(self._rest_s)
        events = reactor.turn(until, spin=self._spin and self._was_small)
        now = reactor.now
        if self._tun_readable:
            self._tun_readable = stack.receive(now)
        if deadline <= now:
            stack.expire(now)
        if self._opened:
            self._open_all()
        self.services.answer_noted(now)
        if stack.dirty:
            stack.flush(now, _pump)
        counters = stack.counters
        moved = counters.bytes_from_guest + counters.bytes_to_guest
        size = moved - self._bytes_seen
        if size >= SMALL:
            self._bulk_at = now
        self._was_small = 0 < size < SMALL and now - self._bulk_at > BULK_ECHO_S
        self._rest_s = self._moderation.rest_s(size, now)
        self._bytes_seen = moved
        return events

    def _open_all(self) -> None:
        opened, self._opened = self._opened, []
        for connection in opened:
            if connection.state is State.CLOSED:
                continue  # it gave way in the very turn it came
            why = self._open(connection)
            if why is not None:
                self.refuse(connection, why)

    def _open(self, connection: TcpConnection) -> Refusal | None:
        key = connection.key
        if self.services.has(key.remote_address):
            loopback = self._loopback.get(key.remote_address)
            if loopback is None or key.remote_port == DNS_PORT:
                return self._open_service(connection)
            self._open_stream(connection, Target(loopback, b"", key.remote_port))
            return None
        if self.pool.contains(key.remote_address):
            name = self.pool.name_of(key.remote_address)
            if name is None:
                return Refusal.HOST_UNREACHABLE
            target = Target(b"", name, key.remote_port)
        else:
            target = Target(key.remote_address, b"", key.remote_port)
        why = judge(target, self._rules)
        if why is None:
            self._open_stream(connection, target)
        return why

    def _open_stream(self, connection: TcpConnection, target: Target) -> None:
        flow = TcpFlow(self, connection)
        flow.attach(self._upstream.open_stream(target, connection.rcv_buf, connection.snd_buf, flow))

    def _judge_datagram(self, address: bytes, port: int) -> Refusal | None:
        if self.pool.contains(address):
            return Refusal.HOST_UNREACHABLE  # names are for who resolves them, and such carry no datagrams
        return judge(Target(address, b"", port), self._rules)

    def _open_service(self, connection: TcpConnection) -> Refusal | None:
        flow = TcpFlow(self, connection)
        stream = self.services.open_stream(
            connection.key.remote_port, connection.rcv_buf, connection.snd_buf, flow
        )
        if stream is None:
            flow.close()
            return Refusal.REFUSED
        flow.attach(stream)
        return None

    def _resolve(self, name: bytes, kind: str, done: Done) -> None:
        def resolved(resolution: Resolution) -> None:
            done(resolution.answers, resolution.ttl_s, resolution.failed)

        self._upstream.resolve(name, kind, resolved)

    def close(self) -> None:
        self.reactor.unregister(self._device.fileno())
        for connection in list(self.stack.connections.values()):
            if connection.owner is not None:
                connection.owner.close()
        self.associations.close()
        self._upstream.close()


def _pump(connection: TcpConnection) -> bool:
    flow = connection.owner
    return flow is not None and flow.pump()
