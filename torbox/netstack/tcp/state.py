# SPDX-License-Identifier: GPL-3.0-or-later
"""The states of a connection, RFC 9293 §3.3.2. LISTEN is no connection here: the stack listens to all."""

from __future__ import annotations

import enum


class State(enum.Enum):
    CLOSED = "CLOSED"
    SYN_SENT = "SYN-SENT"
    SYN_RECEIVED = "SYN-RECEIVED"  # also while the SYN is held and not yet answered
    ESTABLISHED = "ESTABLISHED"
    FIN_WAIT_1 = "FIN-WAIT-1"
    FIN_WAIT_2 = "FIN-WAIT-2"
    CLOSE_WAIT = "CLOSE-WAIT"
    CLOSING = "CLOSING"
    LAST_ACK = "LAST-ACK"
    TIME_WAIT = "TIME-WAIT"
