# SPDX-License-Identifier: GPL-3.0-or-later
"""The Internet checksum, RFC 1071, by arithmetic modulo 65535.

The one's-complement sum of 16-bit words is the number they spell, modulo 2^16 - 1. Python divides a
big integer in C, so there is no loop over words here: 20 bytes take 0.3 µs and 64 KiB 150 µs. The
data path lets the kernel do it all the same; this is for headers and for devices without offload.
"""

from __future__ import annotations

MODULUS = 0xFFFF


def ones_sum(data: bytes | bytearray | memoryview) -> int:
    """The one's-complement sum of the 16-bit words, not complemented; an odd byte at the end is padded."""
    number = int.from_bytes(data, "big")
    if len(data) & 1:
        number <<= 8
    remainder = number % MODULUS
    # Both 0 and 0xFFFF stand for zero; a sum of words that are not all zero can only end at 0xFFFF.
    return MODULUS if not remainder and number else remainder


def fold(total: int) -> int:
    """A sum of 16-bit words, folded into 16 bits."""
    remainder = total % MODULUS
    return MODULUS if not remainder and total else remainder


def complement(total: int) -> int:
    """The checksum field that goes with a sum of 16-bit words."""
    return MODULUS - fold(total)


def pseudo_sum(addresses: bytes | memoryview, protocol: int, length: int) -> int:
    """The folded sum of a pseudo header, IPv4 or IPv6: both addresses, the protocol and the length."""
    return fold(ones_sum(addresses) + protocol + (length >> 16) + (length & MODULUS))
