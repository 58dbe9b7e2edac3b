# SPDX-License-Identifier: GPL-3.0-or-later
"""How long to wait actively before sleeping: as long as it has paid, which the last waits tell.

To be woken takes the kernel 20 to 50 µs, as long as the far end of a small exchange takes to answer; so
whoever asks epoll for that long instead of sleeping halves the exchange. Where answers take longer, or
other processes want the processor more, each such wait is in vain. So it is halved with each one in vain,
and whole again after a sleep that was so short that waiting would have been the better (KVM's
halt_poll_ns does the same for its guests' processors).
"""

from __future__ import annotations

SPIN_S = 50e-6  # seconds; an answer from this machine takes 20 to 40 µs
SHORT_SLEEP_S = 100e-6  # seconds; an answer that came within SPIN_S, and the waking
LEAST_S = 10e-6  # seconds; less is over before anything can happen


class Spin:
    """`span_s`: for how many seconds to wait actively the next time."""

    __slots__ = ("span_s",)

    def __init__(self) -> None:
        self.span_s = SPIN_S

    def slept(self, seconds: float) -> None:
        """It came to a sleep of so many seconds after all."""
        if seconds < SHORT_SLEEP_S:
            self.span_s = SPIN_S
        else:
            self.span_s = self.span_s / 2 if self.span_s >= 2 * LEAST_S else 0.0
