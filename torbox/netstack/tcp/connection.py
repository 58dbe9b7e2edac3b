# SPDX-License-Identifier: GPL-3.0-or-later
"""One TCP connection with the guest: RFC 9293 as a value that is told what happened and asked what to send.

How it works. Three calls drive it, and none calls out again:

    segment_arrives(seg, now)    §3.10.7, its checks in its order; only changes state
    timeout(now)                 a timer may be due; only changes state
    output(now, emit)            everything that may be sent now, once per loop turn

so a burst of segments is answered once, and what the upstream put into `snd_buf` in the same turn
carries the acknowledgement. `accept`, `close` and `abort` belong to the upstream's side; they change state
and mark the connection for the next flush.

Honest connect: a SYN opens the connection in SYN-RECEIVED but is held, unanswered, until `accept`. So a
refused upstream is a refused connection in the guest, and one that hangs looks like a host that hangs.
A guest that gives up says nothing, but repeats its SYN no more: it is forgotten when the next is overdue.

Urgent data is data (RFC 6093); a SYN's text is not kept, the guest sends it again. Simultaneous open,
TIME-WAIT and active open are here; SACK and timestamps are not. TIME-WAIT is short because the
link is a queue in this machine's memory: nothing can wander on it for minutes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torbox.netstack.flow import FlowKey
from torbox.netstack.ring import POOL, RING_LIMIT, Ring, RingPool
from torbox.netstack.tcp import options as tcp_options
from torbox.netstack.tcp.receiver import MAX_WINDOW_FIELD, Receiver
from torbox.netstack.tcp.sender import MAX_HANDSHAKE_RETRANSMITS, MAX_RETRANSMITS, MIN_MSS, Sender
from torbox.netstack.tcp.sequence import MASK, after, distance
from torbox.netstack.tcp.state import State
from torbox.netstack.wire.tcp import ACK, FIN, PSH, RST, SYN, Segment

TIME_WAIT_S = 1.0  # seconds; §3.4.2 says 2 MSL, four minutes on the Internet of 1981
HELD_LIMIT_S = 180.0  # seconds a SYN may wait for its upstream; Linux gives up after 131
SYN_AGAIN_S = 1.0  # seconds to the first repetition of a SYN, RFC 6298 §2.1
SYN_GRACE_S = 1.0  # seconds it may come late: it waits in a queue while the worker is busy
DEFAULT_MSS = {4: 536, 6: 1220}  # bytes, when the guest names none: §3.7.1

Emit = Callable[["TcpConnection", int, int, int, int, bytes, "list[memoryview]", int], None]
"""emit(connection, seq, ack, flags, window field, options, views of the data, its size in bytes)"""

SYNCHRONISED_TEXT = (State.ESTABLISHED, State.FIN_WAIT_1, State.FIN_WAIT_2)
FINISHED = (State.CLOSING, State.LAST_ACK, State.TIME_WAIT)  # both have said all: a reset breaks nothing
SENDING = (State.ESTABLISHED, State.CLOSE_WAIT, State.FIN_WAIT_1, State.CLOSING, State.LAST_ACK)


class TcpConnection:
    """`key` names the two ends; `owner` and `path` are slots for those who use and who emit.

    `rcv_buf` holds what the guest sent, in order; `snd_buf` what it has not acknowledged yet.
    `guest_finished`: the guest's FIN arrived, so `rcv_buf` holds its last bytes. `was_reset`: the connection
    is CLOSED because of a reset or because the guest stopped answering; after an orderly end `rcv_buf` may
    still hold bytes for the upstream. `deadline`: when `timeout` wants to be called.
    """

    __slots__ = (
        "_accepted",
        "_linger_at",
        "_mark",
        "_opened_at",
        "_reset_seq",
        "deadline",
        "key",
        "max_payload",
        "our_mss",
        "owner",
        "path",
        "rcv_buf",
        "receiver",
        "scaling",
        "scheduled",
        "sender",
        "snd_buf",
        "state",
        "super_size",
        "was_reset",
    )

    def __init__(
        self,
        key: FlowKey,
        *,
        mss: int,
        max_payload: int,
        iss: int,
        mark: Callable[[TcpConnection], None],
        ring_limit: int = RING_LIMIT,
        pool: RingPool = POOL,
    ) -> None:
        """`mss`: the largest segment the device carries; `max_payload`: the largest it cuts, or 0."""
        self.key = key
        self.state = State.CLOSED
        self.owner: Any = None
        self.path: Any = None
        self.scheduled: Any = None  # the timer queue's
        self.rcv_buf = Ring(ring_limit, pool=pool)
        self.snd_buf = Ring(ring_limit, pool=pool)
        self.our_mss = mss
        self.max_payload = self.super_size = max_payload
        self.receiver = Receiver(self.rcv_buf, mss)
        self.sender = Sender(self.snd_buf, mss, iss)
        self.scaling = True  # window scale is offered, or was by the guest
        self.was_reset = False
        self.deadline = math.inf
        self._accepted = False
        self._linger_at = math.inf
        self._opened_at = math.inf
        self._mark = mark
        self._reset_seq = -1  # the sequence number of a reset that is due

    @property
    def guest_finished(self) -> bool:
        return self.receiver.finished

    # The upstream's side

    def passive_open(self, segment: Segment, now: float) -> None:
        """The guest's SYN; nothing is answered before `accept`."""
        self.state = State.SYN_RECEIVED
        self._opened_at = now
        self._hold(now)
        self._take_syn(segment)
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
        self._linger_at = math.inf
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
        self.deadline = math.inf
        if reset:
            self.rcv_buf.clear()
        self.snd_buf.clear()
        self.receiver.forget_out_of_order()
        self._mark(self)

    # What arrives: RFC 9293 §3.10.7

    def segment_arrives(self, segment: Segment, now: float) -> None:
        state = self.state
        if state is State.CLOSED:
            return
        if state is State.SYN_SENT:
            self._arrives_in_syn_sent(segment, now)
            return
        receiver, sender = self.receiver, self.sender
        flags, seq, data = segment.flags, segment.seq, segment.data

        # First, the sequence number
        size = len(data)
        if flags & (SYN | FIN):
            size += (flags & SYN) // SYN + (flags & FIN)
        if not receiver.is_acceptable(seq, size):
            if flags & RST:
                return
            if state is State.SYN_RECEIVED and flags & SYN and (seq + 1) & MASK == receiver.nxt:
                sender.nxt = sender.una  # the guest repeats its SYN: so does our answer, if it may go out
                if not self._accepted:
                    self._hold(now)
                self._arm()
            elif size and not flags & SYN:
                receiver.ack_now = True
            else:
                receiver.challenge(now)
            return

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
            if not (after(ack, sender.una) and not after(ack, sender.max)):
                self._reset_seq = ack  # §3.10.7.4: not an answer to anything sent
                return
            self.state = state = State.FIN_WAIT_1 if sender.closing else State.ESTABLISHED
            sender.set_window(seq, ack, segment.window << sender.scale)
        if after(ack, sender.max) or distance(ack, sender.una) > max(sender.max_wnd, MAX_WINDOW_FIELD):
            receiver.challenge(now)  # RFC 5961 §5
            return
        if after(ack, sender.una):
            sender.acknowledge(ack, now)
            sender.update_window(seq, ack, segment.window << sender.scale)
            if sender.fin_acknowledged:
                state = self._fin_acknowledged(state, now)
                if state is State.CLOSED:
                    return
        elif ack == sender.una:
            window = segment.window << sender.scale
            if not size and window == sender.wnd and sender.max != ack:
                sender.duplicate()
            if sender.persist_at != math.inf:
                sender.retries = 0  # whoever answers probes is alive
            sender.update_window(seq, ack, window)

        # Sixth, URG: ignored. Seventh, the text; eighth, FIN
        if size:
            if state in SYNCHRONISED_TEXT:
                receiver.take(seq, data, bool(flags & FIN), now)
                if receiver.finished:
                    self._guest_finished(state, now)
            else:
                receiver.ack_now = True  # nothing can follow the guest's FIN
        self._arm()

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
        self._take_syn(segment)
        if flags & ACK:
            sender.acknowledge(segment.ack, now)
            self.state = State.FIN_WAIT_1 if sender.closing else State.ESTABLISHED
            self.receiver.ack_now = True
        else:  # both ends at once: §3.5, figure 7
            self.state = State.SYN_RECEIVED
            sender.nxt = sender.una
        self._arm()

    def _take_syn(self, segment: Segment) -> None:
        offered = tcp_options.parse(segment.options)
        receiver, sender = self.receiver, self.sender
        receiver.synchronise(segment.seq)
        version = 4 if len(self.key.guest_address) == 4 else 6
        sender.mss = max(min(offered.mss or DEFAULT_MSS[version], self.our_mss), MIN_MSS)
        self.super_size = max(self.max_payload - self.max_payload % sender.mss, sender.mss)
        if offered.window_scale >= 0:
            sender.scale = offered.window_scale
            receiver.scale = self._window_scale()
        else:
            self.scaling = False
            receiver.scale = 0
        sender.set_window(segment.seq, segment.ack, segment.window)

    def _window_scale(self) -> int:
        """Bits to shift, so that all of the ring can be announced."""
        scale = 0
        while MAX_WINDOW_FIELD << scale < self.rcv_buf.limit:
            scale += 1
        return min(scale, tcp_options.MAX_WINDOW_SCALE)

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
        self.sender.rto_at = self.sender.persist_at = math.inf

    # What the clock says

    def timeout(self, now: float) -> None:
        """Called at or after `deadline`."""
        if self.state is State.CLOSED:
            return
        if now >= self._linger_at:
            self._end(reset=self.state is not State.TIME_WAIT)
            return
        if now >= self.receiver.ack_at:
            self.receiver.ack_now = True
        handshake = self.state in (State.SYN_SENT, State.SYN_RECEIVED)
        if not self.sender.timeout(now, MAX_HANDSHAKE_RETRANSMITS if handshake else MAX_RETRANSMITS):
            self.abort()
        else:
            self._arm()

    def _arm(self) -> None:
        sender = self.sender
        self.deadline = min(sender.rto_at, sender.persist_at, self.receiver.ack_at, self._linger_at)

    # What is sent

    def output(self, now: float, emit: Emit) -> None:
        """Everything that may be sent now, through `emit`; views it gets are valid in the call only."""
        state, sender, receiver = self.state, self.sender, self.receiver
        if self._reset_seq >= 0:
            emit(self, self._reset_seq, receiver.nxt, RST | ACK, 0, b"", [], 0)
            self._reset_seq = -1
        if state is State.CLOSED:
            return
        if state in SENDING:
            if sender.resend_now:
                self._resend(now, emit)
            if sender.buffer or sender.closing:
                self._send(now, emit)
            if sender.probe_now:
                sender.probe_now = False
                emit(self, (sender.una - 1) & MASK, receiver.nxt, ACK, receiver.window_field(), b"", [], 0)
        elif state is State.SYN_RECEIVED or state is State.SYN_SENT:
            self._send_syn(now, emit)
        if receiver.ack_now or receiver.wants_update():
            if state is not State.SYN_RECEIVED and state is not State.SYN_SENT:
                # From SND.MAX even while SND.NXT has gone back: an acknowledgement with an old number is not
                # acceptable, and two ends that both went back would reject each other's for ever.
                emit(self, sender.max, receiver.nxt, ACK, receiver.window_field(), b"", [], 0)
            else:
                receiver.ack_now = False
        self.rcv_buf.release()
        self.snd_buf.release()
        self._arm()

    def _send_syn(self, now: float, emit: Emit) -> None:
        sender, receiver = self.sender, self.receiver
        if not self._accepted or sender.nxt != sender.una:
            return
        options = tcp_options.emit(self.our_mss, receiver.scale if self.scaling else -1)
        flags = SYN if self.state is State.SYN_SENT else SYN | ACK
        scale, receiver.scale = receiver.scale, 0  # a SYN's window is never scaled, RFC 7323 §2.2
        window = receiver.window_field()
        receiver.scale = scale
        emit(self, sender.nxt, receiver.nxt if flags & ACK else 0, flags, window, options, [], 0)
        sender.sent(1, now)

    def _send(self, now: float, emit: Emit) -> None:
        sender, receiver = self.sender, self.receiver
        pending = sender.pending()
        usable = sender.usable()
        while pending > 0 and usable > 0:
            size = min(pending, usable, self.super_size)
            offset = distance(sender.una, sender.nxt)
            flags = ACK
            taken = size
            if size == pending:
                flags = ACK | PSH
                if sender.closing and size < usable:
                    flags = ACK | PSH | FIN
                    taken += 1
            views = sender.buffer.peek(offset, size)
            emit(self, sender.nxt, receiver.nxt, flags, receiver.window_field(), b"", views, size)
            sender.sent(taken, now)
            pending -= taken
            usable -= taken
        if sender.closing and pending == 0 and usable > 0 and not sender.fin_acknowledged:
            emit(self, sender.nxt, receiver.nxt, ACK | FIN, receiver.window_field(), b"", [], 0)
            sender.sent(1, now)
        elif sender.nxt == sender.una and sender.wnd == 0 and (pending > 0 or sender.fin_due()):
            sender.persist(now)

    def _resend(self, now: float, emit: Emit) -> None:
        """The first super-packet in flight once more; SND.NXT stays where it is."""
        sender, receiver = self.sender, self.receiver
        sender.resend_now = False
        in_flight = distance(sender.una, sender.max)
        size = min(len(sender.buffer), in_flight, self.super_size)
        fin = sender.closing and size == len(sender.buffer) and in_flight > size
        if not size and not fin:
            return
        flags = ACK | PSH | FIN if fin else ACK | PSH
        emit(
            self,
            sender.una,
            receiver.nxt,
            flags,
            receiver.window_field(),
            b"",
            sender.buffer.peek(0, size),
            size,
        )
        sender.resent += 1
        sender.rto_at = now + sender.rtt.rto_s
