# SPDX-License-Identifier: GPL-3.0-or-later
"""The receive half of a connection: what is acceptable, in which order, and when to say so.

    RCV.NXT             the next byte expected
    RCV.NXT + RCV.WND   `advertised`, the right edge that the guest has been told; it never moves back,
                        though the header, which counts in steps of 2^scale, may say up to a step less for
                        a while (RFC 7323 §2.4): what was told once is still accepted

The window is the room in the ring. It is announced in steps worth sending for (RFC 9293 §3.8.6.2.2), so
that a slow reader does not make the guest send silly little segments.

What came early is told, if the guest can hear it, as RFC 2018 says: the block that grew last comes first, and
before it, once, what came twice (RFC 2883).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torbox.netstack.ring import Ring
from torbox.netstack.tcp.options import MAX_SACK_BLOCKS
from torbox.netstack.tcp.outoforder import OutOfOrder
from torbox.netstack.tcp.sequence import HALF, MASK, distance

ACK_DELAY_S = 0.04  # RFC 1122 §4.2.3.2 allows 0.5; Linux uses 40 ms
ACK_NOW_SIZE = 30_000  # bytes of one segment; a bulk sender's packet, whose next one waits for room
CHALLENGE_INTERVAL_S = 0.05  # RFC 5961 §7 asks for a limit; below any peer's probe interval
SUPER_PACKET = 65535  # bytes, the most one segment from the guest can hold
MAX_WINDOW_FIELD = 65535  # the header has 16 bits
INFINITE = math.inf  # seconds; a name of the module is found faster than one of another
MAX_DUPLICATES = 3  # acknowledgements in a row, RFC 5681 §3.2: no more is needed for a fast retransmit


class Receiver:
    __slots__ = (
        "ack_at",
        "ack_now",
        "acknowledged",
        "advertised",
        "blocks",
        "buffer",
        "challenge_at",
        "duplicates",
        "fin_seq",
        "finished",
        "mss",
        "nxt",
        "out_of_order",
        "pieces_refused",
        "repeated",
        "scale",
        "told",
        "unacknowledged",
    )

    def __init__(self, buffer: Ring, mss: int) -> None:
        self.buffer = buffer
        self.mss = mss  # largest segment the guest was told to send without offload, in bytes
        self.nxt = 0
        self.advertised = 0
        self.acknowledged = 0  # Last.ACK.sent of RFC 7323
        self.told = 0  # RCV.NXT and all the room there was when the guest was last told of it
        self.scale = 0  # bits, as offered in our SYN
        self.ack_now = False
        self.ack_at = INFINITE  # when a delayed acknowledgement is due
        self.unacknowledged = 0  # bytes taken since the last acknowledgement
        self.challenge_at = -INFINITE  # when the next answer to a segment without text may go out
        self.fin_seq = -1  # where the guest's FIN lies, once seen
        self.finished = False  # the FIN is in order: nothing more can come
        self.out_of_order: OutOfOrder | None = None
        self.pieces_refused = 0
        self.duplicates = 0  # segments out of order since the last acknowledgement
        self.blocks: Sequence[tuple[int, int]] = ()  # of what came early, the one that grew last first
        self.repeated: tuple[int, int] | None = None  # came twice, and the guest was not told yet

    def synchronise(self, irs: int) -> None:
        """Begin after the guest's SYN."""
        self.nxt = self.advertised = self.acknowledged = (irs + 1) & MASK

    def is_acceptable(self, seq: int, size: int) -> bool:
        """RFC 9293 §3.10.7.4, first check; `size` counts SYN and FIN.

        A segment at the very edge of the window is let in for its acknowledgement; its text is cut off.
        """
        start = distance(self.nxt, seq)
        return start <= self.buffer.free and (start + size > 0 if size else start >= 0)

    def challenge(self, now: float) -> None:
        """Answer with an acknowledgement that says where we are, but not too often: RFC 5961 §7."""
        if now >= self.challenge_at:
            self.challenge_at = now + CHALLENGE_INTERVAL_S
            self.ack_now = True

    def take(self, seq: int, data: memoryview, fin: bool, now: float) -> None:
        """The text and the FIN of an acceptable segment, in a state in which the guest's FIN has not come."""
        start = distance(self.nxt, seq) if seq != self.nxt else 0
        size = len(data)
        if fin and self.fin_seq < 0 and start + size <= self.buffer.free:
            self.fin_seq = (seq + size) & MASK
        if start < 0:
            self.repeated = (seq, (seq + min(-start, size)) & MASK) if size else None
            data = data[-start:]
            self.ack_now = True  # something was sent twice: the acknowledgement must have been lost
            start = 0
        if start > 0:
            self._keep(start, seq, data)
            self.ack_now = True  # RFC 5681 §4.2: a duplicate acknowledgement tells of the gap
            self.duplicates += 1
        else:
            self.append(data, now)
        if self.fin_seq == self.nxt:
            self.nxt = (self.nxt + 1) & MASK
            self.finished = self.ack_now = True
            self.forget_out_of_order()

    def append(self, data: memoryview, now: float) -> None:
        """Text that begins at RCV.NXT. As much as there is room for is taken."""
        size = len(data)
        if not size:
            return
        taken = self.buffer.write(data)
        self.nxt = (self.nxt + taken) & MASK
        self.unacknowledged += taken
        if taken < size or size >= ACK_NOW_SIZE or self.unacknowledged >= 2 * self.mss:
            self.ack_now = True
        elif self.ack_at == INFINITE:
            self.ack_at = now + ACK_DELAY_S
        if self.out_of_order:
            for piece in self.out_of_order.take(self.nxt):
                taken = self.buffer.write(piece)
                self.nxt = (self.nxt + taken) & MASK
                if taken < len(piece):
                    self.blocks = ()  # some of it is lost after all: RFC 2018 §8 allows it
                    break
            self.ack_now = True  # RFC 5681 §4.2: at once when a gap is filled
            if self.out_of_order:
                self.blocks = [block for block in self.blocks if distance(self.nxt, block[0]) > 0]
            else:
                self.forget_out_of_order()

    def _keep(self, start: int, seq: int, data: memoryview) -> None:
        data = data[: self.buffer.free - start]
        if not data:
            return
        if self.out_of_order is None:
            self.out_of_order = OutOfOrder(self.buffer.pool)
        if self.out_of_order.put(self.nxt, seq, data):
            self._report(seq, (seq + len(data)) & MASK)
        else:
            self.pieces_refused += 1

    def _report(self, start: int, end: int) -> None:
        """Text from `start` to `end` was kept: with what it touches it is the block that grew last.

        Of older blocks only a few are remembered, as in Linux: RFC 2018 §4 wants the first to be right, and
        each to be told three times.
        """
        others = []
        for left, right in self.blocks:
            if distance(left, end) < 0 or distance(start, right) < 0:
                others.append((left, right))
                continue
            if distance(left, start) >= 0 and distance(end, right) >= 0:
                self.repeated = (start, end)
            start = left if distance(left, start) > 0 else start
            end = right if distance(end, right) > 0 else end
        self.blocks = [(start, end), *others[: MAX_SACK_BLOCKS - 1]]

    def sack(self, count: int) -> Sequence[tuple[int, int]]:
        """Up to `count` blocks to be told with the next acknowledgement, a D-SACK first."""
        if self.repeated is None:
            return self.blocks[:count]
        return [self.repeated, *self.blocks][:count]

    def forget_out_of_order(self) -> None:
        self.blocks = ()
        if self.out_of_order is not None:
            self.out_of_order.clear()
            self.out_of_order = None

    def wants_update(self) -> bool:
        """Whether so much was read since the guest was told of the room that it should be told again.

        Worth it is a super-packet, or half of RCV.BUFF.
        """
        if self.finished:
            return False
        free = self.buffer.free
        growth = free - (((self.told - self.nxt + HALF) & MASK) - HALF)
        if growth <= 0:
            return False
        if growth >= SUPER_PACKET and growth >= self.mss:
            return True
        # RCV.BUFF is what the ring may hold at present, which is little when memory is short. Steps are
        # measured by this and not by the ring's limit; otherwise 4 KiB, all that a newcomer gets then, would
        # never be worth telling, and its window stayed closed.
        return growth >= free // 2 and growth >= (free + len(self.buffer)) // 2

    def window_field(self) -> int:
        """The window for a segment that is sent now, as the header has it; it acknowledges all.

        The right edge moves to where all the room ends, if that is worth telling: a segment, or half of
        RCV.BUFF (see `wants_update`). Else it stays.
        """
        nxt, free = self.nxt, self.buffer.free
        offered = ((self.advertised - nxt + HALF) & MASK) - HALF
        growth = free - offered
        if growth < self.mss and (growth < free // 2 or growth < (free + len(self.buffer)) // 2):
            edge = offered if offered > 0 else 0
        else:
            self.told = (nxt + free) & MASK
            edge = free
        field = edge >> self.scale
        if field > MAX_WINDOW_FIELD:
            field = MAX_WINDOW_FIELD
        window = field << self.scale
        if window > offered:
            self.advertised = (nxt + window) & MASK
        self.acknowledged = nxt
        self.ack_now = False
        self.ack_at = INFINITE
        self.unacknowledged = self.duplicates = 0
        return field
