# SPDX-License-Identifier: GPL-3.0-or-later
"""IPv4, RFC 791. Options are stepped over; fragments are told apart and left to the reassembly."""

from __future__ import annotations

from struct import Struct

from torbox.netstack.wire import WireError
from torbox.netstack.wire.checksum import complement, fold, ones_sum
from torbox.netstack.wire.ip import HOP_LIMIT, Fragment, Packet

HEADER = Struct("!BBHHHBBH8s")
HEADER_SIZE = HEADER.size  # 20 bytes
MAX_SIZE = 65535  # total length has 16 bits
DONT_FRAGMENT = 0x4000
MORE_FRAGMENTS = 0x2000
OFFSET_MASK = 0x1FFF  # in units of 8 bytes


def parse(buffer: memoryview, start: int, end: int) -> Packet:
    """The packet that begins at `start`; bytes after its total length and before `end` are ignored."""
    if end - start < HEADER_SIZE:
        raise WireError("ipv4: short header")
    version_and_size, _, total, identification, flags, _, protocol, _, addresses = HEADER.unpack_from(
        buffer, start
    )
    size = (version_and_size & 15) * 4
    if version_and_size >> 4 != 4 or size < HEADER_SIZE:
        raise WireError("ipv4: not a header")
    if total < size or total > end - start:
        raise WireError("ipv4: wrong total length")
    if int.from_bytes(buffer[start : start + size], "big") % 0xFFFF:
        raise WireError("ipv4: wrong header checksum")
    packet = Packet(4, protocol, addresses, buffer, start, start + size, start + total, 9)
    if flags & (MORE_FRAGMENTS | OFFSET_MASK):
        more = bool(flags & MORE_FRAGMENTS)
        offset = (flags & OFFSET_MASK) * 8
        payload = total - size
        if not payload or (more and payload % 8) or offset + payload > MAX_SIZE - HEADER_SIZE:
            raise WireError("ipv4: impossible fragment")
        packet.fragment = Fragment(identification, offset, more)
    return packet


def emit(
    addresses: bytes, protocol: int, size: int, *, identification: int = 0, flags: int = DONT_FRAGMENT
) -> bytes:
    """A header without options for `size` bytes of payload; `addresses` are source and destination.

    `flags` are the flags and the fragment offset as the header has them.
    """
    total = HEADER_SIZE + size
    known = 0x4500 + total + identification + flags + (HOP_LIMIT << 8) + protocol
    checksum = complement(known + ones_sum(addresses))
    return HEADER.pack(0x45, 0, total, identification, flags, HOP_LIMIT, protocol, checksum, addresses)


def fragments(addresses: bytes, protocol: int, payload: bytes, mtu: int, identification: int) -> list[bytes]:
    """Whole packets of at most `mtu` bytes that carry `payload`; one without DF if it fits."""
    room = (mtu - HEADER_SIZE) & ~7
    pieces = []
    for offset in range(0, max(len(payload), 1), room):
        piece = payload[offset : offset + room]
        more = MORE_FRAGMENTS if offset + room < len(payload) else 0
        flags = more | offset >> 3
        pieces.append(
            emit(addresses, protocol, len(piece), identification=identification, flags=flags) + piece
        )
    return pieces


def header_base(addresses: bytes, protocol: int) -> int:
    """The folded sum of all that is the same in each unfragmented header of a flow: all but the length."""
    return fold(0x4500 + DONT_FRAGMENT + (HOP_LIMIT << 8) + protocol + ones_sum(addresses))
