# SPDX-License-Identifier: GPL-3.0-or-later
"""Who talks to whom, and why a connection was not to be: the words both halves of a flow share."""

from __future__ import annotations

import enum
from typing import NamedTuple


class FlowKey(NamedTuple):
    """One TCP connection or UDP flow as the guest sees it.

    Addresses are packed, 4 or 16 bytes in network order; both of one family.
    """

    guest_address: bytes
    guest_port: int
    remote_address: bytes
    remote_port: int


class Refusal(enum.Enum):
    """Why a connection cannot be made, in terms of what the guest is to see."""

    REFUSED = "refused"  # RST: the guest's connect() gives ECONNREFUSED
    NET_UNREACHABLE = "net unreachable"  # ICMP, ENETUNREACH
    HOST_UNREACHABLE = "host unreachable"  # ICMP, EHOSTUNREACH
    PROHIBITED = "prohibited"  # ICMP, administratively prohibited; EHOSTUNREACH or EACCES
    TIMED_OUT = "timed out"  # silence, as on a real network
