# SPDX-License-Identifier: GPL-3.0-or-later
"""The stack: packets of one device on one side, connections with rings on the other.

How it works. One turn of the worker's loop calls, in this order:

    receive(now)    reads a batch of packets; each only changes state and marks its connection
    expire(now)     the same for timers
    flush(now)      each marked connection is pumped by the owner, and says, once, all it has to say

so nothing re-enters: the owner is called during `receive`, may only note and mark, and acts later. Views
it is given die with the call. The guest is hostile: whatever it sends can raise WireError only, which is
caught in one place, counted and forgotten, and every table here has a bound, its reason beside it.

What it does not do: no routing, no sockets, no clock of its own, no policy. It listens to every unicast
address and port, because it is the whole world to its guest.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torbox.netstack.counters import Counters
from torbox.netstack.device import MAX_FRAME, Device
from torbox.netstack.egress import Egress
from torbox.netstack.flow import FlowKey, Refusal
from torbox.netstack.half_open import HalfOpen
from torbox.netstack.icmp import Complaint, Icmp
from torbox.netstack.reassembly import Reassembly
from torbox.netstack.ring import POOL, RING_LIMIT, RingPool
from torbox.netstack.tcp.connection import TcpConnection
from torbox.netstack.tcp.path_mtu import packet_too_big
from torbox.netstack.tcp.sequence import MASK
from torbox.netstack.tcp.state import State
from torbox.netstack.timers import Timers
from torbox.netstack.udp import Udp
from torbox.netstack.wire import WireError, ip, ipv4, ipv6, tcp, vnet
from torbox.netstack.wire.ip import Packet

BATCH = 32  # packets read in a turn, so that neither side of the rings waits for long
MAX_CONNECTIONS = 16_384  # about 2 KiB each when idle: 32 MiB; ten thousand are to be held
MAX_HALF_OPEN = 2048  # SYNs that wait for an upstream, each with a socket there, and as many answered ones
MAX_TO_GATEWAY = 64  # SYNs to it beyond those: they are answered in this turn or the next, two batches
MAX_TIME_WAIT = 4096  # 4,000 connections closed by the upstream's side in a second
MAX_SILENCED = 1024  # refusals by silence that are remembered, so that a repeated SYN is not a new attempt
SILENCED_S = 130.0  # seconds: Linux repeats a SYN for 127
MAX_SEGMENT = {4: 65535 - 40, 6: 65535 - 20}  # bytes of data that a length field leaves room for


@dataclass(frozen=True, slots=True)
class StackConfig:
    """`own` are the gateway's addresses, packed: those answer to echo and say ICMP errors.

    `guests` are those that the guest has, if they are known: what says it comes from others is forged, which
    takes no capability (IPV6_FREEBIND, ipv6(7)), and nobody would acknowledge or hear what is answered.
    """

    own: tuple[bytes, ...] = (bytes((10, 0, 2, 2)), bytes.fromhex("fd000000000000000000000000000002"))
    guests: tuple[bytes, ...] = ()
    broadcasts: tuple[bytes, ...] = (bytes((10, 0, 2, 255)),)
    echo_any: bool = False  # answer echo requests to every address
    max_connections: int = MAX_CONNECTIONS
    max_half_open: int = MAX_HALF_OPEN
    ring_limit: int = RING_LIMIT  # bytes of each of a connection's two rings


class StackOwner(Protocol):
    """Who carries the guest's traffic on. Called during `receive`; may only note and mark."""

    def tcp_opened(self, connection: TcpConnection) -> None:
        """A new SYN. Later: `connection.accept()`, or `stack.refuse(connection, why)`."""

    def udp_arrived(self, key: FlowKey, payload: memoryview) -> bool:
        """A datagram, its view valid in the call only. False: the guest is told that nobody listens."""


