# SPDX-License-Identifier: GPL-3.0-or-later
"""UDP flows: which of the guest's sockets has a way out, to whom, and until when.

An association is one source address and port of the guest's, with one socket outside for all its far ends:
endpoint-independent mapping, RFC 4787 REQ-1, without which two peers that were introduced by a third would
not find each other. Of what comes back the guest gets what is from addresses it has sent to, whatever the
port: address-dependent filtering (REQ-8). Endpoint-independent filtering would be a little kinder to games,
and would make every program inside a server to the whole Internet, which nobody asked for.

    asked once    it sent, and perhaps got an answer: a name's look-up. Idle after 30 s
    lasting       it went on after an answer came: a call, a game, QUIC. Idle after 180 s

Only what the guest sends keeps an association (REQ-6), so nobody outside can. REQ-5 wants two minutes for all
but well-known ports; 30 s for what was never a conversation is Linux's own rule (nf_conntrack_udp_timeout),
and lets a program that asks a thousand names hold a thousand sockets for no longer than it must.

At the bound whoever has asked once gives way before whoever lasts, and the idlest first; but those that last
may not have more than half, else one program could leave all others a single place to ask from. Nothing is
queued here: what the kernel or the tun has no room for is lost and counted, as datagrams are.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import NamedTuple

from torbox.netstack.flow import FlowKey, Refusal
from torbox.netstack.stack import Stack
from torbox.relay.counters import RelayCounters
from torbox.upstream.interface import Datagrams, Reactor, Timer, Upstream

ASKED_ONCE_S = 30.0
LASTING_S = 180.0  # RFC 4787 REQ-5 wants 120 at least and recommends 300; Linux's conntrack keeps 120
MAX_ASSOCIATIONS = 1024  # each is a socket; a browser has some ten, BitTorrent one
MAX_PEERS = 256  # addresses one may be answered from: those it sent to last, about 200 bytes each
JUDGED_S = 10.0  # for so long a verdict on an address holds: this machine may be given that address

Source = tuple[bytes, int]  # the guest's address and port
Judge = Callable[[bytes, int], Refusal | None]


class _Peer(NamedTuple):
    seen_as: bytes  # the address that the guest knows it by
    judged_at: float


class Association:
    """One of the guest's sockets; a DatagramOwner. `peers` are the addresses it sent to, last ones last."""

    __slots__ = ("_table", "answered", "datagrams", "last_sent", "peers", "source")

    def __init__(self, table: Associations, source: Source, now: float) -> None:
        self._table = table
        self.source = source
        self.datagrams: Datagrams | None = None
        self.peers: OrderedDict[bytes, _Peer] = OrderedDict()
        self.answered = False
        self.last_sent = now

    def arrived(self, address: bytes, port: int, payload: memoryview) -> None:
        peer = self.peers.get(address)
        if peer is None:
            self._table.counters.datagrams_filtered += 1
            return
        self.answered = True
        self._table.to_guest(FlowKey(*self.source, peer.seen_as, port), payload)

    def unreachable(self, address: bytes, port: int, why: Refusal) -> None:
        peer = self.peers.get(address)
        if peer is not None:
            self._table.stack.refuse_datagram(FlowKey(*self.source, peer.seen_as, port), why)

    def too_big(self, address: bytes, port: int, mtu: int) -> None:
        peer = self.peers.get(address)
        if peer is not None:
            self._table.stack.datagram_too_big(FlowKey(*self.source, peer.seen_as, port), mtu)


