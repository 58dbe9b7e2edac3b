# SPDX-License-Identifier: GPL-3.0-or-later
"""Header prediction: the next segment of an open connection is nearly always the one that was expected.

Van Jacobson's observation (1988; RFC 7323 §5.6 tells of it with timestamps): where nothing was lost,
each segment is the next text, an acknowledgement of what was sent, or both. For such a segment most of
§3.10.7 has nothing to decide. So it is told by a few comparisons, and what is left of it done at once.

It changes nothing but the time: a segment that is taken here leaves the connection as the long way would
have left it, and one that is not has not changed it. test_prediction.py holds the two against each other.
"""

from __future__ import annotations

from torbox.netstack.tcp.endpoint import INFINITE, Endpoint
from torbox.netstack.tcp.options import TIMESTAMPS, TIMESTAMPS_SIZE, TIMESTAMPS_WORD
from torbox.netstack.tcp.sequence import HALF, MASK
from torbox.netstack.wire.tcp import ACK, FIN, RST, SYN, Segment

THAT_MATTER = ACK | FIN | RST | SYN  # flags; PSH and URG change nothing here
unpack_timestamps = TIMESTAMPS.unpack


def take_predicted(connection: Endpoint, segment: Segment, now: float) -> bool:
    """A segment for an ESTABLISHED connection; false if it was not as expected, and is still to be taken."""
    receiver, sender, timestamps = connection.receiver, connection.sender, connection.timestamps
    seq = segment.seq
    if seq != receiver.nxt or segment.flags & THAT_MATTER != ACK:
        return False
    una, ack, data = sender.una, segment.ack, segment.data
    if (ack - una) & MASK > (sender.max - una) & MASK:
        return False  # of what is long acknowledged, or was never sent
    if sender.persist_at != INFINITE or sender.undo is not None:
        return False  # the answer to a probe, or the first after a time-out
    if ack == una and not data and sender.max != una:
        return False  # perhaps a duplicate
    if receiver.fin_seq >= 0:
        return False  # the guest's FIN came early
    options = segment.options
    if timestamps is not None:
        if len(options) != TIMESTAMPS_SIZE:
            return False
        word, value, _ = unpack_timestamps(options)
        if word != TIMESTAMPS_WORD or (value - timestamps.recent) & MASK >= HALF:
            return False
        if seq == receiver.acknowledged:  # RFC 7323 §4.3
            timestamps.recent = value
            timestamps.recent_at = now
    elif options:
        return False
    if ack != una:
        sender.acknowledge(ack, now)
    sender.update_window(seq, ack, segment.window << sender.scale)
    if data:
        receiver.append(data, now)
    return True
