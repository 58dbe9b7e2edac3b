# SPDX-License-Identifier: GPL-3.0-or-later
"""One TCP connection with the guest: RFC 9293 as a value that is told what happened and asked what to send.

How it works. Three calls drive it, and none calls out again:

    segment_arrives(seg, now)    §3.10.7, its checks in its order; only changes state
    timeout(now)                 a timer may be due; only changes state
    output(now, emit)            everything that may be sent now, once per loop turn

so a burst of segments is answered once, and what the upstream put into `snd_buf` in the same turn
carries the acknowledgement. The third is in endpoint.py. Of the first, prediction.py is the short way, for
the segment that was expected. `accept`, `close` and `abort` belong to the upstream's side; they change state
and mark the connection for the next flush.

Honest connect: a SYN opens the connection in SYN-RECEIVED but is held, unanswered, until `accept`. So a
refused upstream is a refused connection in the guest, and one that hangs looks like a host that hangs.
A guest that gives up says nothing, but repeats its SYN no more: it is forgotten when the next is overdue.

A SYN with another number is another attempt, by a guest that has forgotten the first: see `is_superseded_by`.

Urgent data is data (RFC 6093); a SYN's text is not kept, the guest sends it again. SACK and timestamps are
used when both ends offer them. TIME-WAIT is short because the link is a queue in this machine's memory:
nothing can wander on it for minutes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from torbox.netstack.flow import FlowKey
from torbox.netstack.ring import POOL, RING_LIMIT, RingPool
from torbox.netstack.tcp import options as tcp_options
from torbox.netstack.tcp.endpoint import CLOSED, ESTABLISHED, HANDSHAKE, INFINITE, Endpoint
from torbox.netstack.tcp.keepalive import Keepalive
from torbox.netstack.tcp.options import Blocks
from torbox.netstack.tcp.prediction import take_predicted
from torbox.netstack.tcp.receiver import MAX_WINDOW_FIELD
from torbox.netstack.tcp.sender import MAX_HANDSHAKE_RETRANSMITS, MAX_RETRANSMITS, MIN_MSS
from torbox.netstack.tcp.sequence import HALF, MASK, after, before, distance
from torbox.netstack.tcp.state import State
from torbox.netstack.wire.tcp import ACK, FIN, RST, SYN, Segment

TIME_WAIT_S = 1.0  # seconds; §3.6.1 says 2 MSL, four minutes on the Internet of 1981
HELD_LIMIT_S = 180.0  # seconds a SYN may wait for its upstream; Linux gives up after 131
SYN_AGAIN_S = 1.0  # seconds to the first repetition of a SYN, RFC 6298 §2.1
SYN_GRACE_S = 1.0  # seconds it may come late: it waits in a queue while the worker is busy
DEFAULT_MSS = {4: 536, 6: 1220}  # bytes, when the guest names none: §3.7.1

SYNCHRONISED_TEXT = (State.ESTABLISHED, State.FIN_WAIT_1, State.FIN_WAIT_2)
SYN_OR_FIN = SYN | FIN
FINISHED = (State.CLOSING, State.LAST_ACK, State.TIME_WAIT)  # both have said all: a reset breaks nothing


@functools.cache
def _scale_of(limit: int) -> int:
    """Bits to shift, so that a window of `limit` bytes can be announced."""
    scale = 0
    while MAX_WINDOW_FIELD << scale < limit:
        scale += 1
    return min(scale, tcp_options.MAX_WINDOW_SCALE)


class TcpConnection(Endpoint):
    """`key` names the two ends; `path` has what all our segments begin with; `owner` is a slot for the user.

    `rcv_buf` holds what the guest sent, in order; `snd_buf` what it has not acknowledged yet.
    `guest_finished`: the guest's FIN arrived, so `rcv_buf` holds its last bytes. `was_reset`: the connection
    is CLOSED because of a reset or because the guest stopped answering; after an orderly end `rcv_buf` may
    still hold bytes for the upstream. `deadline`: when `timeout` wants to be called, set by `output`.
    """

    __slots__ = ("_mark", "_opened_at")

    def __init__(
        self,
        key: FlowKey,
        *,
        mss: int,
        max_payload: int,
        iss: int,
        mark: Callable[[TcpConnection], None],
        clock_offset: int = 0,
        ring_limit: int = RING_LIMIT,
        pool: RingPool = POOL,
    ) -> None:
        """`mss`: the largest segment the device carries; `max_payload`: the largest it cuts, or 0.

        `clock_offset`: where our timestamps begin, in milliseconds; the same for all of a stack.
        """
        super().__init__(
            key,
            mss=mss,
            max_payload=max_payload,
            iss=iss,
            clock_offset=clock_offset,
            ring_limit=ring_limit,
            pool=pool,
        )
        self._mark = mark
        self._opened_at = INFINITE  # the guest's first SYN; none, if it was us who opened

    @property
    def guest_finished(self) -> bool:
        return self.receiver.finished

    # The upstream's side

    def passive_open(self, segment: Segment, now: float) -> None:
        """The guest's SYN; nothing is answered before `accept`."""
        self.state = State.SYN_RECEIVED
        self._opened_at = now
        self._hold(now)
        self._take_syn(segment, now)
        self.deadline = self._linger_at

    def _hold(self, now: float) -> None:
        """A SYN came. The next is due, at the latest, when twice the time from the first has gone by.

        RFC 6298 §5.5 doubles the interval: they come after 1, 3, 7, 15 s, or sooner where Linux (since 6.5)
        repeats the first four every second.
        """
        next_s = now - self._opened_at + SYN_AGAIN_S + SYN_GRACE_S
        self._linger_at = min(now + next_s, self._opened_at + HELD_LIMIT_S)

    def active_open(self) -> None:
        """Connect to the guest."""
        self.state = State.SYN_SENT
        self._accepted = True
        self.receiver.scale = self._window_scale()
        self._mark(self)

    def accept(self) -> None:
        """The upstream is connected: the SYN may be answered."""
        self._accepted = True
        self._linger_at = INFINITE
        self._mark(self)

    def close(self) -> None:
        """Nothing more comes into `snd_buf`: a FIN goes with its last byte, once the connection is open."""
        if self.sender.closing:
            return
        self.sender.closing = True
        if self.state is State.ESTABLISHED:
            self.state = State.FIN_WAIT_1
        elif self.state is State.CLOSE_WAIT:
            self.state = State.LAST_ACK
        self._mark(self)

    def probe(self) -> None:
        """Ask whether the guest still knows the connection, RFC 9293 §3.8.4: if not, it resets it."""
        self.sender.probe_now = True
        self._mark(self)

    def keep_alive(self, idle_s: float, interval_s: float, count: int) -> None:
        """Ask a guest that was silent for `idle_s`, every `interval_s`; after `count` unanswered, abort.

        RFC 9293 §3.8.4. Without this call nothing is asked. It may be repeated, with other values.
        """
        self.keepalive = Keepalive(idle_s, interval_s, count)
        self._mark(self)

    def abort(self) -> None:
        """Reset the guest's end; what is in the rings is lost."""
        if self.state not in (State.CLOSED, State.TIME_WAIT, State.SYN_SENT):
            self._reset_seq = self.sender.max if self.sender.max != self.sender.iss else 0
        self._end(reset=True)

    def vanish(self) -> None:
        """Forget the connection without a word to the guest."""
        self._end(reset=True)

    def end_time_wait(self) -> None:
        """Its ports or its place are needed: it is over before its time, in good order."""
        self._end(reset=False)

    def _end(self, *, reset: bool) -> None:
        self.state = State.CLOSED
        self.was_reset = reset
        self.deadline = INFINITE
        if reset:
            self.rcv_buf.clear()
        self.snd_buf.clear()
        self.receiver.forget_out_of_order()
        self._mark(self)

    # What arrives: RFC 9293 §3.10.7

    def is_superseded_by(self, syn: Segment) -> bool:
        """Whether a SYN (without ACK) begins a new connection in the place of this one.

        In TIME-WAIT, RFC 6191 §2: its timestamp is later than the last, or its number, where timestamps say
        nothing. In SYN-RECEIVED, RFC 9293 §3.10.7.4: it is no repetition: the guest has forgotten the first.
        """
        receiver = self.receiver
        if self.state is State.TIME_WAIT:
            if self.timestamps is not None:
                value = tcp_options.parse(syn.options).timestamp
                if value >= 0 and value != self.timestamps.recent:
                    return after(value, self.timestamps.recent)
            return not before(syn.seq, receiver.nxt)
        if self.state is State.SYN_RECEIVED and self._opened_at != INFINITE:
            return (syn.seq + 1) & MASK != receiver.nxt
        return False

    def segment_arrives(self, segment: Segment, now: float) -> None:
        state = self.state
        keepalive = self.keepalive
        if keepalive is not None:
            keepalive.heard_at = now  # as `heard` says it, without its call
            keepalive.asked = 0
        if state is ESTABLISHED:
            if take_predicted(self, segment, now):
                return
        elif state is CLOSED:
            return
        elif state is State.SYN_SENT:
            self._arrives_in_syn_sent(segment, now)
            return
        receiver, sender, timestamps = self.receiver, self.sender, self.timestamps
        flags, seq, data = segment.flags, segment.seq, segment.data
        size = len(data)
        if flags & SYN_OR_FIN:
            size += (flags & SYN) // SYN + (flags & FIN)

        # Before the first: PAWS, RFC 7323 §5.3
        value = echo = -1
        blocks: Blocks = ()
        if segment.options:
            value, echo, blocks = tcp_options.parse_segment(segment.options)
        if timestamps is not None and not flags & RST:
            if value < 0:
                return  # §3.2: once negotiated, it is in every segment
            if (value - timestamps.recent) & MASK >= HALF and timestamps.is_old(value, now):
                self._not_acceptable(segment, size, now)
                return

        # First, the sequence number
        if seq != receiver.nxt and not receiver.is_acceptable(seq, size):
            if not flags & RST:
                self._not_acceptable(segment, size, now)
            return
        if (
            timestamps is not None
            and value >= 0
            and (receiver.acknowledged - seq) & MASK < HALF  # §4.3: the last acknowledgement waited for it
            and not flags & RST  # §5.2: of a reset nothing is kept
        ):
            timestamps.recent = value
            timestamps.recent_at = now

        # Second, RST: RFC 5961 §3
        if flags & RST:
            if seq == receiver.nxt:
                self._end(reset=state not in FINISHED)
            else:
                receiver.challenge(now)
            return

        # Fourth, SYN: RFC 5961 §4
        if flags & SYN:
            receiver.challenge(now)
            return

        # Fifth, ACK
        if not flags & ACK:
            return
        ack = segment.ack
        if state is State.SYN_RECEIVED:
            if not 0 < (ack - sender.una) & MASK <= (sender.max - sender.una) & MASK:
                self._reset_seq = ack  # §3.10.7.4: not an answer to anything sent
                return
            self.state = state = State.FIN_WAIT_1 if sender.closing else State.ESTABLISHED
            sender.set_window(seq, ack, segment.window << sender.scale)
        advance = (ack - sender.una) & MASK
        if advance > (sender.max - sender.una) & MASK:  # behind SND.UNA or beyond SND.MAX
            if after(ack, sender.max) or distance(ack, sender.una) > max(sender.max_wnd, MAX_WINDOW_FIELD):
                receiver.challenge(now)  # RFC 5961 §5
                return
        elif advance:
            age_s = -1.0
            if timestamps is not None and sender.undo is not None:
                age_s = timestamps.age_s(echo, now)
            sender.acknowledge(ack, now, age_s)
            sender.update_window(seq, ack, segment.window << sender.scale)
            if blocks and self.sack:
                sender.reported(blocks)
            if sender.fin_acknowledged:
                state = self._fin_acknowledged(state, now)
                if state is State.CLOSED:
                    return
        else:
            window = segment.window << sender.scale
            if sender.max != ack:
                if blocks and self.sack:
                    if sender.reported(blocks):
                        sender.duplicate()
                elif not size and window == sender.wnd:
                    sender.duplicate()
            if sender.persist_at != INFINITE:
                sender.retries = 0  # whoever answers probes is alive
            sender.update_window(seq, ack, window)

        # Sixth, URG: ignored. Seventh, the text; eighth, FIN
        if size:
            if state is ESTABLISHED or state in SYNCHRONISED_TEXT:
                receiver.take(seq, data, bool(flags & FIN), now)
                if receiver.finished:
                    self._guest_finished(state, now)
            else:
                receiver.ack_now = True  # nothing can follow the guest's FIN

    def _not_acceptable(self, segment: Segment, size: int, now: float) -> None:
        """A segment of another time: answered with where we are, unless it is a repeated SYN."""
        receiver, sender, flags = self.receiver, self.sender, segment.flags
        if flags & SYN:
            if self.state is not State.SYN_RECEIVED or (segment.seq + 1) & MASK != receiver.nxt:
                receiver.challenge(now)
                return
            if flags & ACK:  # both ends opened at once: §3.5, figure 7
                if self._accepted and segment.ack == sender.max != sender.una:  # our SYN is out
                    sender.acknowledge(segment.ack, now)
                    self.state = State.FIN_WAIT_1 if sender.closing else State.ESTABLISHED
                    receiver.ack_now = True
                return
            sender.nxt = sender.una  # the guest repeats its SYN: so does our answer, if it may go out
            if not self._accepted:
                self._hold(now)
            if self.timestamps is not None:
                self.timestamps.take(tcp_options.parse(segment.options).timestamp & MASK, now)
        elif size:
            receiver.ack_now = True
            if segment.data and distance(segment.seq, receiver.nxt) >= size:
                receiver.repeated = (segment.seq, (segment.seq + size) & MASK)  # RFC 2883 §4
            if flags & FIN and self.state is State.TIME_WAIT:
                self._wait(now)  # §3.10.7.4: our acknowledgement was lost, the wait begins anew
        else:
            receiver.challenge(now)

    def _arrives_in_syn_sent(self, segment: Segment, now: float) -> None:
        flags, sender = segment.flags, self.sender
        if flags & ACK and segment.ack != sender.max:
            if not flags & RST:
                self._reset_seq = segment.ack
            return
        if flags & RST:
            if flags & ACK:
                self._end(reset=True)
            return
        if not flags & SYN:
            return
        self._take_syn(segment, now)
        if flags & ACK:
            age_s = -1.0
            if self.timestamps is not None:
                age_s = self.timestamps.age_s(tcp_options.parse(segment.options).echo, now)
            sender.acknowledge(segment.ack, now, age_s)
            self.state = State.FIN_WAIT_1 if sender.closing else State.ESTABLISHED
            self.receiver.ack_now = True
        else:  # both ends at once: §3.5, figure 7
            self.state = State.SYN_RECEIVED
            sender.nxt = sender.una

    def _take_syn(self, segment: Segment, now: float) -> None:
        offered = tcp_options.parse(segment.options)
        receiver, sender = self.receiver, self.sender
        receiver.synchronise(segment.seq)
        version = 4 if len(self.key.guest_address) == 4 else 6
        self.sack = self.sack and offered.sack
        if offered.timestamp < 0:
            self.timestamps = None
        elif self.timestamps is not None:
            self.timestamps.take(offered.timestamp, now)
        self.limit_segments(max(min(offered.mss or DEFAULT_MSS[version], self.our_mss), MIN_MSS))
        if offered.window_scale >= 0:
            sender.scale = offered.window_scale
            receiver.scale = self._window_scale()
        else:
            self.scaling = False
            receiver.scale = 0
        sender.set_window(segment.seq, segment.ack, segment.window)

    def _window_scale(self) -> int:
        """Bits to shift, so that all of the ring can be announced."""
        return _scale_of(self.rcv_buf.limit)

    def _fin_acknowledged(self, state: State, now: float) -> State:
        if state is State.FIN_WAIT_1:
            self.state = State.FIN_WAIT_2
        elif state is State.CLOSING:
            self._wait(now)
        elif state is State.LAST_ACK:
            self._end(reset=False)
        return self.state

    def _guest_finished(self, state: State, now: float) -> None:
        if state is State.ESTABLISHED:
            self.state = State.CLOSE_WAIT
        elif state is State.FIN_WAIT_1:
            self.state = State.CLOSING  # had our FIN been acknowledged, this were FIN-WAIT-2
        elif state is State.FIN_WAIT_2:
            self._wait(now)

    def _wait(self, now: float) -> None:
        self.state = State.TIME_WAIT
        self._linger_at = now + TIME_WAIT_S
        self.sender.rto_at = self.sender.persist_at = INFINITE

    # What the clock says

    def timeout(self, now: float) -> None:
        """Called at or after `deadline`."""
        if self.state is State.CLOSED:
            return
        if now >= self._linger_at:
            self._end(reset=self.state is not State.TIME_WAIT)
            return
        keepalive = self.keepalive
        if keepalive is not None and now >= keepalive.due_at and self.state not in HANDSHAKE:
            busy = self.sender.max != self.sender.una or self.sender.persist_at != INFINITE
            self.sender.probe_now |= keepalive.is_due(now, busy=busy)
            if keepalive.exhausted:
                self.abort()
                return
        if now >= self.receiver.ack_at:
            self.receiver.ack_now = True
        limit = MAX_HANDSHAKE_RETRANSMITS if self.state in HANDSHAKE else MAX_RETRANSMITS
        if not self.sender.timeout(now, limit):
            self.abort()
