# SPDX-License-Identifier: GPL-3.0-or-later
"""What IPv4 and IPv6 have in common: protocol numbers, a parsed packet, addresses worth answering."""

from __future__ import annotations

ICMPV4 = 1
TCP = 6
UDP = 17
ICMPV6 = 58
NO_NEXT_HEADER = 59  # IPv6: nothing follows, RFC 8200 §4.7

HOP_LIMIT = 64  # RFC 1700; what Linux uses


class Fragment:
    """One piece of a packet: `offset` of its payload in bytes, `more` pieces follow it."""

    __slots__ = ("identification", "more", "offset")

    def __init__(self, identification: int, offset: int, more: bool) -> None:
        self.identification = identification
        self.offset = offset
        self.more = more


class Packet:
    """One IP packet in a buffer: where its header and its payload lie, and what the header says.

    `addresses` are source and destination side by side, packed: 8 or 32 bytes. `next_header` is the
    offset of the byte that named `protocol`, from the packet's own start; ICMPv6 points at it.
    """

    __slots__ = (
        "addresses",
        "buffer",
        "end",
        "fragment",
        "header",
        "next_header",
        "protocol",
        "start",
        "version",
    )

    def __init__(
        self,
        version: int,
        protocol: int,
        addresses: bytes,
        buffer: memoryview,
        header: int,
        start: int,
        end: int,
        next_header: int,
        fragment: Fragment | None = None,
    ) -> None:
        self.version = version
        self.protocol = protocol
        self.addresses = addresses
        self.buffer = buffer
        self.header = header
        self.start = start
        self.end = end
        self.next_header = next_header
        self.fragment = fragment

    @property
    def source(self) -> bytes:
        return self.addresses[: len(self.addresses) // 2]

    @property
    def destination(self) -> bytes:
        return self.addresses[len(self.addresses) // 2 :]

    @property
    def payload(self) -> memoryview:
        return self.buffer[self.start : self.end]


def is_unicast(address: bytes) -> bool:
    """Whether one host may have this packed address: not unspecified, multicast, broadcast or reserved."""
    if len(address) == 4:
        return 0 < address[0] < 224  # 0/8 is "this network"; 224/3 multicast, reserved, 255.255.255.255
    return address[0] != 0xFF and any(address)
