# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guest is told by ICMP and ICMPv6: echoes of the gateway's own addresses, and honest errors.

    echo request to a gateway   ─► echo reply
    to anybody else             ─► prohibited: Tor cannot carry it, and to answer it here would be a lie
    an error of the guest's     ─► a Complaint about a packet of ours, for the stack to judge
    a packet of the guest's that goes nowhere ─► an error that quotes it
    a flow that fails later     ─► an error that quotes what its packet must have begun with

Errors are never sent about errors, nor to or about anything that is not one host, nor about a fragment
but the first (RFC 1122 §3.2.2, RFC 4443 §2.4 e), and no more of them than a bucket of tokens allows.
"""

from __future__ import annotations

from typing import NamedTuple

from torbox.netstack.counters import Counters
from torbox.netstack.egress import Egress
from torbox.netstack.flow import FlowKey, Refusal
from torbox.netstack.wire import icmpv4, icmpv6, ip, ipv4, ipv6, udp
from torbox.netstack.wire import quote as quotes
from torbox.netstack.wire.ip import Packet
from torbox.netstack.wire.quote import Quote

ERRORS_PER_S = 1000  # RFC 4443 §2.4 f wants a limit; enough for a browser that tries QUIC everywhere
ERRORS_BURST = 1000

REFUSALS_V4 = {
    Refusal.NET_UNREACHABLE: icmpv4.NET_UNREACHABLE,
    Refusal.HOST_UNREACHABLE: icmpv4.HOST_UNREACHABLE,
    Refusal.PROHIBITED: icmpv4.PROHIBITED,
}
REFUSALS_V6 = {
    Refusal.NET_UNREACHABLE: icmpv6.NO_ROUTE,
    Refusal.HOST_UNREACHABLE: icmpv6.ADDRESS_UNREACHABLE,
    Refusal.PROHIBITED: icmpv6.PROHIBITED,
}


class Complaint(NamedTuple):
    """An error that the guest sent about a packet of ours; larger than `mtu` bytes, if that is not 0."""

    quote: Quote
    mtu: int


class TokenBucket:
    __slots__ = ("_burst", "_level", "_rate", "_seen")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate  # tokens a second
        self._burst = burst
        self._level = burst
        self._seen = now

    def take(self, now: float) -> bool:
        self._level = min(self._burst, self._level + (now - self._seen) * self._rate)
        self._seen = now
        if self._level < 1:
            return False
        self._level -= 1
        return True


class Icmp:
    """`own` are the gateway's addresses, packed; `echo_any` answers every echo request."""

    def __init__(
        self, egress: Egress, counters: Counters, own: tuple[bytes, ...], *, echo_any: bool, now: float
    ) -> None:
        self._egress = egress
        self._counters = counters
        self._own = frozenset(own)
        self._gateways = {len(address): address for address in reversed(own)}
        self._echo_any = echo_any
        self._bucket = TokenBucket(ERRORS_PER_S, ERRORS_BURST, now)

    # From the guest

    def arrives(self, packet: Packet, now: float) -> Complaint | None:
        """An ICMP message of the packet's own family: echo requests are answered, errors returned."""
        v4 = packet.version == 4
        message = icmpv4.parse(packet) if v4 else icmpv6.parse(packet)
        if message.type != (icmpv4.ECHO_REQUEST if v4 else icmpv6.ECHO_REQUEST):
            if not (message.type in icmpv4.ERRORS if v4 else message.type < icmpv6.INFORMATIONAL):
                self._counters.drop("icmp: neither an echo request nor an error")
                return None
            return self._complaint(packet, message)
        if not self._echo_any and packet.destination not in self._own:
            if not self.expires(packet, now):
                self._unreachable(packet, icmpv4.PROHIBITED if v4 else icmpv6.PROHIBITED, b"", now)
            return None
        addresses = packet.destination + packet.source
        body = bytes(message.body)
        if v4:
            reply = icmpv4.emit(icmpv4.ECHO_REPLY, 0, message.rest, body)
            self._egress.message(addresses, ip.ICMPV4, reply)
        else:
            reply = icmpv6.emit(addresses, icmpv6.ECHO_REPLY, 0, message.rest, body)
            self._egress.message(addresses, ip.ICMPV6, reply)
        return None

    def _complaint(self, packet: Packet, message: icmpv4.Message) -> Complaint | None:
        quote = quotes.parse(packet.version, message.body)
        if quote.addresses[: len(quote.addresses) // 2] != packet.destination:
            self._counters.drop("icmp: an error about somebody else's packet")
            return None
        mtu = 0
        if packet.version == 6:
            if message.type == icmpv6.TOO_BIG:
                mtu = max(message.rest, 1)
        elif message.type == icmpv4.UNREACHABLE and message.code == icmpv4.FRAGMENTATION_NEEDED:
            mtu = max(message.rest & 0xFFFF, 1)  # 0 is RFC 792's, which names no MTU: take the least
        self._counters.complaints += 1
        return Complaint(quote, mtu)

    # About a packet of the guest's

    def expires(self, packet: Packet, now: float) -> bool:
        """Whether a packet for beyond the gateway may not go that far; if so, the guest is told.

        The gateway is the first router on the way, so a hop limit of 1 reaches it and nothing more: that is
        how traceroute finds it, and what programs say that want to stay on their own link.
        """
        v4 = packet.version == 4
        if packet.buffer[packet.header + (8 if v4 else 7)] > 1 or packet.destination in self._own:
            return False
        self._counters.drop("hop limit exceeded")
        if v4:
            self._about(packet, icmpv4.TIME_EXCEEDED, icmpv4.IN_TRANSIT, 0, b"", now)
        else:
            self._about(packet, icmpv6.TIME_EXCEEDED, icmpv6.IN_TRANSIT, 0, b"", now)
        return True

    def port_unreachable(self, packet: Packet, now: float) -> None:
        """Nobody takes that datagram; said by its destination itself."""
        code = icmpv4.PORT_UNREACHABLE if packet.version == 4 else icmpv6.PORT_UNREACHABLE
        self._unreachable(packet, code, packet.destination, now)

    def protocol_unreachable(self, packet: Packet, now: float) -> None:
        """Nobody speaks that protocol; said by the packet's destination itself."""
        if packet.version == 4:
            self._unreachable(packet, icmpv4.PROTOCOL_UNREACHABLE, packet.destination, now)
        else:
            self.parameter_problem(packet, icmpv6.UNKNOWN_NEXT_HEADER, packet.next_header, now)

    def parameter_problem(self, packet: Packet, code: int, pointer: int, now: float) -> None:
        """The byte at `pointer` of an IPv6 packet makes no sense; said by the packet's destination."""
        self._about(packet, icmpv6.PARAMETER_PROBLEM, code, pointer, packet.destination, now)

    def reassembly_timed_out(self, first: Packet, now: float) -> None:
        """A packet of which the first fragment came, and not all others."""
        if first.version == 4:
            self._about(first, icmpv4.TIME_EXCEEDED, icmpv4.IN_REASSEMBLY, 0, first.destination, now)
        else:
            self._about(first, icmpv6.TIME_EXCEEDED, icmpv6.IN_REASSEMBLY, 0, first.destination, now)

    def _unreachable(self, packet: Packet, code: int, source: bytes, now: float) -> None:
        type_ = icmpv4.UNREACHABLE if packet.version == 4 else icmpv6.UNREACHABLE
        self._about(packet, type_, code, 0, source, now)

    def _about(self, packet: Packet, type_: int, code: int, rest: int, source: bytes, now: float) -> None:
        if not _deserves_an_error(packet):
            return
        source = source or self._gateways.get(len(packet.source), packet.destination)
        most = icmpv4.MAX_QUOTE if packet.version == 4 else icmpv6.MAX_QUOTE
        quote = bytes(packet.buffer[packet.header : packet.end][:most])
        self._error(source + packet.source, type_, code, rest, quote, now)

    # About a flow

    def refuse(self, key: FlowKey, syn_seq: int, why: Refusal, now: float) -> bool:
        """Tell of a connection that cannot be made; false if the guest must be told otherwise.

        Quotes the SYN's addresses, ports and sequence number, all that a host looks at.
        """
        start = _ports(key) + syn_seq.to_bytes(4, "big") + bytes(12)  # the rest of the header nobody reads
        code = (REFUSALS_V4 if len(key.remote_address) == 4 else REFUSALS_V6).get(why)
        return code is not None and self._about_flow(key, ip.TCP, start, b"", code, now)

    def refuse_datagram(self, key: FlowKey, why: Refusal, now: float) -> None:
        """Tell of a datagram that did not get through, at once or when its far end has answered so."""
        v4 = len(key.remote_address) == 4
        source = b""
        if why is Refusal.REFUSED:
            code: int | None = icmpv4.PORT_UNREACHABLE if v4 else icmpv6.PORT_UNREACHABLE
            source = key.remote_address
        else:
            code = (REFUSALS_V4 if v4 else REFUSALS_V6).get(why)
        if code is not None:  # else silence
            self._about_flow(key, ip.UDP, _datagram(key), source, code, now)

    def datagram_too_big(self, key: FlowKey, mtu: int, now: float) -> None:
        """Tell of a datagram that the way out carries only in fragments, which it forbade: RFC 1191, 8201."""
        source = self._gateways.get(len(key.remote_address), key.remote_address)
        quote = _quote(key, ip.UDP, _datagram(key))
        answer = source + key.guest_address
        if len(source) == 4:
            code = icmpv4.FRAGMENTATION_NEEDED
            self._error(answer, icmpv4.UNREACHABLE, code, min(mtu, 0xFFFF), quote, now)
        else:
            self._error(answer, icmpv6.TOO_BIG, 0, max(mtu, ipv6.MIN_MTU), quote, now)

    def _about_flow(
        self, key: FlowKey, protocol: int, start: bytes, source: bytes, code: int, now: float
    ) -> bool:
        source = source or self._gateways.get(len(key.remote_address), key.remote_address)
        type_ = icmpv4.UNREACHABLE if len(source) == 4 else icmpv6.UNREACHABLE
        quote = _quote(key, protocol, start)
        return self._error(source + key.guest_address, type_, code, 0, quote, now)

    def _error(self, addresses: bytes, type_: int, code: int, rest: int, quote: bytes, now: float) -> bool:
        """Send one from `addresses` (source and destination), if there is a token for it."""
        if not self._bucket.take(now):
            self._counters.errors_suppressed += 1
            return False
        if len(addresses) == 8:
            message = icmpv4.emit(type_, code, rest, quote)
            self._egress.packet(ipv4.emit(addresses, ip.ICMPV4, len(message)) + message)
        else:
            message = icmpv6.emit(addresses, type_, code, rest, quote)
            self._egress.packet(ipv6.emit(addresses, ip.ICMPV6, len(message)) + message)
        return True


def _ports(key: FlowKey) -> bytes:
    return key.guest_port.to_bytes(2, "big") + key.remote_port.to_bytes(2, "big")


def _datagram(key: FlowKey) -> bytes:
    return _ports(key) + udp.HEADER_SIZE.to_bytes(2, "big") + bytes(2)


def _quote(key: FlowKey, protocol: int, start: bytes) -> bytes:
    """The packet as it must have begun: its transport header is all that a host looks at."""
    emit = ipv4.emit if len(key.guest_address) == 4 else ipv6.emit
    return emit(key.guest_address + key.remote_address, protocol, len(start)) + start


def _deserves_an_error(packet: Packet) -> bool:
    """Whether an error may be sent about this packet, which may be a first fragment."""
    if not (ip.is_unicast(packet.source) and ip.is_unicast(packet.destination)):
        return False
    if packet.fragment is not None and packet.fragment.offset:
        return False
    if packet.start >= packet.end:
        return True
    type_ = packet.buffer[packet.start]
    if packet.version == 4:
        return packet.protocol != ip.ICMPV4 or type_ not in icmpv4.ERRORS
    return packet.protocol != ip.ICMPV6 or type_ >= icmpv6.INFORMATIONAL
