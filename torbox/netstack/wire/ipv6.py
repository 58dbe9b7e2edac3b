# SPDX-License-Identifier: GPL-3.0-or-later
"""IPv6, RFC 8200: the header and a bounded walk over the extension headers after it."""

from __future__ import annotations

from struct import Struct

from torbox.netstack.wire import WireError
from torbox.netstack.wire.ip import HOP_LIMIT, Fragment, Packet

HEADER = Struct("!IHBB32s")
HEADER_SIZE = HEADER.size  # 40 bytes
FRAGMENT = Struct("!BBHI")
FRAGMENT_SIZE = FRAGMENT.size  # 8 bytes
MIN_MTU = 1280  # RFC 8200 §5
MAX_PAYLOAD = 65535  # without jumbograms

HOP_BY_HOP = 0
ROUTING = 43
FRAGMENT_HEADER = 44
DESTINATION_OPTIONS = 60
MAX_EXTENSIONS = 8  # RFC 8200 §4.1 foresees six at most; a longer chain only costs time


def parse(buffer: memoryview, start: int, end: int) -> Packet:
    """The packet that begins at `start`; its payload is what follows the extension headers."""
    if end - start < HEADER_SIZE:
        raise WireError("ipv6: short header")
    first_word, length, protocol, _, addresses = HEADER.unpack_from(buffer, start)
    if first_word >> 28 != 6:
        raise WireError("ipv6: not a header")
    if length > end - start - HEADER_SIZE:
        raise WireError("ipv6: wrong payload length")
    header = start
    end = start + HEADER_SIZE + length
    start += HEADER_SIZE
    packet = Packet(6, protocol, addresses, buffer, header, start, end, 6)
    if protocol in (HOP_BY_HOP, ROUTING, FRAGMENT_HEADER, DESTINATION_OPTIONS):
        _walk_extensions(packet)
    return packet


def _walk_extensions(packet: Packet) -> None:
    buffer, start, end = packet.buffer, packet.start, packet.end
    first = start
    for _ in range(MAX_EXTENSIONS):
        protocol = packet.protocol
        if protocol == FRAGMENT_HEADER:
            if end - start < FRAGMENT_SIZE:
                raise WireError("ipv6: short fragment header")
            packet.protocol, _, offset_and_more, identification = FRAGMENT.unpack_from(buffer, start)
            packet.next_header = start - packet.header
            start += FRAGMENT_SIZE
            offset, more = offset_and_more & ~7, bool(offset_and_more & 1)
            if offset or more:
                payload = end - start
                if not payload or (more and payload % 8) or offset + payload > MAX_PAYLOAD:
                    raise WireError("ipv6: impossible fragment")
                packet.fragment = Fragment(identification, offset, more)
                packet.start = start
                return
            # An "atomic fragment" is whole, RFC 6946: go on with what it carries.
        elif protocol in (DESTINATION_OPTIONS, ROUTING) or (protocol == HOP_BY_HOP and start == first):
            if end - start < 8:
                raise WireError("ipv6: short extension header")
            size = 8 + buffer[start + 1] * 8
            if size > end - start:
                raise WireError("ipv6: long extension header")
            if protocol == ROUTING and buffer[start + 3]:
                raise WireError("ipv6: segments left in a routing header")  # RFC 5095: never forward
            packet.protocol = buffer[start]
            packet.next_header = start - packet.header
            start += size
        else:
            break
    else:
        if packet.protocol in (HOP_BY_HOP, ROUTING, FRAGMENT_HEADER, DESTINATION_OPTIONS):
            raise WireError("ipv6: too many extension headers")
    packet.start = start


def emit(addresses: bytes, protocol: int, size: int) -> bytes:
    """A header for `size` bytes of payload; `addresses` are source and destination."""
    return HEADER.pack(6 << 28, size, protocol, HOP_LIMIT, addresses)


def fragments(addresses: bytes, protocol: int, payload: bytes, mtu: int, identification: int) -> list[bytes]:
    """Whole packets of at most `mtu` bytes that carry `payload`; without a fragment header if it fits."""
    if HEADER_SIZE + len(payload) <= mtu:
        return [emit(addresses, protocol, len(payload)) + payload]
    room = (mtu - HEADER_SIZE - FRAGMENT_SIZE) & ~7
    pieces = []
    for offset in range(0, len(payload), room):
        piece = payload[offset : offset + room]
        more = offset + room < len(payload)
        header = FRAGMENT.pack(protocol, 0, offset | more, identification)
        pieces.append(emit(addresses, FRAGMENT_HEADER, FRAGMENT_SIZE + len(piece)) + header + piece)
    return pieces
