# SPDX-License-Identifier: GPL-3.0-or-later
"""Quotes in ICMP errors, ours and impacket's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torbox.netstack.wire import WireError, ip, ipv4, ipv6, quote, tcp, udp

A4, B4 = bytes((192, 0, 2, 7)), bytes((10, 0, 2, 100))
A6, B6 = bytes.fromhex("20010db8" + "00" * 11 + "07"), bytes.fromhex("fd00" + "00" * 13 + "64")


def test_a_quoted_segment_tells_its_ports_and_number() -> None:
    for addresses, version in ((A4 + B4, 4), (A6 + B6, 6)):
        packet = tcp.emit(addresses, bytes((0, 80, 9, 9)), 0x12345678, 0, tcp.ACK, 100)
        found = quote.parse(version, memoryview(packet)[: (20 if version == 4 else 40) + 8])
        assert (found.addresses, found.protocol) == (addresses, ip.TCP)
        assert (found.ports, found.seq) == (bytes((0, 80, 9, 9)), 0x12345678)


def test_a_quoted_datagram_behind_ipv4_options_is_found() -> None:
    data = udp.emit(A4 + B4, 443, 4000, b"")
    packet = b"\x46" + ipv4.emit(A4 + B4, ip.UDP, len(data))[1:] + bytes(4) + data
    assert quote.parse(4, memoryview(packet)).ports == b"\x01\xbb\x0f\xa0"


@pytest.mark.parametrize(
    ("version", "body", "reason"),
    [
        (4, b"", "no packet"),
        (4, ipv6.emit(A6 + B6, ip.UDP, 8) + bytes(8), "no packet"),
        (6, ipv4.emit(A4 + B4, ip.UDP, 28) + bytes(28), "no packet"),
        (4, ipv4.emit(A4 + B4, ip.UDP, 8) + bytes(7), "too little"),
        (6, ipv6.emit(A6 + B6, ip.UDP, 8) + bytes(7), "too little"),
        (4, b"\x40" + ipv4.emit(A4 + B4, ip.UDP, 8)[1:] + bytes(8), "too little"),
        (4, ipv4.emit(A4 + B4, ip.UDP, 8, flags=1) + bytes(8), "too little"),
        (4, ipv4.emit(A4 + B4, ip.ICMPV4, 8) + bytes(8), "no flow"),
        (6, ipv6.emit(A6 + B6, ipv6.FRAGMENT_HEADER, 8) + bytes(8), "no flow"),
    ],
)
def test_what_is_wrong_with_a_quote_is_named(version: int, body: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=f"icmp: quotes {reason}"):
        quote.parse(version, memoryview(body))


@given(st.sampled_from([4, 6]), st.binary(max_size=80))
def test_garbage_raises_nothing_else(version: int, body: bytes) -> None:
    for start in (b"", bytes((version << 4 | 5,))):
        try:
            quote.parse(version, memoryview(start + body))
        except WireError:
            pass
