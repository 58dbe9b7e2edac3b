# SPDX-License-Identifier: GPL-3.0-or-later
"""The retransmission time-out, RFC 6298."""

from __future__ import annotations

RTO_INITIAL_S = 1.0  # RFC 6298 §2.1
RTO_AFTER_SYN_S = 3.0  # RFC 6298 §5.7
# RFC 6298 §2.4 says 1; Linux 0.2, its longest delayed ACK, which is what must be outwaited here
RTO_MIN_S = 0.2
RTO_MAX_S = 60.0  # RFC 6298 §2.5: at least 60


class RttEstimator:
    """Smoothed round-trip time and its variation, in seconds. `rto_s` is no property: every segment asks."""

    __slots__ = ("backoff", "base_s", "rto_s", "srtt_s", "variation_s")

    def __init__(self) -> None:
        self.srtt_s = 0.0
        self.variation_s = 0.0
        self.base_s = self.rto_s = RTO_INITIAL_S
        self.backoff = 0  # doublings since the last sample or acknowledgement

    def sample(self, rtt_s: float) -> None:
        """One measured round trip, of a segment that was sent once only (Karn's algorithm)."""
        if self.srtt_s:
            change = rtt_s - self.srtt_s
            self.variation_s += ((change if change > 0 else -change) - self.variation_s) / 4
            self.srtt_s += change / 8
        else:
            self.srtt_s = rtt_s
            self.variation_s = rtt_s / 2
        base_s = self.srtt_s + 4 * self.variation_s
        if base_s < RTO_MIN_S:
            base_s = RTO_MIN_S
        elif base_s > RTO_MAX_S:
            base_s = RTO_MAX_S
        self.base_s = self.rto_s = base_s
        if self.backoff:
            self._double()

    def begin_anew(self) -> None:
        """The SYN had to be sent again: what the way is like is unknown, but not fast, RFC 6298 §5.7."""
        self.base_s = self.rto_s = RTO_AFTER_SYN_S

    def back_off(self) -> None:
        self.backoff = min(self.backoff + 1, 12)
        self._double()

    def come_back(self) -> None:
        """The guest has answered: the doublings are over."""
        self.backoff = 0
        self.rto_s = self.base_s

    def _double(self) -> None:
        self.rto_s = min(self.base_s * (1 << self.backoff), RTO_MAX_S)
