# SPDX-License-Identifier: GPL-3.0-or-later
"""What a connection consists of, and what it says: everything that may be sent in each state.

`output` runs once in a loop turn and decides in this order: a reset that is due, what was lost, what is new,
a probe, and an acknowledgement if none of these carried it. A segment's fields are written in one place,
`_say`, as finished headers: window, acknowledgement and timestamps are those of that moment.

There is no Nagle algorithm (RFC 9293 §3.7.4): what the upstream read in one turn is one segment already, and
whoever wrote little at a time meant it to go. Holding it back is what makes delayed acknowledgements cost
40 ms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Any

from torbox.netstack.flow import FlowKey
from torbox.netstack.ring import Ring, RingPool
from torbox.netstack.tcp import options as tcp_options
from torbox.netstack.tcp.keepalive import Keepalive
from torbox.netstack.tcp.options import MAX_SACK_BLOCKS, TIMESTAMPS_SIZE
from torbox.netstack.tcp.receiver import MAX_DUPLICATES, Receiver
from torbox.netstack.tcp.sender import Sender
from torbox.netstack.tcp.sequence import MASK, distance
from torbox.netstack.tcp.state import State
from torbox.netstack.tcp.timestamps import Timestamps
from torbox.netstack.wire.tcp import ACK, FIN, PSH, RST, SYN, HeaderTemplate

pack_ports = Struct("!HH").pack

Emit = Callable[[bytes, Sequence[memoryview], int, int], None]
"""emit(IP and TCP header, views of the data, its size in bytes, the largest segment it may be sent in)"""

INFINITE = math.inf  # seconds; a name of the module is found faster than one of another, as these are:
CLOSED = State.CLOSED
SYN_RECEIVED = State.SYN_RECEIVED
ESTABLISHED = State.ESTABLISHED
SENDING = (State.ESTABLISHED, State.CLOSE_WAIT, State.FIN_WAIT_1, State.CLOSING, State.LAST_ACK)
HANDSHAKE = (State.SYN_SENT, State.SYN_RECEIVED)


class Endpoint:
    """The parts; `TcpConnection` is the whole. See there for what the names mean."""

    __slots__ = (
        "_accepted",
        "_linger_at",
        "_reset_seq",
        "deadline",
        "keepalive",
        "key",
        "max_payload",
        "our_mss",
        "owner",
        "path",
        "rcv_buf",
        "receiver",
        "sack",
        "scaling",
        "scheduled",
        "sender",
        "snd_buf",
        "state",
        "super_size",
        "timestamps",
        "was_reset",
    )

    def __init__(
        self,
        key: FlowKey,
        *,
        mss: int,
        max_payload: int,
        iss: int,
        clock_offset: int,
        ring_limit: int,
        pool: RingPool,
    ) -> None:
        self.key = key
        guest_address, guest_port, remote_address, remote_port = key
        self.path = HeaderTemplate(remote_address + guest_address, pack_ports(remote_port, guest_port))
        self.state = CLOSED
        self.owner: Any = None
        self.scheduled: Any = None  # the timer queue's
        self.rcv_buf = Ring(ring_limit, pool=pool)
        self.snd_buf = Ring(ring_limit, pool=pool)
        self.our_mss = mss
        self.max_payload = self.super_size = max_payload
        self.receiver = Receiver(self.rcv_buf, mss)
        self.sender = Sender(self.snd_buf, mss, iss)
        self.scaling = True  # window scale is offered, or was by the guest
        self.sack = True  # likewise
        self.timestamps: Timestamps | None = Timestamps(clock_offset)  # likewise
        self.keepalive: Keepalive | None = None
        self.was_reset = False
        self.deadline = INFINITE
        self._accepted = False
        self._linger_at = INFINITE
        self._reset_seq = -1  # the sequence number of a reset that is due

    def limit_segments(self, mss: int) -> bool:
        """What the guest takes: `mss` bytes of text and options; true if that is less than before.

        RFC 6691: the options that every segment has are at the expense of its text.
        """
        options = TIMESTAMPS_SIZE if self.timestamps is not None else 0
        mss -= options
        if mss >= self.sender.mss and self.sender.syn_acknowledged:
            return False
        room = self.max_payload - options
        self.sender.mss = mss
        self.super_size = max(room - room % mss, mss)
        return True

    def output(self, now: float, emit: Emit) -> None:
        """Everything that may be sent now, through `emit`; views it gets are valid in the call only."""
        state, sender, receiver = self.state, self.sender, self.receiver
        if self._reset_seq >= 0:
            self._send_reset(now, emit)
        if state is CLOSED:
            return
        if state is SYN_RECEIVED or state is State.SYN_SENT:
            if self._accepted and sender.nxt == sender.una:
                self._send_syn(now, emit)
            receiver.ack_now = sender.probe_now = False
        else:
            if state is ESTABLISHED or state in SENDING:
                if receiver.ack_now and receiver.out_of_order:
                    self._acknowledge(now, emit)  # RFC 5681 §2: one with text would not count as a duplicate
                if sender.resend_now:
                    self._resend(now, emit)
                if sender.closing or sender.buffer:
                    self._send(now, emit)
            if sender.probe_now:
                sender.probe_now = False
                self._say(now, emit, (sender.una - 1) & MASK, ACK)
            if receiver.ack_now or receiver.wants_update():
                self._acknowledge(now, emit)
        # The earliest of all: without `min`, which costs more than three comparisons.
        deadline = self._linger_at
        if sender.rto_at < deadline:
            deadline = sender.rto_at
        if sender.persist_at < deadline:
            deadline = sender.persist_at
        if receiver.ack_at < deadline:
            deadline = receiver.ack_at
        keepalive = self.keepalive
        if keepalive is not None:
            if keepalive.due_at == INFINITE:
                keepalive.begin(now)
            if keepalive.due_at < deadline:
                deadline = keepalive.due_at
        self.deadline = deadline

    def _say(
        self,
        now: float,
        emit: Emit,
        seq: int,
        flags: int,
        views: Sequence[memoryview] = (),
        size: int = 0,
        sack: bytes = b"",
    ) -> None:
        """One segment, which acknowledges all that has come."""
        receiver, timestamps = self.receiver, self.timestamps
        window = receiver.window_field()
        options = timestamps.option(now) + sack if timestamps is not None else sack
        headers = self.path.headers(seq, receiver.nxt, flags, window, options, size)
        emit(headers, views, size, self.sender.mss)

    def _acknowledge(self, now: float, emit: Emit) -> None:
        """From SND.MAX even while SND.NXT has gone back.

        An acknowledgement with an old number is not acceptable, and two ends that both went back would
        reject each other's for ever.
        """
        receiver = self.receiver
        sack = b""
        count = 1
        if receiver.blocks or receiver.repeated is not None:
            if self.sack:
                room = MAX_SACK_BLOCKS if self.timestamps is None else MAX_SACK_BLOCKS - 1
                sack = tcp_options.emit_sack(receiver.sack(room))
            else:
                count = min(max(receiver.duplicates, 1), MAX_DUPLICATES)  # all it can hear is how many
            receiver.repeated = None
        for _ in range(count):
            self._say(now, emit, self.sender.max, ACK, sack=sack)

    def _send_reset(self, now: float, emit: Emit) -> None:
        seq, self._reset_seq = self._reset_seq, -1
        if self.state is not CLOSED:
            # To an acknowledgement of nothing, in SYN-SENT or SYN-RECEIVED: <SEQ=SEG.ACK><CTL=RST>,
            # §3.10.7.3 and 4. With ACK it would end the very handshake that goes on.
            headers = self.path.headers(seq, 0, RST, 0, b"", 0)
        else:
            options = self.timestamps.option(now) if self.timestamps is not None else b""
            headers = self.path.headers(seq, self.receiver.nxt, RST | ACK, 0, options, 0)
        emit(headers, (), 0, self.sender.mss)

    def _send_syn(self, now: float, emit: Emit) -> None:
        sender, receiver = self.sender, self.receiver
        options = tcp_options.emit(
            self.our_mss,
            receiver.scale if self.scaling else -1,
            sack=self.sack,
            timestamps=self.timestamps.option(now) if self.timestamps is not None else b"",
        )
        flags = SYN if self.state is State.SYN_SENT else SYN | ACK
        scale, receiver.scale = receiver.scale, 0  # a SYN's window is never scaled, RFC 7323 §2.2
        window = receiver.window_field()
        receiver.scale = scale
        ack = receiver.nxt if flags & ACK else 0
        emit(self.path.headers(sender.nxt, ack, flags, window, options, 0), (), 0, sender.mss)
        sender.sent(1, now)

    def _send(self, now: float, emit: Emit) -> None:
        sender = self.sender
        buffer = sender.buffer
        offset = (sender.nxt - sender.una) & MASK  # never negative; this is `pending` and `usable`, at once
        pending = len(buffer) - offset
        if not (pending or sender.closing):
            return  # all is in flight
        if sender.scoreboard:
            usable = sender.usable()
        else:
            usable = (sender.wnd if sender.wnd < sender.cwnd else sender.cwnd) - offset
        while pending > 0 and usable > 0:
            size = self.super_size
            if sender.nxt != sender.max and sender.scoreboard:
                size = min(size, sender.skip())
                offset = (sender.nxt - sender.una) & MASK
                pending, usable = sender.pending(), sender.usable()
            if pending < size:
                if buffer.more and sender.nxt == sender.max:
                    break  # it goes with what comes in the next turn, as a whole packet
                size = pending
            if usable < size:
                size = usable
            if size <= 0 or (usable < pending and sender.is_silly(usable)):
                break
            flags = ACK
            taken = size
            if size == pending:
                flags = ACK | PSH
                if sender.closing and size < usable:
                    flags = ACK | PSH | FIN
                    taken += 1
            self._say(now, emit, sender.nxt, flags, buffer.peek(offset, size), size)
            sender.sent(taken, now)
            offset += taken
            pending -= taken
            usable -= taken
        if sender.closing and pending == 0 and usable > 0 and not sender.fin_acknowledged:
            self._say(now, emit, sender.nxt, ACK | FIN)
            sender.sent(1, now)
        elif sender.nxt == sender.una and sender.wnd == 0 and (pending > 0 or sender.fin_due()):
            sender.persist(now)

    def _resend(self, now: float, emit: Emit) -> None:
        """What is lost; SND.NXT stays where it is."""
        sender = self.sender
        sender.resend_now = False
        if not (sender.recovering and sender.scoreboard):
            self._repeat(now, emit, sender.una, self.super_size)
            return
        while True:
            seq, size = sender.lost()
            if not size:
                return
            size = min(size, self.super_size)
            self._repeat(now, emit, seq, size)
            sender.high_rxt = (seq + size) & MASK

    def _repeat(self, now: float, emit: Emit, seq: int, size: int) -> None:
        """Up to `size` bytes from `seq` once more, as far as they are in flight; the FIN with the last."""
        sender = self.sender
        offset = distance(sender.una, seq)
        in_flight = distance(sender.una, sender.max)
        size = min(len(sender.buffer), in_flight, offset + size) - offset
        fin = sender.closing and offset + size == len(sender.buffer) and in_flight > len(sender.buffer)
        if size <= 0 and not fin:
            return
        flags = ACK | PSH | FIN if fin else ACK | PSH
        self._say(now, emit, seq, flags, sender.buffer.peek(offset, size), size)
        sender.sent_again(now)
