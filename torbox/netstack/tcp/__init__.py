# SPDX-License-Identifier: GPL-3.0-or-later
"""TCP, RFC 9293, without a clock or a socket: segments and `now` go in, segments come out.

    connection   the state machine of RFC 9293 §3.10: what happens to a connection
    endpoint     its parts, and what may be sent in each state
    prediction   the short way of the segment that was expected
    sender       the send half: sequence space, windows, retransmission, congestion
    receiver     the receive half: what is acceptable, in what order, when to acknowledge
    outoforder   segments that came too early
    rtt          the retransmission time-out, RFC 6298
    scoreboard   what the guest holds beyond that, RFC 2018 and 6675
    timestamps   RFC 7323
    keepalive    whether a silent guest is asked
    options      what SYNs and other segments say of all that
    sequence     arithmetic modulo 2^32
    state        the states' names

`TcpConnection` is all that others need.
"""
