# SPDX-License-Identifier: GPL-3.0-or-later
"""The send half of a connection: what is in flight, what may follow, and what must be sent again.

    SND.UNA            SND.NXT            SND.MAX
       │ in flight        │ sent before,     │ never sent yet
       │                  │ to be sent again │
       └ buffer[0]

`nxt` falls back to `una` after a time-out (go back N), so it differs from `max` only then. The buffer holds
every byte from SND.UNA on; the FIN lies right behind its last byte once `closing` is set.

Between this stack and the guest's kernel there is one queue in memory and no network. The congestion
window therefore starts wide open and closes only when something was lost in fact; from then on it
follows RFC 5681, but that in slow start it grows by all that is acknowledged, as in Linux, and not by one
segment at most (§3.1): here one acknowledgement is of a whole super-packet. What is lost on a tun is
lost as a super-packet too, and so sent again.

Recovery begins when three acknowledgements say nothing new, or when what they report of later text amounts
to that (RFC 6675).
From a guest that reports nothing each partial acknowledgement tells of one hole, RFC 6582. With a scoreboard
the holes are sent again up to `high_rxt`, as long as the pipe holds less than the congestion window; and
after a time-out what was reported is stepped over. If an echoed timestamp then shows that nothing had been
lost, the time-out is taken back (Eifel, RFC 3522, RFC 4015).
"""

from __future__ import annotations

import math

from torbox.netstack.ring import Ring
from torbox.netstack.tcp.options import Blocks
from torbox.netstack.tcp.rtt import RttEstimator
from torbox.netstack.tcp.scoreboard import Scoreboard
from torbox.netstack.tcp.sequence import HALF, MASK, after, before, distance

MIN_MSS = 64  # bytes; a guest that announces less would make a packet of every byte (Linux: 48)
DUPLICATE_ACKS = 3  # RFC 5681 §3.2
MAX_RETRANSMITS = 15  # RFC 9293 §3.8.3 R2: at least 100 s of trying; Linux tries 15 times
MAX_HANDSHAKE_RETRANSMITS = 7  # 3 minutes for a SYN, likewise
SILLY_SIZE = 4096  # bytes, see `is_silly`: where the cost of a packet no longer matters against its bytes
RECOVERY_GRACE_S = 0.01  # a guest's turn, beside the way there and back
CLOCK_GRAIN_S = 0.001  # of timestamps, in seconds
INFINITE = math.inf  # seconds; a name of the module is found faster than one of another
CWND_OPEN = 1 << 30  # bytes; no limit, the largest window a peer can announce


