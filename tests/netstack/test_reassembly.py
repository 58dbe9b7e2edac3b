# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import random

import pytest

from torbox.netstack import reassembly
from torbox.netstack.reassembly import MAX_BYTES, MAX_PACKETS, MAX_PIECES, TIMEOUT_S, Reassembly
from torbox.netstack.wire import WireError, ip, ipv4, ipv6
from torbox.netstack.wire.ip import Packet

A4 = bytes((10, 0, 2, 100, 192, 0, 2, 7))
A6 = bytes.fromhex("fd00" + "00" * 13 + "64" + "20010db8" + "00" * 11 + "07")


def pieces(version: int, size: int, identification: int = 1, mtu: int = 1280) -> list[Packet]:
    form, addresses = (ipv4, A4) if version == 4 else (ipv6, A6)
    payload = random.Random(size).randbytes(size)
    return [
        form.parse(memoryview(piece), 0, len(piece))
        for piece in form.fragments(addresses, ip.UDP, payload, mtu, identification)
    ]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [3000, 65507])
def test_fragments_in_any_order_make_the_packet(version: int, size: int) -> None:
    parts = pieces(version, size)
    random.Random(3).shuffle(parts)
    held = Reassembly()
    results = [held.put(part, 0.0) for part in parts]
    assert results[:-1] == [None] * (len(parts) - 1)
    whole = results[-1]
    assert whole is not None
    assert bytes(whole.payload) == random.Random(size).randbytes(size)
    assert whole.protocol == ip.UDP
    assert whole.fragment is None
    form = ipv4 if version == 4 else ipv6
    assert form.parse(whole.buffer, whole.header, whole.end).addresses == whole.addresses
    assert (len(held), held.size) == (0, 0)


def test_packets_are_told_apart_by_their_identification() -> None:
    held = Reassembly()
    one, other = pieces(4, 2000, 1), pieces(4, 2000, 2)
    assert held.put(one[0], 0.0) is None
    assert held.put(other[1], 0.0) is None
    assert len(held) == 2
    assert held.put(one[1], 0.0) is not None


def fragment(offset: int, size: int, more: bool) -> Packet:
    packet = ipv4.emit(A4, 17, size, identification=9, flags=offset >> 3 | (0x2000 if more else 0)) + bytes(
        size
    )
    return ipv4.parse(memoryview(packet), 0, len(packet))


@pytest.mark.parametrize(
    "parts",
    [
        [(0, 16, True), (8, 16, True)],
        [(8, 16, True), (0, 16, True)],
        [(0, 16, True), (0, 16, True)],
        [(16, 8, False), (24, 8, True)],
        [(16, 8, False), (32, 8, False)],
        [(24, 8, True), (16, 8, False)],
    ],
)
def test_pieces_that_overlap_or_disagree_drop_the_packet(parts: list[tuple[int, int, bool]]) -> None:
    held = Reassembly()
    assert held.put(fragment(*parts[0]), 0.0) is None
    with pytest.raises(WireError, match="overlap"):
        held.put(fragment(*parts[1]), 0.0)
    assert (len(held), held.size) == (0, 0)


def test_the_pieces_of_a_packet_are_bounded() -> None:
    held = Reassembly()
    for i in range(MAX_PIECES):
        held.put(fragment(i * 8, 8, True), 0.0)
    with pytest.raises(WireError):
        held.put(fragment(MAX_PIECES * 8, 8, True), 0.0)
    assert held.size == 0


def test_at_the_bound_of_packets_the_oldest_gives_way() -> None:
    held = Reassembly()
    for identification in range(MAX_PACKETS + 5):
        held.put(pieces(4, 2000, identification)[0], 0.0)
    assert len(held) == MAX_PACKETS
    assert held.gave_way == 5
    assert held.put(pieces(4, 2000, 5)[1], 0.0) is not None
    assert held.put(pieces(4, 2000, 4)[1], 0.0) is None


def test_at_the_bound_of_bytes_the_oldest_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Reassembly()
    for identification in range(MAX_BYTES // 30_000 + 3):
        held.put(pieces(4, 60_000, identification, mtu=30_020)[0], 0.0)
    assert held.size <= MAX_BYTES
    assert held.gave_way >= 2


def test_what_is_not_whole_in_time_is_dropped() -> None:
    held = Reassembly()
    parts = pieces(6, 2000)
    held.put(parts[0], 100.0)
    held.expire(100.0 + TIMEOUT_S - 1)
    assert len(held) == 1
    assert held.put(parts[1], 100.0 + TIMEOUT_S) is None
    assert held.gave_way == 1
    assert reassembly.TIMEOUT_S <= 60  # RFC 8200 §4.5
