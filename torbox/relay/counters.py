# SPDX-License-Identifier: GPL-3.0-or-later
"""What a relay has done, in numbers. None of them tells where anything went."""

from __future__ import annotations

from torbox.netstack.flow import Refusal


class RelayCounters:
    __slots__ = (
        "associations",
        "associations_gave_way",
        "cut",
        "datagrams_filtered",
        "datagrams_from_guest",
        "datagrams_lost",
        "datagrams_to_guest",
        "flows",
        "lost",
        "opened",
        "queries",
        "queries_dropped",
        "refused",
    )

    def __init__(self) -> None:
        self.flows = 0  # connections that have a stream now
        self.opened = 0  # connections that were given a stream
        self.cut = 0  # flows that were ended because their guest had finished and nothing moved
        self.lost = 0  # streams whose far end was lost
        self.associations = 0  # of the guest's UDP sockets with a way out, now
        self.associations_gave_way = 0  # those that were ended before their time, for another
        self.datagrams_from_guest = 0  # sent on
        self.datagrams_to_guest = 0
        self.datagrams_filtered = 0  # came from whom the guest had sent nothing
        self.datagrams_lost = 0  # of the guest's, for want of a socket
        self.queries = 0  # DNS messages from the guest
        self.queries_dropped = 0  # those beyond a bound
        self.refused: dict[Refusal, int] = dict.fromkeys(Refusal, 0)
