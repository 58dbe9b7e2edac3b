# SPDX-License-Identifier: GPL-3.0-or-later
"""ICMP for IPv4, RFC 792."""

from __future__ import annotations

from struct import Struct

from torbox.netstack.wire import WireError
from torbox.netstack.wire.checksum import complement, ones_sum
from torbox.netstack.wire.ip import Packet

HEADER = Struct("!BBHI")
HEADER_SIZE = HEADER.size  # 8 bytes

ECHO_REPLY = 0
UNREACHABLE = 3
ECHO_REQUEST = 8
TIME_EXCEEDED = 11
PARAMETER_PROBLEM = 12
ERRORS = frozenset((UNREACHABLE, 4, 5, TIME_EXCEEDED, PARAMETER_PROBLEM))  # with source quench and redirect

NET_UNREACHABLE = 0  # codes of UNREACHABLE
HOST_UNREACHABLE = 1
PROTOCOL_UNREACHABLE = 2
PORT_UNREACHABLE = 3
FRAGMENTATION_NEEDED = 4  # its second word ends in the MTU, RFC 1191 §4
PROHIBITED = 13  # communication administratively prohibited, RFC 1812 §5.2.7.1

IN_TRANSIT = 0  # codes of TIME_EXCEEDED
IN_REASSEMBLY = 1

MAX_ERROR_SIZE = 576  # bytes of the whole packet, RFC 1812 §4.3.2.3
MAX_QUOTE = MAX_ERROR_SIZE - 20 - HEADER_SIZE


class Message:
    """`rest` is the second word of the header: identifier and sequence of an echo."""

    __slots__ = ("body", "code", "rest", "type")

    def __init__(self, type_: int, code: int, rest: int, body: memoryview) -> None:
        self.type = type_
        self.code = code
        self.rest = rest
        self.body = body


def parse(packet: Packet) -> Message:
    if packet.end - packet.start < HEADER_SIZE:
        raise WireError("icmpv4: short header")
    if ones_sum(packet.payload) % 0xFFFF:
        raise WireError("icmpv4: wrong checksum")
    type_, code, _, rest = HEADER.unpack_from(packet.buffer, packet.start)
    return Message(type_, code, rest, packet.buffer[packet.start + HEADER_SIZE : packet.end])


def emit(type_: int, code: int, rest: int, body: bytes) -> bytes:
    checksum = complement(ones_sum(HEADER.pack(type_, code, 0, rest)) + ones_sum(body))
    return HEADER.pack(type_, code, checksum, rest) + body