class Associations:
    """All of a worker's. `loopback`: address the guest knows → the one meant, which is not judged."""

    def __init__(
        self,
        upstream: Upstream,
        judge: Judge,
        loopback: Mapping[bytes, bytes],
        reactor: Reactor,
        stack: Stack,
        counters: RelayCounters,
        limit: int = MAX_ASSOCIATIONS,
    ) -> None:
        self.stack = stack
        self.counters = counters
        self._upstream = upstream
        self._judge = judge
        self._loopback = loopback
        self._reactor = reactor
        self._limit = limit
        self._once: OrderedDict[Source, Association] = OrderedDict()  # both by when they sent last
        self._lasting: OrderedDict[Source, Association] = OrderedDict()
        self._timer: Timer | None = None

    def __len__(self) -> int:
        return len(self._once) + len(self._lasting)

    # -- out ---------------------------------------------------------------------------------------

    def takes(self, address: bytes) -> bool:
        """Whether a gateway's address is one that datagrams are forwarded from."""
        return address in self._loopback

    def send(self, key: FlowKey, payload: memoryview, may_fragment: bool) -> bool:
        """A datagram of the guest's; false if the guest is to be told that nobody takes it."""
        if not self._upstream.takes_datagrams:
            return False
        source = key[:2]
        seen_as = key.remote_address
        address = self._loopback.get(seen_as, seen_as)
        now = self._reactor.now
        association = self._lasting.get(source) or self._once.get(source)
        peer = association.peers.get(address) if association is not None else None
        if peer is None or now - peer.judged_at > JUDGED_S:
            why = None if address is not seen_as else self._judge(seen_as, key.remote_port)
            if why is None:
                if association is None:
                    association = self._open(source)
                    if association is None:
                        return True
                why = self._admit(association, address, seen_as, now)
            if why is not None:
                self.stack.refuse_datagram(key, why)
                return True
        elif not key.remote_port:
            return False
        assert association is not None
        assert association.datagrams is not None
        self._sent(association, now)
        association.peers.move_to_end(address)
        self.counters.datagrams_from_guest += 1
        why = association.datagrams.send(address, key.remote_port, payload, may_fragment)
        if why is not None:
            self.stack.refuse_datagram(key, why)
        return True

    def _open(self, source: Source) -> Association | None:
        """A new one, in the place of another at the bound; None if this machine has no socket for it."""
        if len(self) >= self._limit:
            self.counters.associations_gave_way += 1
            crowded = 2 * len(self._lasting) > self._limit
            self._end(next(iter((self._lasting if crowded or not self._once else self._once).values())))
        now = self._reactor.now
        association = Association(self, source, now)
        family = 4 if len(source[0]) == 4 else 6
        try:
            association.datagrams = self._upstream.open_datagrams(family, association)
        except OSError:
            self.counters.datagrams_lost += 1
            return None
        self.counters.associations += 1
        self._once[source] = association
        self._set_timer(now + ASKED_ONCE_S)
        return association

    @staticmethod
    def _admit(association: Association, address: bytes, seen_as: bytes, now: float) -> Refusal | None:
        assert association.datagrams is not None
        why = association.datagrams.admits(address)
        if why is None:
            association.peers[address] = _Peer(seen_as, now)
            if len(association.peers) > MAX_PEERS:
                association.peers.popitem(last=False)
        else:
            association.peers.pop(address, None)
        return why

    def _sent(self, association: Association, now: float) -> None:
        """The guest sends: its time begins anew, and whoever sends again after an answer lasts."""
        source = association.source
        association.last_sent = now
        if source in self._lasting:
            self._lasting.move_to_end(source)
        elif association.answered:
            del self._once[source]
            self._lasting[source] = association
        else:
            self._once.move_to_end(source)

    # -- in ----------------------------------------------------------------------------------------

    def to_guest(self, key: FlowKey, payload: memoryview) -> None:
        self.counters.datagrams_to_guest += 1
        self.stack.send_datagram(key, payload)

    def refused_by_guest(self, key: FlowKey) -> None:
        """Nobody inside takes what we delivered: the socket is closed, and so is its way out."""
        source = key[:2]
        association = self._lasting.get(source) or self._once.get(source)
        if association is not None:
            self._end(association)

    # -- time --------------------------------------------------------------------------------------

    def _set_timer(self, when: float) -> None:
        if self._timer is None:
            self._timer = self._reactor.call_at(when, self._expire)

    def _expire(self) -> None:
        """End what is idle; come again when the next may be."""
        self._timer = None
        soonest = math.inf
        for table, idle_s in ((self._once, ASKED_ONCE_S), (self._lasting, LASTING_S)):
            for association in list(table.values()):
                until = association.last_sent + idle_s
                if until > self._reactor.now:
                    soonest = min(soonest, until)
                    break
                self._end(association)
        if soonest < math.inf:
            self._set_timer(soonest)

    def _end(self, association: Association) -> None:
        (self._lasting if association.source in self._lasting else self._once).pop(association.source)
        self.counters.associations -= 1
        datagrams, association.datagrams = association.datagrams, None
        if datagrams is not None:
            datagrams.close()

    def close(self) -> None:
        for association in [*self._once.values(), *self._lasting.values()]:
            self._end(association)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
