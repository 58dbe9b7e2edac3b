# SPDX-License-Identifier: GPL-3.0-or-later
"""UDP, RFC 768."""

from __future__ import annotations

from struct import Struct

from torbox.netstack.wire import WireError
from torbox.netstack.wire import ip as wire_ip
from torbox.netstack.wire.checksum import complement, ones_sum, pseudo_sum
from torbox.netstack.wire.ip import Packet

HEADER = Struct("!HHHH")
HEADER_SIZE = HEADER.size  # 8 bytes
CHECKSUM_OFFSET = 6
MAX_PAYLOAD = 65535 - 20 - HEADER_SIZE  # 65,507 bytes, in IPv4; IPv6 could carry 20 more


class Datagram:
    __slots__ = ("destination_port", "payload", "source_port")

    def __init__(self, source_port: int, destination_port: int, payload: memoryview) -> None:
        self.source_port = source_port
        self.destination_port = destination_port
        self.payload = payload


def parse(packet: Packet, *, verify: bool = True) -> Datagram:
    """The datagram in a packet; `verify` is false when its checksum was left to the hardware."""
    size = packet.end - packet.start
    if size < HEADER_SIZE:
        raise WireError("udp: short header")
    source, destination, length, checksum = HEADER.unpack_from(packet.buffer, packet.start)
    if length < HEADER_SIZE or length > size:
        raise WireError("udp: wrong length")
    end = packet.start + length
    if verify and not (checksum == 0 and packet.version == 4):  # 0 is "none", which IPv6 does not allow
        total = pseudo_sum(packet.addresses, wire_ip.UDP, length)
        if not checksum or (total + ones_sum(packet.buffer[packet.start : end])) % 0xFFFF:
            raise WireError("udp: wrong checksum")
    return Datagram(source, destination, packet.buffer[packet.start + HEADER_SIZE : end])


def header(
    addresses: bytes,
    source_port: int,
    destination_port: int,
    payload: bytes | memoryview,
    *,
    partial: bool = False,
) -> bytes:
    """What goes before a payload; with `partial` its checksum is the pseudo header's sum, for NEEDS_CSUM."""
    length = HEADER_SIZE + len(payload)
    total = pseudo_sum(addresses, wire_ip.UDP, length)
    if not partial:
        start = HEADER.pack(source_port, destination_port, length, 0)
        total = complement(total + ones_sum(start) + ones_sum(payload)) or 0xFFFF
    return HEADER.pack(source_port, destination_port, length, total)


def emit(
    addresses: bytes, source_port: int, destination_port: int, payload: bytes, *, partial: bool = False
) -> bytes:
    """A whole datagram; see `header`."""
    return header(addresses, source_port, destination_port, payload, partial=partial) + payload
