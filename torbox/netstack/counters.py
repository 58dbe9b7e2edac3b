# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stack has seen, in numbers: for a status page, and for the tests of each bound."""

from __future__ import annotations


class Counters:
    """`dropped` counts packets by the reason they were dropped for; the reasons are fixed sentences."""

    __slots__ = (
        "bytes_from_guest",
        "bytes_to_guest",
        "complaints",
        "dropped",
        "errors_suppressed",
        "half_open_gave_way",
        "packets_from_guest",
        "packets_to_guest",
        "resets_sent",
        "silenced_forgotten",
        "tcp_opened",
        "time_wait_cut",
        "unsent",
    )

    def __init__(self) -> None:
        self.packets_from_guest = 0
        self.packets_to_guest = 0
        self.bytes_from_guest = 0  # IP packets, without the virtio header
        self.bytes_to_guest = 0
        self.complaints = 0  # ICMP errors of the guest's, about packets of ours
        self.tcp_opened = 0  # connections
        self.half_open_gave_way = 0  # attempts to connect that were ended for a newcomer
        self.silenced_forgotten = 0  # refusals by silence, before their time
        self.time_wait_cut = 0  # connections forgotten before their TIME-WAIT was over
        self.resets_sent = 0  # to segments that belong to no connection
        self.errors_suppressed = 0  # ICMP errors that went over the rate
        self.unsent = 0  # packets the device had no room for
        self.dropped: dict[str, int] = {}

    def drop(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
