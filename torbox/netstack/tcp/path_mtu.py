# SPDX-License-Identifier: GPL-3.0-or-later
"""A way that takes only smaller packets: RFC 1191 and 8201, with the doubts of RFC 5927.

The link to the guest has one MTU, known to both its ends. But behind the guest's own interface there may be
another, to a container or a virtual machine within the sandbox, and its router says so by ICMP.

Such a message is believed if it quotes a segment that is in flight (RFC 5927 §4.1), and as far as no
connection gets slower by it than the smallest MTU that is in use: from the guest's own programs it can then
only make their own connection send somewhat smaller segments, and send one of them again.
"""

from __future__ import annotations

from torbox.netstack.tcp.connection import TcpConnection
from torbox.netstack.tcp.sequence import before

# Bytes of a packet. RFC 791 allows 68, where headers would be most of what is sent; Linux's min_pmtu is 552.
MIN_MTU_V4 = 552
MIN_MTU_V6 = 1280  # RFC 8200 §5
HEADERS_V4, HEADERS_V6 = 40, 60  # bytes, IP and TCP without options


def packet_too_big(connection: TcpConnection, mtu: int, seq: int) -> bool:
    """The segment that began at `seq` was larger than `mtu` bytes; true if smaller ones are sent now."""
    sender = connection.sender
    if not sender.syn_acknowledged or before(seq, sender.una) or not before(seq, sender.max):
        return False
    if len(connection.key.guest_address) == 4:
        mss = max(mtu, MIN_MTU_V4) - HEADERS_V4
    else:
        mss = max(mtu, MIN_MTU_V6) - HEADERS_V6
    if not connection.limit_segments(mss):
        return False
    sender.resend_now = True  # the first of what is in flight; the rest follows as after any other loss
    return True
