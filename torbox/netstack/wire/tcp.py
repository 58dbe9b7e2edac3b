# SPDX-License-Identifier: GPL-3.0-or-later
"""TCP segments, RFC 9293 §3.1: parsing from a packet, and emission with the IP header before them.

A connection emits many segments with the same addresses and ports, so what never changes is summed
once in a HeaderTemplate; a segment's headers are then one `pack`. The checksum field is left as the
folded sum of the pseudo header, not complemented: what virtio's NEEDS_CSUM wants to find there.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct, pack_into

from torbox.netstack.wire import WireError, ipv4
from torbox.netstack.wire import ip as wire_ip
from torbox.netstack.wire.checksum import complement, fold, ones_sum
from torbox.netstack.wire.ip import HOP_LIMIT, Packet

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

IPV4_TCP = Struct("!BBHHHBBH8s4sIIBBHHH")
IPV6_TCP = Struct("!IHBB32s4sIIBBHHH")


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
    options = b"" if size == HEADER_SIZE else bytes(buffer[start + HEADER_SIZE : start + size])
    return Segment(ports, seq, ack, flags, window, options, buffer[start + size : end])


class HeaderTemplate:
    """What all segments of one direction of one connection have in common.

    `addresses` are source and destination, packed; `ports` likewise.
    """

    __slots__ = ("addresses", "ip_base", "ports", "pseudo_base")

    def __init__(self, addresses: bytes, ports: bytes) -> None:
        self.addresses = addresses
        self.ports = ports
        self.pseudo_base = fold(ones_sum(addresses) + wire_ip.TCP)
        self.ip_base = ipv4.header_base(addresses, wire_ip.TCP) if len(addresses) == 8 else 0

    @property
    def ip_size(self) -> int:
        return 20 if len(self.addresses) == 8 else 40

    def headers(self, seq: int, ack: int, flags: int, window: int, options: bytes, size: int) -> bytes:
        """IP and TCP header of a segment with `size` bytes of data, the checksum still partial."""
        segment_size = HEADER_SIZE + len(options) + size
        data_offset = 0x50 + (len(options) << 2)
        partial = self.pseudo_base + segment_size
        partial = (partial & 0xFFFF) + (partial >> 16)
        if self.ip_base:
            total = segment_size + ipv4.HEADER_SIZE
            checksum = self.ip_base + total
            checksum = 0xFFFF ^ ((checksum & 0xFFFF) + (checksum >> 16))
            return (
                IPV4_TCP.pack(
                    0x45,
                    0,
                    total,
                    0,
                    ipv4.DONT_FRAGMENT,
                    HOP_LIMIT,
                    wire_ip.TCP,
                    checksum,
                    self.addresses,
                    self.ports,
                    seq,
                    ack,
                    data_offset,
                    flags,
                    window,
                    partial,
                    0,
                )
                + options
            )
        return (
            IPV6_TCP.pack(
                6 << 28,
                segment_size,
                wire_ip.TCP,
                HOP_LIMIT,
                self.addresses,
                self.ports,
                seq,
                ack,
                data_offset,
                flags,
                window,
                partial,
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