class Sender:
    __slots__ = (
        "buffer",
        "closing",
        "cwnd",
        "duplicates",
        "fin_acknowledged",
        "high_rxt",
        "impatient",
        "iss",
        "max",
        "max_wnd",
        "mss",
        "nxt",
        "persist_at",
        "probe_now",
        "recover",
        "recovering",
        "rescued",
        "resend_now",
        "resent",
        "retries",
        "rto_at",
        "rtt",
        "scale",
        "scoreboard",
        "ssthresh",
        "syn_acknowledged",
        "timed_at",
        "timed_seq",
        "una",
        "undo",
        "went_back_at",
        "wl1",
        "wl2",
        "wnd",
    )

    def __init__(self, buffer: Ring, mss: int, iss: int) -> None:
        self.buffer = buffer
        self.mss = mss  # largest segment on the wire, in bytes
        self.iss = self.una = self.nxt = self.max = self.recover = iss
        self.wnd = self.max_wnd = 0  # bytes, scaled
        self.wl1 = self.wl2 = 0
        self.scale = 0  # bits, as the guest's SYN said
        self.closing = False  # nothing more comes into the buffer
        self.syn_acknowledged = self.fin_acknowledged = False
        self.cwnd = self.ssthresh = CWND_OPEN
        self.duplicates = 0
        self.recovering = False
        self.resend_now = False  # send again what is lost, without going back
        self.scoreboard: Scoreboard | None = None  # as soon as the guest reports text out of order
        self.high_rxt = iss  # what is lost before this was sent again in this recovery
        self.impatient = False  # that was sent again once more since SND.UNA last moved
        self.rescued = False  # the last text too, RFC 6675 §4 NextSeg rule 4
        # Of the first of the time-outs in a row: when it was, and cwnd and ssthresh before.
        self.undo: tuple[float, int, int] | None = None
        self.went_back_at = 0.0  # the last of them
        self.probe_now = False
        self.rtt = RttEstimator()
        self.timed_seq = -1  # the acknowledgement that ends the measurement under way
        self.timed_at = 0.0
        self.rto_at = self.persist_at = INFINITE
        self.retries = 0  # time-outs in a row
        self.resent = 0  # segments sent again, ever

    # What the guest's acknowledgements say

    def acknowledge(self, ack: int, now: float, age_s: float = -1.0) -> None:
        """SND.UNA < `ack` <= SND.MAX: that much has arrived.

        `age_s`: how long ago the segment left that it answers, if a timestamp tells it; asked for after a
        time-out only, when `undo` is set.
        """
        size = (ack - self.una) & MASK
        if not self.syn_acknowledged:
            self.syn_acknowledged = True
            size -= 1
            if self.retries:
                self.rtt.begin_anew()
        buffered = len(self.buffer)
        if size > buffered:
            size = buffered
            self.fin_acknowledged = True
        if size:
            self.buffer.consume(size)
        self.una = ack
        if self.undo is not None:
            self._judge(now, age_s)
        if (self.nxt - ack) & MASK >= HALF:
            self.nxt = ack
        self.retries = 0
        rtt = self.rtt
        if rtt.backoff:
            rtt.come_back()
        self.persist_at = INFINITE
        if self.timed_seq >= 0 and (ack - self.timed_seq) & MASK < HALF:
            rtt.sample(now - self.timed_at)
            self.timed_seq = -1
        if self.scoreboard is not None:
            self.scoreboard.acknowledge(ack)
        if not self.recovering:
            self.duplicates = 0
            if (ack - self.recover) & MASK < HALF:
                self.recover = ack  # keeps up, so that it can never seem to lie ahead
            if self.cwnd < CWND_OPEN:
                growth = size if self.cwnd < self.ssthresh else self.mss * size // self.cwnd
                self.cwnd = min(self.cwnd + max(growth, 1), CWND_OPEN)
        elif before(ack, self.recover):  # a partial acknowledgement: the next hole is here, RFC 6582 §3.2
            self.resend_now = True
            if not self.scoreboard:
                self.cwnd = max(self.cwnd - size, 0) + self.mss
        else:
            self.recovering = False
            self.duplicates = 0
            self.cwnd = self.ssthresh
        self.impatient = False
        self.rto_at = now + self.patience_s() if self.max != ack else INFINITE

    def patience_s(self) -> float:
        """How long to wait for an acknowledgement.

        In a recovery with a scoreboard the guest answers at once, so silence for two round trips means that
        what was sent again is lost again: then it is sent once more, and only after that it is a time-out
        (the idea of RFC 8985 §6.2 and §7.2, which know it of each segment).
        """
        if self.recovering and self.scoreboard and not self.impatient and self.rtt.srtt_s:
            return min(2 * self.rtt.srtt_s + RECOVERY_GRACE_S, self.rtt.rto_s)
        return self.rtt.rto_s

    def _judge(self, now: float, age_s: float) -> None:
        """The first acknowledgement after a time-out. If it answers the original, the time-out was wrong."""
        assert self.undo is not None
        since, cwnd, ssthresh = self.undo
        self.undo = None
        if age_s > now - since + CLOCK_GRAIN_S:
            self.cwnd, self.ssthresh = cwnd, ssthresh
            self.nxt = self.max  # nothing more is sent again
        elif 0 <= age_s <= now - self.went_back_at + CLOCK_GRAIN_S:
            # What was sent twice is told apart by its timestamp, RFC 7323 §4.1. But not by an echo from
            # before the last time-out: then an acknowledgement was lost, and it tells how long that took to
            # mend. Such samples let the time-out grow to a minute at 30 % loss.
            self.rtt.sample(age_s)

    def reported(self, blocks: Blocks) -> bool:
        """The guest holds `blocks` beyond SND.UNA: RFC 2018. True if that is news."""
        if self.scoreboard is None:
            self.scoreboard = Scoreboard(self.una)
        news = self.scoreboard.report(self.una, self.max, blocks)
        if news:
            if self.recovering:
                self.resend_now = True
            elif before(self.una, self.scoreboard.lost_edge(self.una, self.mss)):
                self._recover()
        return news

    def duplicate(self) -> None:
        """An acknowledgement that says nothing new while something is in flight."""
        self.duplicates += 1
        if self.recovering:
            if not self.scoreboard:
                self.cwnd = min(self.cwnd + self.mss, CWND_OPEN)
        elif self.duplicates == DUPLICATE_ACKS:
            self._recover()

    def _recover(self) -> None:
        if before(self.una, self.recover):
            return  # of what went out before a time-out, RFC 6582 §3.2: it is sent again anyway
        self.recovering = self.resend_now = True
        self.recover = self.max
        self.high_rxt = self.una
        self.rescued = self.impatient = False
        self._halve()
        self.cwnd = self.ssthresh
        if not self.scoreboard:
            self.cwnd += DUPLICATE_ACKS * self.mss
        self.timed_seq = -1

    def update_window(self, seq: int, ack: int, window: int) -> None:
        """RFC 9293 §3.10.7.4: only a segment that is not older than the last may set SND.WND."""
        if self.wl1 == seq:
            if (ack - self.wl2) & MASK >= HALF:
                return
        elif (self.wl1 - seq) & MASK < HALF:
            return
        if self.persist_at == INFINITE and window <= self.max_wnd:  # all there is to it as a rule
            self.wnd = window
            self.wl1 = seq
            self.wl2 = ack
        else:
            self.set_window(seq, ack, window)

    def set_window(self, seq: int, ack: int, window: int) -> None:
        self.wnd = window
        self.wl1 = seq
        self.wl2 = ack
        if window > self.max_wnd:
            self.max_wnd = window
        if window and self.persist_at != INFINITE:
            self.persist_at = INFINITE
            self.rtt.come_back()

    def _halve(self) -> None:
        in_flight = distance(self.una, self.max)
        self.ssthresh = max(in_flight // 2, 2 * self.mss)

    # What is to be sent

    def pending(self) -> int:
        """Bytes in the buffer that lie after SND.NXT."""
        return len(self.buffer) - distance(self.una, self.nxt)

    def usable(self) -> int:
        """Bytes that the windows allow after SND.NXT, with a scoreboard; `Endpoint._send` knows without."""
        assert self.scoreboard is not None
        in_flight = distance(self.una, self.nxt)
        return min(self.wnd - in_flight, self.cwnd - self._pipe(self.scoreboard))

    def _pipe(self, board: Scoreboard) -> int:
        """Bytes that are believed to be on their way, RFC 6675 §4."""
        if not self.recovering:
            return distance(self.una, self.nxt) - board.below(self.nxt)
        edge = board.lost_edge(self.una, self.mss)
        not_lost = distance(edge, self.max) - (board.total - board.below(edge))
        if not before(self.una, self.high_rxt):
            return not_lost
        return not_lost + distance(self.una, self.high_rxt) - board.below(self.high_rxt)

    def lost(self) -> tuple[int, int]:
        """Where the next text lies that is lost and not sent again yet, and how much may go; size 0: none.

        NextSeg() of RFC 6675 §4, rules 1, 3 and 4, and the first retransmission, which no pipe holds back.
        """
        board = self.scoreboard
        assert board is not None
        room = self.cwnd - self._pipe(board)
        first = not after(self.una, self.high_rxt) and self.high_rxt == self.una and not board.holds(self.una)
        if room < self.mss and not first:
            return self.una, 0
        begin = self.high_rxt if before(self.una, self.high_rxt) else self.una
        seq, size = board.hole(begin, self.max)
        if before(seq, board.lost_edge(self.una, self.mss)):
            return seq, min(size, max(room, self.mss))
        if self.pending() > 0:
            return seq, 0  # rule 2, text that was never sent, comes before the rules that guess
        if before(seq, board.highest):
            return seq, min(size, max(room, self.mss))
        if self.rescued or not size:
            return seq, 0
        self.rescued = True
        return seq, min(size, max(room, self.mss))

    def skip(self) -> int:
        """Step over what the guest reported to hold at SND.NXT; returns how many bytes it lacks there."""
        assert self.scoreboard is not None
        self.nxt, size = self.scoreboard.hole(self.nxt, self.max)
        return size

    def is_silly(self, usable: int) -> bool:
        """Whether a window so small should grow first, RFC 9293 §3.8.6.2.1; asked when more than that waits.

        That RFC waits for a whole segment or for half of the largest window, or for an override timer of 0.1
        to 1 s. With the segments of 65,480 bytes that an MTU of 65520 allows, peers of ours waited so for
        receivers with windows of 64 KiB (slirp4netns issue 284: 5 s each time). So what is silly is bounded
        by what a packet costs; and it waits only while something is in flight, whose acknowledgement (or
        time-out) comes and asks again. There is no timer because there is never a wait that needs one.
        """
        return self.nxt != self.una and usable < min(self.mss, self.max_wnd // 2, SILLY_SIZE)

    def fin_due(self) -> bool:
        """Whether the FIN lies at or after SND.NXT."""
        return self.closing and not self.fin_acknowledged and self.pending() >= 0

    def sent(self, size: int, now: float) -> None:
        """`size` bytes of sequence space went out from SND.NXT."""
        start = self.nxt
        self.nxt = end = (start + size) & MASK
        if start == self.max:
            if self.timed_seq < 0:
                self.timed_seq = end
                self.timed_at = now
            self.max = end
        else:
            self.resent += 1
            self.timed_seq = -1  # Karn's algorithm: which of the two is answered cannot be told
            if after(end, self.max):
                self.max = end
        if self.rto_at == INFINITE:
            self.rto_at = now + self.rtt.rto_s
        self.persist_at = INFINITE

    def sent_again(self, now: float) -> None:
        """A segment before SND.NXT went out once more.

        An acknowledgement of anything behind it would measure how long the repair took: Karn's algorithm.
        """
        self.resent += 1
        self.timed_seq = -1
        self.rto_at = now + self.patience_s()

    def persist(self, now: float) -> None:
        """There is something to send, nothing in flight, and no window: ask for it, RFC 9293 §3.8.6.1."""
        if self.persist_at == INFINITE:
            self.persist_at = now + self.rtt.rto_s
        self.rto_at = INFINITE

    # What the clock says

    def timeout(self, now: float, limit: int) -> bool:
        """The retransmission or the persist timer may be due; false when it is time to give up."""
        if now >= self.persist_at:
            self.retries += 1
            self.rtt.back_off()
            self.probe_now = True
            self.persist_at = now + self.rtt.rto_s
            return self.retries <= limit
        if now >= self.rto_at:
            if self.recovering and self.scoreboard and not self.impatient:
                self.impatient = self.resend_now = True
                self.rescued = False
                self.high_rxt = self.una
                self.rto_at = now + self.rtt.rto_s
                return True
            self.retries += 1
            self.went_back_at = now
            if self.retries == 1:
                self.undo = (now, self.cwnd, self.ssthresh)
            board = self.scoreboard
            if board and board.holds(self.una):
                board.clear()  # the guest took back what it had reported, as RFC 2018 §8 lets it
            self._halve()
            self.cwnd = self.mss
            self.nxt = self.una
            self.recover = self.max
            self.recovering = False
            self.duplicates = 0
            self.timed_seq = -1
            self.rtt.back_off()
            self.rto_at = INFINITE
            return self.retries <= limit
        return True
