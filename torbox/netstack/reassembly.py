# SPDX-License-Identifier: GPL-3.0-or-later
"""Fragments, RFC 791 §3.2 and RFC 8200 §4.5: kept until whole, within bounds of bytes, count and time.

A guest's kernel fragments only datagrams larger than the MTU, so what is here at any time is little. A packet
whose pieces overlap or disagree is dropped with all its pieces (RFC 5722; for IPv4 as well, where
overlap is only ever an attack). At a bound the oldest packet gives way, so a flood cannot lock others out.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable

from torbox.netstack.wire import WireError, icmpv6, ipv4, ipv6
from torbox.netstack.wire.ip import Packet

MAX_PACKETS = 64  # packets under way at once; Linux has no count, only bytes
MAX_PIECES = 64  # of one packet: 64 KiB in pieces of an Ethernet MTU are 45; IPv6's smallest MTU makes 53
MAX_BYTES = 1 << 20  # in all packets: sixteen of the largest; Linux's ipfrag_high_thresh is 4 MiB
TIMEOUT_S = 30.0  # since the first piece; Linux's ipfrag_time. RFC 8200 allows 60

_Key = tuple[bytes, int, int]  # addresses, protocol (IPv4; 0 in IPv6), identification


class _Partial:
    __slots__ = ("expires", "first", "pieces", "protocol", "size", "starts", "total")

    def __init__(self, expires: float) -> None:
        self.expires = expires
        self.starts: list[int] = []  # of each piece, in bytes, ascending
        self.pieces: list[bytes] = []
        self.size = 0  # bytes held
        self.total = -1  # bytes of the whole payload, once the last piece is here
        self.first: Packet | None = None  # the beginning of the packet, as much as an error about it quotes
        self.protocol = -1  # what the first piece says; IPv6's others may say anything


class Reassembly:
    """`size` is what is held, in bytes; `gave_way` counts packets that were dropped unfinished.

    `timed_out(first fragment, now)` is called of those whose time is over and whose beginning is there.
    """

    __slots__ = ("_partials", "_timed_out", "gave_way", "size")

    def __init__(self, timed_out: Callable[[Packet, float], None] | None = None) -> None:
        self._timed_out = timed_out
        self._partials: dict[_Key, _Partial] = {}  # oldest first
        self.size = 0
        self.gave_way = 0

    def __len__(self) -> int:
        return len(self._partials)

    @property
    def deadline(self) -> float:
        """When `expire` wants to be called, in seconds."""
        for partial in self._partials.values():
            return partial.expires
        return math.inf

    def put(self, packet: Packet, now: float) -> Packet | None:
        """Keep a fragment; the whole packet, in a buffer of its own, when this was the last one missing."""
        fragment = packet.fragment
        assert fragment is not None
        self.expire(now)
        key = (packet.addresses, packet.protocol if packet.version == 4 else 0, fragment.identification)
        partial = self._partials.get(key)
        if partial is None:
            partial = self._partials[key] = _Partial(now + TIMEOUT_S)
        piece = bytes(packet.payload)
        if not self._add(partial, fragment.offset, piece, fragment.more):
            self._drop(key)
            raise WireError("fragments that overlap or disagree")
        if not fragment.offset:
            partial.protocol = packet.protocol
            partial.first = _beginning(packet)
        self.size += len(piece)
        if partial.size == partial.total:
            self._drop(key)
            return _whole(packet, partial)
        while len(self._partials) > MAX_PACKETS or self.size > MAX_BYTES:
            self._drop(next(iter(self._partials)))
            self.gave_way += 1
        return None

    @staticmethod
    def _add(partial: _Partial, offset: int, piece: bytes, more: bool) -> bool:
        starts, pieces, end = partial.starts, partial.pieces, offset + len(piece)
        if not more:
            if partial.total >= 0 or (starts and starts[-1] + len(pieces[-1]) > end):
                return False
            partial.total = end
        elif partial.total >= 0 and end > partial.total:
            return False
        if len(pieces) >= MAX_PIECES:
            return False
        at = bisect_right(starts, offset)
        if at and starts[at - 1] + len(pieces[at - 1]) > offset:
            return False
        if at < len(starts) and starts[at] < end:
            return False
        starts.insert(at, offset)
        pieces.insert(at, piece)
        partial.size += len(piece)
        return True

    def _drop(self, key: _Key) -> None:
        self.size -= self._partials.pop(key).size

    def expire(self, now: float) -> None:
        """Drop what has waited too long."""
        while self._partials:
            key = next(iter(self._partials))
            if self._partials[key].expires > now:
                return
            first = self._partials[key].first
            self._drop(key)
            self.gave_way += 1
            if first is not None and self._timed_out is not None:
                self._timed_out(first, now)


def _beginning(packet: Packet) -> Packet:
    """A copy of a first fragment's first bytes."""
    copy = memoryview(bytes(packet.buffer[packet.header : packet.end][: icmpv6.MAX_QUOTE]))
    start = min(packet.start - packet.header, len(copy))
    return Packet(
        packet.version, packet.protocol, packet.addresses, copy, 0, start, len(copy), packet.next_header
    )


def _whole(packet: Packet, partial: _Partial) -> Packet:
    payload = b"".join(partial.pieces)
    emit, parse = (ipv4.emit, ipv4.parse) if packet.version == 4 else (ipv6.emit, ipv6.parse)
    buffer = memoryview(emit(packet.addresses, partial.protocol, len(payload)) + payload)
    whole = parse(buffer, 0, len(buffer))  # IPv6 may have further extension headers behind
    if whole.fragment is not None:
        raise WireError("fragments within fragments")
    return whole
