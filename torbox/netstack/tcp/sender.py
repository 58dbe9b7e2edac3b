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
follows RFC 5681 with the recovery of RFC 6582. What is lost on a tun is lost as a whole super-packet, so
a super-packet is what is sent again.
"""

from __future__ import annotations

import math

from torbox.netstack.ring import Ring
from torbox.netstack.tcp.rtt import RttEstimator
from torbox.netstack.tcp.sequence import MASK, after, before, distance

MIN_MSS = 64  # bytes; a guest that announces less would make a packet of every byte (Linux: 48)
DUPLICATE_ACKS = 3  # RFC 5681 §3.2
MAX_RETRANSMITS = 15  # RFC 9293 §3.8.3 R2: at least 100 s of trying; Linux tries 15 times
MAX_HANDSHAKE_RETRANSMITS = 7  # 3 minutes for a SYN, likewise
CWND_OPEN = 1 << 30  # bytes; no limit, the largest window a peer can announce


class Sender:
    __slots__ = (
        "buffer",
        "closing",
        "cwnd",
        "duplicates",
        "fin_acknowledged",
        "iss",
        "max",
        "max_wnd",
        "mss",
        "nxt",
        "persist_at",
        "probe_now",
        "recover",
        "recovering",
        "resend_now",
        "resent",
        "retries",
        "rto_at",
        "rtt",
        "scale",
        "ssthresh",
        "syn_acknowledged",
        "timed_at",
        "timed_seq",
        "una",
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
        self.resend_now = False  # send again from SND.UNA, without going back
        self.probe_now = False
        self.rtt = RttEstimator()
        self.timed_seq = -1  # the acknowledgement that ends the measurement under way
        self.timed_at = 0.0
        self.rto_at = self.persist_at = math.inf
        self.retries = 0  # time-outs in a row
        self.resent = 0  # segments sent again, ever

    # What the guest's acknowledgements say

    def acknowledge(self, ack: int, now: float) -> None:
        """SND.UNA < `ack` <= SND.MAX: that much has arrived."""
        size = (ack - self.una) & MASK
        if not self.syn_acknowledged:
            self.syn_acknowledged = True
            size -= 1
        if size > len(self.buffer):
            size = len(self.buffer)
            self.fin_acknowledged = True
        if size:
            self.buffer.consume(size)
        self.una = ack
        if before(self.nxt, ack):
            self.nxt = ack
        self.retries = self.rtt.backoff = 0
        self.persist_at = math.inf
        if self.timed_seq >= 0 and not before(ack, self.timed_seq):
            self.rtt.sample(now - self.timed_at)
            self.timed_seq = -1
        self.rto_at = now + self.rtt.rto_s if self.max != ack else math.inf
        if not self.recovering:
            self.duplicates = 0
            if not before(ack, self.recover):
                self.recover = ack  # keeps up, so that it can never seem to lie ahead
            if self.cwnd < CWND_OPEN:
                growth = size if self.cwnd < self.ssthresh else self.mss * size // self.cwnd
                self.cwnd = min(self.cwnd + max(growth, 1), CWND_OPEN)
        elif before(ack, self.recover):  # a partial acknowledgement: the next hole is here, RFC 6582 §3.2
            self.resend_now = True
            self.cwnd = max(self.cwnd - size, 0) + self.mss
        else:
            self.recovering = False
            self.duplicates = 0
            self.cwnd = self.ssthresh

    def duplicate(self) -> None:
        """An acknowledgement that says nothing new while something is in flight."""
        self.duplicates += 1
        if self.recovering:
            self.cwnd = min(self.cwnd + self.mss, CWND_OPEN)
        elif self.duplicates == DUPLICATE_ACKS and not before(self.una, self.recover):
            self.recovering = self.resend_now = True
            self.recover = self.max
            self._halve()
            self.cwnd = self.ssthresh + 3 * self.mss
            self.timed_seq = -1

    def update_window(self, seq: int, ack: int, window: int) -> None:
        """RFC 9293 §3.10.7.4: only a segment that is not older than the last may set SND.WND."""
        if before(self.wl1, seq) or (self.wl1 == seq and not before(ack, self.wl2)):
            self.set_window(seq, ack, window)

    def set_window(self, seq: int, ack: int, window: int) -> None:
        self.wnd = window
        self.wl1 = seq
        self.wl2 = ack
        if window > self.max_wnd:
            self.max_wnd = window
        if window and self.persist_at != math.inf:
            self.persist_at = math.inf
            self.rtt.backoff = 0

    def _halve(self) -> None:
        in_flight = distance(self.una, self.max)
        self.ssthresh = max(in_flight // 2, 2 * self.mss)

    # What is to be sent

    def pending(self) -> int:
        """Bytes in the buffer that lie after SND.NXT."""
        return len(self.buffer) - distance(self.una, self.nxt)

    def usable(self) -> int:
        """Bytes that the windows allow after SND.NXT."""
        return min(self.wnd, self.cwnd) - distance(self.una, self.nxt)

    def fin_due(self) -> bool:
        """Whether the FIN lies at or after SND.NXT."""
        return self.closing and not self.fin_acknowledged and self.pending() >= 0

    def sent(self, size: int, now: float) -> None:
        """`size` bytes of sequence space went out from SND.NXT."""
        start = self.nxt
        self.nxt = (start + size) & MASK
        if after(self.nxt, self.max):
            if start != self.max:
                self.resent += 1
            elif self.timed_seq < 0:
                self.timed_seq = self.nxt
                self.timed_at = now
            self.max = self.nxt
        else:
            self.resent += 1
        if self.rto_at == math.inf:
            self.rto_at = now + self.rtt.rto_s
        self.persist_at = math.inf

    def persist(self, now: float) -> None:
        """There is something to send, nothing in flight, and no window: ask for it, RFC 9293 §3.8.6.1."""
        if self.persist_at == math.inf:
            self.persist_at = now + self.rtt.rto_s
        self.rto_at = math.inf

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
            self.retries += 1
            self._halve()
            self.cwnd = self.mss
            self.nxt = self.una
            self.recover = self.max
            self.recovering = False
            self.duplicates = 0
            self.timed_seq = -1
            self.rtt.back_off()
            self.rto_at = math.inf
            return self.retries <= limit
        return True
