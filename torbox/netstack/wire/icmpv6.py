# SPDX-License-Identifier: GPL-3.0-or-later
"""ICMPv6, RFC 4443: as ICMP, but its checksum covers a pseudo header."""

from __future__ import annotations

from torbox.netstack.wire import WireError, ipv6
from torbox.netstack.wire import ip as wire_ip
from torbox.netstack.wire.checksum import complement, ones_sum, pseudo_sum
from torbox.netstack.wire.icmpv4 import HEADER, HEADER_SIZE, Message
from torbox.netstack.wire.ip import Packet

UNREACHABLE = 1
TOO_BIG = 2
TIME_EXCEEDED = 3
PARAMETER_PROBLEM = 4
ECHO_REQUEST = 128
ECHO_REPLY = 129
INFORMATIONAL = 128  # types from here on are no errors, RFC 4443 §2.1

NO_ROUTE = 0  # codes of UNREACHABLE
PROHIBITED = 1
ADDRESS_UNREACHABLE = 3
PORT_UNREACHABLE = 4

IN_TRANSIT = 0  # codes of TIME_EXCEEDED
IN_REASSEMBLY = 1

ERRONEOUS_FIELD = ipv6.ERRONEOUS_FIELD  # codes of PARAMETER_PROBLEM
UNKNOWN_NEXT_HEADER = ipv6.UNKNOWN_NEXT_HEADER
UNKNOWN_OPTION = ipv6.UNKNOWN_OPTION


MAX_QUOTE = ipv6.MIN_MTU - 40 - HEADER_SIZE  # as much as fits in the smallest MTU, RFC 4443 §2.4


def parse(packet: Packet) -> Message:
    size = packet.end - packet.start
    if size < HEADER_SIZE:
        raise WireError("icmpv6: short header")
    if (pseudo_sum(packet.addresses, wire_ip.ICMPV6, size) + ones_sum(packet.payload)) % 0xFFFF:
        raise WireError("icmpv6: wrong checksum")
    type_, code, _, rest = HEADER.unpack_from(packet.buffer, packet.start)
    return Message(type_, code, rest, packet.buffer[packet.start + HEADER_SIZE : packet.end])


def emit(addresses: bytes, type_: int, code: int, rest: int, body: bytes) -> bytes:
    """A message from `addresses` (source and destination), which its checksum covers too."""
    total = pseudo_sum(addresses, wire_ip.ICMPV6, HEADER_SIZE + len(body))
    checksum = complement(total + ones_sum(HEADER.pack(type_, code, 0, rest)) + ones_sum(body))
    return HEADER.pack(type_, code, checksum, rest) + body
