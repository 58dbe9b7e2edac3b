# SPDX-License-Identifier: GPL-3.0-or-later
"""TCP segments, RFC 9293 §3.1: parsing from a packet, and emission with the IP header before them.

A connection emits many segments with the same addresses and ports, so what never changes is summed
once in a HeaderTemplate; a segment's headers are then one `pack`. The checksum field is left as the
folded sum of the pseudo header, not complemented: what virtio's NEEDS_CSUM wants to find there.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct, pack_into

from torbox.netstack.wire import WireError, ipv4, ipv6
from torbox.netstack.wire import ip as wire_ip
from torbox.netstack.wire.checksum import complement, fold, ones_sum
from torbox.netstack.wire.ip import Packet

HEADER = Struct("!4sIIBBHHH")
HEADER_SIZE = HEADER.size  # 20 bytes
CHECKSUM_OFFSET = 16
MAX_OPTIONS = 40  # bytes; the data offset counts to 60

FIN = 0x01
SYN = 0x02
RST = 0x04
PSH = 0x08
ACK = 0x10
URG = 0x20

# Both headers at once: how to pack them, and what is the same in all of them before the length and behind
# it. Then come two bytes, IPv4's checksum or the first of IPv6's addresses; the rest of addresses and ports;
# and TCP from the sequence number on.
_V4_BEGINS = ipv4.emit(bytes(8), wire_ip.TCP, 0)
_V6_BEGINS = ipv6.emit(bytes(32), wire_ip.TCP, 0)
IPV4_KNOWN = ipv4.header_base(bytes(8), wire_ip.TCP)
IPV4_HEADERS = Struct("!2sH6sH12sIIBBHHH").pack, _V4_BEGINS[:2], _V4_BEGINS[4:10]
IPV6_HEADERS = Struct("!4sH2sH34sIIBBHHH").pack, _V6_BEGINS[:4], _V6_BEGINS[6:8]


class Segment:
    """One segment. `data` is a view of the buffer it was read into; `ports` are packed, source first.

    Nothing is urgent to this stack: with URG set, `data` is ordinary data in line, as RFC 6093 advises.
    """

    __slots__ = ("ack", "data", "flags", "options", "ports", "seq", "window")

    def __init__(
        self, ports: bytes, seq: int, ack: int, flags: int, window: int, options: bytes, data: memoryview
    ) -> None:
        self.ports = ports
        self.seq = seq
        self.ack = ack
        self.flags = flags
        self.window = window
        self.options = options
        self.data = data


def parse(packet: Packet, *, verify: bool = True) -> Segment:
    """The segment in a packet; `verify` is false when its checksum was left to the hardware."""
    buffer, start, end = packet.buffer, packet.start, packet.end
    if end - start < HEADER_SIZE:
        raise WireError("tcp: short header")
    ports, seq, ack, data_offset, flags, window, _, _ = HEADER.unpack_from(buffer, start)
    size = (data_offset >> 4) * 4
    if size < HEADER_SIZE or size > end - start:
        raise WireError("tcp: wrong data offset")
    if verify:
        length = end - start
        pseudo = ones_sum(packet.addresses) + wire_ip.TCP + length
        if (pseudo + ones_sum(buffer[start:end])) % 0xFFFF:
            raise WireError("tcp: wrong checksum")
    options = b"" if size == HEADER_SIZE else buffer[start + HEADER_SIZE : start + size].tobytes()
    return Segment(ports, seq, ack, flags, window, options, buffer[start + size : end])


class HeaderTemplate:
    """What all segments of one direction of one connection have in common.

    `addresses` are source and destination, packed; `ports` likewise.
    """

    __slots__ = ("_pseudo_base", "_tail", "_v4", "_word")

    def __init__(self, addresses: bytes, ports: bytes) -> None:
        total = ones_sum(addresses)
        self._pseudo_base = fold(total + wire_ip.TCP)
        self._v4 = len(addresses) == 8
        if self._v4:
            self._word = fold(total + IPV4_KNOWN)
            self._tail = addresses + ports
        else:
            self._word = int.from_bytes(addresses[:2], "big")
            self._tail = addresses[2:] + ports

    @property
    def ip_size(self) -> int:
        return ipv4.HEADER_SIZE if self._v4 else ipv6.HEADER_SIZE

    def headers(self, seq: int, ack: int, flags: int, window: int, options: bytes, size: int) -> bytes:
        """IP and TCP header of a segment with `size` bytes of data, the checksum still partial."""
        options_size = len(options)
        length = HEADER_SIZE + options_size + size
        partial = self._pseudo_base + length
        word = self._word
        if self._v4:
            length += ipv4.HEADER_SIZE
            word += length
            word = 0xFFFF ^ ((word & 0xFFFF) + (word >> 16))
            pack, first, second = IPV4_HEADERS
        else:
            pack, first, second = IPV6_HEADERS
        return (
            pack(
                first,
                length,
                second,
                word,
                self._tail,
                seq,
                ack,
                0x50 + (options_size << 2),
                flags,
                window,
                (partial & 0xFFFF) + (partial >> 16),
                0,
            )
            + options
        )


def complete_checksum(headers: bytes, ip_size: int, data: Sequence[memoryview | bytes]) -> bytes:
    """The same headers with the checksum finished, for a device that does not do it."""
    payload = b"".join(data)
    total = ones_sum(memoryview(headers)[ip_size:]) + ones_sum(payload)
    finished = bytearray(headers)
    pack_into("!H", finished, ip_size + CHECKSUM_OFFSET, complement(total))
    return bytes(finished)


def emit(
    addresses: bytes,
    ports: bytes,
    seq: int,
    ack: int,
    flags: int,
    window: int,
    options: bytes = b"",
    data: bytes = b"",
) -> bytes:
    """A whole packet, IP header and finished checksum included: for tests, and for what is sent once."""
    template = HeaderTemplate(addresses, ports)
    headers = template.headers(seq, ack, flags, window, options, len(data))
    return complete_checksum(headers, template.ip_size, [data]) + data
