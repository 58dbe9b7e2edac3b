# SPDX-License-Identifier: GPL-3.0-or-later
"""IPv6, RFC 8200: the header and a bounded walk over the extension headers after it."""

from __future__ import annotations

from struct import Struct

from torbox.netstack.wire import WireError, ip
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
MAX_EXTENSIONS = 8  # RFC 8200 §4.1 foresees seven at most; a longer chain only costs time

PAD1 = 0  # options, RFC 8200 §4.2
PADN = 1
DISCARD = 1  # the option type's two highest bits: 0 skip it, 1 discard in silence, 2 and 3 tell the source
MAX_OPTIONS = 8  # of one header, without padding; Linux's max_dst_opts_number
MAX_PADDING = 7  # bytes in a row: what alignment to eight needs; Linux drops more as well

ERRONEOUS_FIELD = 0  # codes of ICMPv6's parameter problem, RFC 4443 §3.4
UNKNOWN_NEXT_HEADER = 1
UNKNOWN_OPTION = 2
INCOMPLETE_CHAIN = 3  # RFC 7112 §5

LEAST_HEADER = {ip.TCP: 20, ip.UDP: 8, ip.ICMPV6: 8}  # bytes of an upper-layer header; of others, one


class ParameterProblem(WireError):
    """A packet whose sender is to be told of the byte at `pointer`, from the packet's own start."""

    def __init__(self, packet: Packet, reason: str, code: int, pointer: int) -> None:
        super().__init__(reason)
        self.packet = packet
        self.code = code
        self.pointer = pointer


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
    """Find the transport behind the extension headers. What is wrong with them is said when all are known.

    For only then can it be told whether an error may be sent about the packet: not if it is one itself.
    """
    buffer, start, end = packet.buffer, packet.start, packet.end
    first = start
    problem: tuple[str, int, int] | None = None
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
                packet.fragment = Fragment(identification, offset, more)
                payload = end - start
                if not payload:
                    raise WireError("ipv6: impossible fragment")
                if not offset and _is_cut(buffer, start, end, packet.protocol):
                    problem = problem or ("ipv6: first fragment without its headers", INCOMPLETE_CHAIN, 0)
                elif more and payload % 8:
                    problem = problem or ("ipv6: impossible fragment", ERRONEOUS_FIELD, 4)
                elif offset + payload > MAX_PAYLOAD:
                    at = start - FRAGMENT_SIZE + 2 - packet.header
                    problem = problem or ("ipv6: impossible fragment", ERRONEOUS_FIELD, at)
                break
            # An "atomic fragment" is whole, RFC 6946: go on with what it carries.
        elif protocol in (DESTINATION_OPTIONS, ROUTING) or (protocol == HOP_BY_HOP and start == first):
            if end - start < 8:
                raise WireError("ipv6: short extension header")
            size = 8 + buffer[start + 1] * 8
            if size > end - start:
                raise WireError("ipv6: long extension header")
            if protocol == ROUTING:
                if buffer[start + 3]:  # RFC 8200 §4.4: of a type nobody knows; RFC 5095: never forward
                    at = start + 2 - packet.header
                    problem = problem or ("ipv6: segments left in a routing header", ERRONEOUS_FIELD, at)
            elif problem is None:
                problem = _unknown_option(packet, start + 2, start + size)
            packet.protocol = buffer[start]
            packet.next_header = start - packet.header
            start += size
        else:
            break
    else:
        if packet.protocol in (HOP_BY_HOP, ROUTING, FRAGMENT_HEADER, DESTINATION_OPTIONS):
            raise WireError("ipv6: too many extension headers")
    packet.start = start
    if problem is not None:
        raise ParameterProblem(packet, *problem)


def _is_cut(buffer: memoryview, start: int, end: int, protocol: int) -> bool:
    """Whether a first fragment ends before its upper-layer header does, RFC 8200 §4.5 and RFC 7112 §5.

    What judges a flow by its first fragment would have nothing to judge.
    """
    while protocol in (DESTINATION_OPTIONS, ROUTING, HOP_BY_HOP):
        if end - start < 8:
            return True
        protocol, start = buffer[start], start + 8 + buffer[start + 1] * 8
    return end - start < LEAST_HEADER.get(protocol, 1)


def _unknown_option(packet: Packet, start: int, end: int) -> tuple[str, int, int] | None:
    """The first option of a header that must not be stepped over, RFC 8200 §4.2. It may raise WireError."""
    buffer = packet.buffer
    options = padding = 0
    while start < end:
        option = buffer[start]
        if option == PAD1:
            size = 1
        elif start + 1 == end:
            raise WireError("ipv6: option that is cut off")
        else:
            size = 2 + buffer[start + 1]
        if start + size > end:
            raise WireError("ipv6: option that is cut off")
        if option in (PAD1, PADN):
            padding += size
            if padding > MAX_PADDING:
                raise WireError("ipv6: too much padding")
        else:
            padding = 0
            options += 1
            if options > MAX_OPTIONS:
                raise WireError("ipv6: too many options")
            action = option >> 6
            if action == DISCARD:
                raise WireError("ipv6: unknown option")
            if action:  # tell: for multicast destinations, one of the two does not; we tell nobody of those
                return "ipv6: unknown option", UNKNOWN_OPTION, start - packet.header
        start += size
    return None


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