class Stack:
    """`dirty` is an ordered set: the connections touched since the last flush."""

    def __init__(
        self,
        device: Device,
        owner: StackOwner,
        config: StackConfig,
        now: float,
        random_bytes: Callable[[int], bytes] = os.urandom,
        pool: RingPool = POOL,
    ) -> None:
        self.device = device
        self.config = config
        self.counters = Counters()
        self.connections: dict[bytes, TcpConnection] = {}  # by addresses and ports, guest's first
        self.dirty: dict[TcpConnection, None] = {}
        self.half_open = HalfOpen()
        self.timers = Timers()
        self._owner = owner
        self._random_bytes = random_bytes
        self._pool = pool
        self._clock_offset = int.from_bytes(random_bytes(4), "big")  # of the timestamps of all connections
        self._broadcasts = frozenset(config.broadcasts)
        self._guests = frozenset(config.guests)
        self._egress = Egress(device, self.counters)
        self._icmp = Icmp(self._egress, self.counters, config.own, echo_any=config.echo_any, now=now)
        self._udp = Udp(self._egress, self._icmp, owner.udp_arrived)
        self.datagram_refused: Callable[[FlowKey], None] | None = None  # nobody in the guest took one of ours
        self.reassembly = Reassembly(self._icmp.reassembly_timed_out)
        # Ordered, since what leaves a plain dict at its front is stepped over ever after to find the next.
        self._time_wait: OrderedDict[TcpConnection, None] = OrderedDict()
        self._silenced: OrderedDict[bytes, tuple[int, float]] = (
            OrderedDict()
        )  # the SYN's number, and until when
        self._frame = memoryview(bytearray(MAX_FRAME))
        self._now = now

    @property
    def deadline(self) -> float:
        """When `expire` wants to be called, in seconds; may be early."""
        if self.reassembly.size:
            return min(self.timers.deadline, self.reassembly.deadline)
        return self.timers.deadline

    @property
    def datagram_may_fragment(self) -> bool:
        """Whether the datagram that the owner is being offered may be cut into fragments further on."""
        return self._udp.may_fragment

    # From the guest

    def receive(self, now: float) -> bool:
        """Read one batch of packets; true if more may wait. OSError: the device is gone."""
        self._now = now
        frame, counters, read_into = self._frame, self.counters, self.device.read_into
        for _ in range(BATCH):
            size = read_into(frame)
            if not size:
                return False
            counters.packets_from_guest += 1
            counters.bytes_from_guest += size - vnet.SIZE
            try:
                self._frame_arrives(frame, size, now)
            except ipv6.ParameterProblem as problem:
                counters.drop(str(problem))
                self._icmp.parameter_problem(problem.packet, problem.code, problem.pointer, now)
            except WireError as error:
                counters.drop(str(error))
        return True

    def _frame_arrives(self, frame: memoryview, size: int, now: float) -> None:
        if size <= vnet.SIZE:
            raise WireError("vnet: no packet")
        if frame[vnet.SIZE] >> 4 == 4:
            packet = ipv4.parse(frame, vnet.SIZE, size)
        else:
            packet = ipv6.parse(frame, vnet.SIZE, size)
        verify = not frame[0] & vnet.NEEDS_CSUM
        if packet.protocol == ip.TCP and packet.fragment is None:
            self._tcp_arrives(packet, tcp.parse(packet, verify=verify), now)
            return
        if not (ip.is_unicast(packet.source) and ip.is_unicast(packet.destination)):
            raise WireError("not between two hosts")  # multicast, router solicitation, MLD, ...
        if packet.destination in self._broadcasts:
            raise WireError("broadcast")
        if self._guests and packet.source not in self._guests:
            raise WireError("not from the guest")
        header = vnet.parse(frame)
        fragmented = packet.fragment is not None
        if fragmented:
            whole = self.reassembly.put(packet, now)
            if whole is None:
                return
            packet = whole
            header.flags = header.gso_type = 0
            if packet.protocol == ip.TCP:
                self._tcp_arrives(packet, tcp.parse(packet), now)
                return
        if packet.protocol == ip.UDP:
            self._udp.arrives(packet, header, now, fragmented=fragmented)
        elif packet.protocol == (ip.ICMPV4 if packet.version == 4 else ip.ICMPV6):
            complaint = self._icmp.arrives(packet, now)
            if complaint is not None:
                self._complained(complaint)
        elif packet.version == 6 and packet.protocol == ip.NO_NEXT_HEADER:
            self.counters.drop("ipv6: no next header")
        else:
            self.counters.drop("unknown protocol")
            self._icmp.protocol_unreachable(packet, now)

    def _complained(self, complaint: Complaint) -> None:
        """The guest says that a packet of ours did not get through.

        Where there are several queues the kernel may give it to another worker than the flow's own, to whom
        it means nothing: then a flow ends by its time, and a segment is sent again as it was.
        """
        quote = complaint.quote
        half = len(quote.addresses) // 2
        guest, remote = quote.addresses[half:], quote.addresses[:half]
        if quote.protocol == ip.TCP:
            connection = self.connections.get(guest + remote + quote.ports[2:] + quote.ports[:2])
            if connection is None or not complaint.mtu:
                return
            if packet_too_big(connection, complaint.mtu, quote.seq):
                self.dirty[connection] = None
        elif self.datagram_refused is not None and not complaint.mtu:
            ports = int.from_bytes(quote.ports[2:], "big"), int.from_bytes(quote.ports[:2], "big")
            self.datagram_refused(FlowKey(guest, ports[0], remote, ports[1]))

    def _tcp_arrives(self, packet: Packet, segment: tcp.Segment, now: float) -> None:
        name = packet.addresses + segment.ports
        connection = self.connections.get(name)
        if connection is not None:
            if not self._is_over(connection, segment):
                connection.segment_arrives(segment, now)
                self.dirty[connection] = None
                return
            if connection.state is State.TIME_WAIT:  # or its next mark would put it into the tables again
                connection.end_time_wait()
            self._forget(connection)
        if self._guests and packet.source not in self._guests:
            raise WireError("not from the guest")
        flags = segment.flags
        if flags & tcp.RST:
            return
        if not (ip.is_unicast(packet.source) and ip.is_unicast(packet.destination)):
            raise WireError("tcp: not between two hosts")
        if packet.destination in self._broadcasts or packet.source in self.config.own:
            raise WireError("tcp: from or to an impossible address")
        if self._icmp.expires(packet, now):
            return
        if flags & (tcp.SYN | tcp.ACK | tcp.FIN) == tcp.SYN:
            self._open(name, packet, segment, now)
        else:
            self._reset(packet, segment)

    @staticmethod
    def _is_over(connection: TcpConnection, segment: tcp.Segment) -> bool:
        """Whether a segment comes after the life of the connection that its addresses and ports name."""
        if connection.state is State.CLOSED:
            return True
        flags = segment.flags & (tcp.SYN | tcp.ACK | tcp.RST | tcp.FIN)
        if flags != tcp.SYN or not connection.is_superseded_by(segment):
            return False
        if connection.state is State.SYN_RECEIVED:
            connection.vanish()  # so that its owner lets go of what it has for it
        return True

    def _open(self, name: bytes, packet: Packet, segment: tcp.Segment, now: float) -> None:
        silenced = self._silenced.get(name)
        if silenced is not None:
            if silenced[0] == segment.seq and now < silenced[1]:
                self.counters.drop("tcp: repeated after a refusal by silence")
                return
            del self._silenced[name]
        if len(self.connections) >= self.config.max_connections:
            self.counters.drop("tcp: too many connections")
            return
        source_port = int.from_bytes(segment.ports[:2], "big")
        destination_port = int.from_bytes(segment.ports[2:], "big")
        waiting = self.half_open.waiting
        if waiting >= self.config.max_half_open and not (
            # Those are answered in this turn or the next, so there is room for them and nobody gives way.
            packet.destination in self.config.own and waiting < self.config.max_half_open + MAX_TO_GATEWAY
        ):
            destination = (packet.destination, destination_port)
            if not self.half_open.admits(name, segment.seq, destination, now):
                self.counters.drop("tcp: too many half-open connections")
                return
            self._give_way(self.half_open.next_waiting())
        key = FlowKey(packet.source, source_port, packet.destination, destination_port)
        connection = self._make(name, key)
        connection.passive_open(segment, now)
        self.counters.tcp_opened += 1
        self.half_open.add(connection)
        self.dirty[connection] = None
        self._owner.tcp_opened(connection)

    def _give_way(self, connection: TcpConnection) -> None:
        """End an attempt to connect for another; its owner sees that when it is pumped next."""
        self.counters.half_open_gave_way += 1
        self.half_open.discard(connection)
        connection.vanish()

    def _make(self, name: bytes, key: FlowKey) -> TcpConnection:
        version = 4 if len(key.guest_address) == 4 else 6
        mss = self.device.mtu - (40 if version == 4 else 60)
        connection = TcpConnection(
            key,
            mss=min(mss, MAX_SEGMENT[version]),
            max_payload=MAX_SEGMENT[version] if self.device.gso else 0,
            iss=int.from_bytes(self._random_bytes(4), "big"),
            mark=self.mark,
            clock_offset=self._clock_offset,
            ring_limit=self.config.ring_limit,
            pool=self._pool,
        )
        self.connections[name] = connection
        return connection

    def _reset(self, packet: Packet, segment: tcp.Segment) -> None:
        """RFC 9293 §3.10.7.1: what belongs to no connection."""
        addresses = packet.destination + packet.source
        ports = segment.ports[2:] + segment.ports[:2]
        if segment.flags & tcp.ACK:
            answer = tcp.emit(addresses, ports, segment.ack, 0, tcp.RST, 0)
        else:
            size = len(segment.data) + bool(segment.flags & tcp.SYN) + bool(segment.flags & tcp.FIN)
            answer = tcp.emit(addresses, ports, 0, (segment.seq + size) & MASK, tcp.RST | tcp.ACK, 0)
        self.counters.resets_sent += 1
        self._egress.packet(answer)

    # For the owner

    def mark(self, connection: TcpConnection) -> None:
        """Something changed: the connection is to be pumped and flushed in this turn."""
        self.dirty[connection] = None

    def refuse(self, connection: TcpConnection, why: Refusal) -> None:
        """The connection cannot be made: the guest is told why, in words its connect() understands."""
        if connection.state is not State.SYN_RECEIVED or connection.sender.max != connection.sender.iss:
            connection.abort()  # answered already: too late for anything but a reset
            return
        syn_seq = (connection.receiver.nxt - 1) & MASK
        if why is Refusal.TIMED_OUT:
            self._silenced[_name(connection.key)] = (syn_seq, self._now + SILENCED_S)
            if len(self._silenced) > MAX_SILENCED:
                self._silenced.popitem(last=False)
                self.counters.silenced_forgotten += 1
        elif not self._icmp.refuse(connection.key, syn_seq, why, self._now):
            connection.abort()
            return
        connection.vanish()

    def connect(self, key: FlowKey) -> TcpConnection | None:
        """Open a connection to a port of the guest; None if these two ends are connected, or at the limit."""
        name = _name(key)
        if name in self.connections or len(self.connections) >= self.config.max_connections:
            return None
        connection = self._make(name, key)
        connection.active_open()
        return connection

    def send_datagram(self, key: FlowKey, payload: bytes | memoryview) -> bool:
        """A datagram from `key.remote` to `key.guest`; false if no datagram can be so large."""
        return self._udp.send(key, payload)

    def refuse_datagram(self, key: FlowKey, why: Refusal) -> None:
        """A datagram of `key` did not get through: the guest is told why, unless by silence."""
        self._icmp.refuse_datagram(key, why, self._now)

    def datagram_too_big(self, key: FlowKey, mtu: int) -> None:
        """A datagram of `key` was larger than its way's `mtu` and must not be cut: the guest is told."""
        self._icmp.datagram_too_big(key, mtu, self._now)

    # Time and output

    def expire(self, now: float) -> None:
        """See to every timer that is due."""
        self._now = now
        for connection in self.timers.due(now):
            connection.timeout(now)
            self.dirty[connection] = None
        self.reassembly.expire(now)

    def flush(self, now: float, pump: Callable[[TcpConnection], bool] | None = None) -> None:
        """Send what there is to send; forget the connections that are CLOSED.

        `pump` is called for each right before it is heard, so that what was read for it is sent while the
        caches hold it, and says whether it is to be called in the next turn too. So is who is marked by
        another's pump after its own.
        """
        self._now = now
        emit, schedule = self._egress.segment, self.timers.schedule
        marked, self.dirty = self.dirty, {}
        for connection in marked:
            again = pump is not None and pump(connection)
            connection.output(now, emit)
            if again:
                self.dirty[connection] = None
            elif self.dirty:
                self.dirty.pop(connection, None)  # it has been heard
            state = connection.state
            if state is State.ESTABLISHED:
                if self.half_open.count:
                    self.half_open.opened(connection)
            elif state is State.CLOSED:
                self._forget(connection)
                continue
            elif state is State.SYN_RECEIVED:
                if connection.sender.max != connection.sender.iss:
                    self.half_open.answer(connection)
            else:
                self.half_open.opened(connection)
                if state is State.TIME_WAIT:
                    self._time_wait[connection] = None
            scheduled = connection.scheduled
            if scheduled is None or connection.deadline < scheduled.when:
                schedule(connection)
        while self.half_open.answered > self.config.max_half_open:
            self._give_way(self.half_open.next_answered())
        while len(self._time_wait) > MAX_TIME_WAIT:
            oldest = next(iter(self._time_wait))
            oldest.end_time_wait()
            self._forget(oldest)
            self.counters.time_wait_cut += 1

    def _forget(self, connection: TcpConnection) -> None:
        name = _name(connection.key)
        if self.connections.get(name) is connection:
            del self.connections[name]
        self.half_open.discard(connection)
        self._time_wait.pop(connection, None)
        self.timers.forget(connection)


def _name(key: FlowKey) -> bytes:
    ports = key.guest_port.to_bytes(2, "big") + key.remote_port.to_bytes(2, "big")
    return key.guest_address + key.remote_address + ports
