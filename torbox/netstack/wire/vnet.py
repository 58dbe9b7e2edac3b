# SPDX-License-Identifier: GPL-3.0-or-later
"""struct virtio_net_hdr: the ten bytes before each packet of a tun opened with IFF_VNET_HDR.

They say which checksum is still to be computed and how a super-packet is to be cut, so that neither
is done until a real wire needs it; between this stack and the guest's kernel that is never.
Fields are in the host's byte order, as a tun has them unless told otherwise.
"""

from __future__ import annotations

from struct import Struct

from torbox.netstack.wire import WireError

HEADER = Struct("=BBHHHH")
SIZE = HEADER.size  # 10 bytes
NONE = bytes(SIZE)

NEEDS_CSUM = 1  # the checksum field holds the pseudo header's sum only
DATA_VALID = 2  # the checksum was verified by whoever sent it

GSO_NONE = 0
GSO_TCPV4 = 1
GSO_UDP = 3  # UFO: fragments; no longer made by Linux
GSO_TCPV6 = 4
GSO_UDP_L4 = 5  # USO: one datagram header, many payloads of gso_size
GSO_ECN = 0x80


class VnetHeader:
    """One parsed header. `gso_type` is without GSO_ECN, which changes nothing for a receiver."""

    __slots__ = ("csum_offset", "csum_start", "flags", "gso_size", "gso_type", "hdr_len")

    def __init__(
        self, flags: int, gso_type: int, hdr_len: int, gso_size: int, csum_start: int, csum_offset: int
    ) -> None:
        self.flags = flags
        self.gso_type = gso_type
        self.hdr_len = hdr_len
        self.gso_size = gso_size
        self.csum_start = csum_start
        self.csum_offset = csum_offset


def parse(buffer: bytes | bytearray | memoryview) -> VnetHeader:
    if len(buffer) < SIZE:
        raise WireError("vnet: short header")
    flags, gso_type, hdr_len, gso_size, csum_start, csum_offset = HEADER.unpack_from(buffer)
    return VnetHeader(flags, gso_type & ~GSO_ECN, hdr_len, gso_size, csum_start, csum_offset)


def emit(
    flags: int = 0,
    gso_type: int = GSO_NONE,
    hdr_len: int = 0,
    gso_size: int = 0,
    csum_start: int = 0,
    csum_offset: int = 0,
) -> bytes:
    return HEADER.pack(flags, gso_type, hdr_len, gso_size, csum_start, csum_offset)
