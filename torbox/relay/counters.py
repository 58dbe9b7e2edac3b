# SPDX-License-Identifier: GPL-3.0-or-later
"""What a relay has done, in numbers. None of them tells where anything went."""

from __future__ import annotations

from torbox.netstack.flow import Refusal


class RelayCounters:
    __slots__ = ("cut", "flows", "lost", "opened", "queries", "queries_dropped", "refused")

    def __init__(self) -> None:
        self.flows = 0  # connections that have a stream now
        self.opened = 0  # connections that were given a stream
        self.cut = 0  # flows that were ended because their guest had finished and nothing moved
        self.lost = 0  # streams whose far end was lost
        self.queries = 0  # DNS messages from the guest
        self.queries_dropped = 0  # those beyond a bound
        self.refused: dict[Refusal, int] = dict.fromkeys(Refusal, 0)
