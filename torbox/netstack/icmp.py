# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guest is told by ICMP and ICMPv6: echoes of the gateway's own addresses, and honest errors.

An echo request to any other address cannot be carried by Tor, and to answer it here would be a lie; it
gets "administratively prohibited". Errors are never sent about errors, nor to or about anything that is
not one host (RFC 1122 §3.2.2, RFC 4443 §2.4), and no more of them than a bucket of tokens allows.
"""

from __future__ import annotations

from torbox.netstack.counters import Counters
from torbox.netstack.egress import Egress
from torbox.netstack.flow import FlowKey, Refusal
from torbox.netstack.wire import icmpv4, icmpv6, ip, ipv4, ipv6
from torbox.netstack.wire.ip import Packet

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

    def arrives(self, packet: Packet, now: float) -> None:
        """An ICMP message of the packet's own family. Only echo requests are of interest."""
        v4 = packet.version == 4
        message = icmpv4.parse(packet) if v4 else icmpv6.parse(packet)
        if message.type != (icmpv4.ECHO_REQUEST if v4 else icmpv6.ECHO_REQUEST):
            self._counters.drop("icmp: not an echo request")
            return
        if not self._echo_any and packet.destination not in self._own:
            self._unreachable(packet, icmpv4.PROHIBITED if v4 else icmpv6.PROHIBITED, b"", now)
            return
        addresses = packet.destination + packet.source
        body = bytes(message.body)
        if v4:
            reply = icmpv4.emit(icmpv4.ECHO_REPLY, 0, message.rest, body)
            self._egress.packet(ipv4.emit(addresses, ip.ICMPV4, len(reply)) + reply)
        else:
            reply = icmpv6.emit(addresses, icmpv6.ECHO_REPLY, 0, message.rest, body)
            self._egress.packet(ipv6.emit(addresses, ip.ICMPV6, len(reply)) + reply)

    def port_unreachable(self, packet: Packet, now: float) -> None:
        """Nobody takes that datagram; said by its destination itself."""
        code = icmpv4.PORT_UNREACHABLE if packet.version == 4 else icmpv6.PORT_UNREACHABLE
        self._unreachable(packet, code, packet.destination, now)

    def protocol_unreachable(self, packet: Packet, now: float) -> None:
        """Nobody speaks that protocol; said by the packet's destination itself."""
        if packet.version == 4:
            self._unreachable(packet, icmpv4.PROTOCOL_UNREACHABLE, packet.destination, now)
            return
        quote = bytes(packet.buffer[packet.header : packet.end][: icmpv6.MAX_QUOTE])
        self._error_v6(
            packet.destination + packet.source,
            icmpv6.PARAMETER_PROBLEM,
            icmpv6.UNKNOWN_NEXT_HEADER,
            packet.next_header,
            quote,
            now,
        )

    def refuse(self, key: FlowKey, syn_seq: int, why: Refusal, now: float) -> bool:
        """Tell of a connection that cannot be made; false if the guest must be told otherwise.

        Quotes the SYN's addresses, ports and sequence number, all that a host looks at.
        """
        addresses = key.guest_address + key.remote_address
        start = (
            key.guest_port.to_bytes(2, "big")
            + key.remote_port.to_bytes(2, "big")
            + syn_seq.to_bytes(4, "big")
        )
        source = self._gateways.get(len(key.remote_address), key.remote_address)
        answer = source + key.guest_address
        start += bytes(12)  # the rest of a TCP header, which nobody reads
        if len(source) == 4:
            quote = ipv4.emit(addresses, ip.TCP, len(start)) + start
            return why in REFUSALS_V4 and self._error_v4(answer, REFUSALS_V4[why], quote, now)
        quote = ipv6.emit(addresses, ip.TCP, len(start)) + start
        return why in REFUSALS_V6 and self._error_v6(
            answer, icmpv6.UNREACHABLE, REFUSALS_V6[why], 0, quote, now
        )

    def _unreachable(self, packet: Packet, code: int, source: bytes, now: float) -> None:
        source = source or self._gateways.get(len(packet.source), packet.destination)
        answer = source + packet.source
        whole = packet.buffer[packet.header : packet.end]
        if packet.version == 4:
            self._error_v4(answer, code, bytes(whole[: icmpv4.MAX_QUOTE]), now)
        else:
            self._error_v6(answer, icmpv6.UNREACHABLE, code, 0, bytes(whole[: icmpv6.MAX_QUOTE]), now)

    def _error_v4(self, addresses: bytes, code: int, quote: bytes, now: float) -> bool:
        if not self._bucket.take(now):
            self._counters.errors_suppressed += 1
            return False
        message = icmpv4.emit(icmpv4.UNREACHABLE, code, 0, quote)
        self._egress.packet(ipv4.emit(addresses, ip.ICMPV4, len(message)) + message)
        return True

    def _error_v6(self, addresses: bytes, type_: int, code: int, rest: int, quote: bytes, now: float) -> bool:
        if not self._bucket.take(now):
            self._counters.errors_suppressed += 1
            return False
        message = icmpv6.emit(addresses, type_, code, rest, quote)
        self._egress.packet(ipv6.emit(addresses, ip.ICMPV6, len(message)) + message)
        return True
