# SPDX-License-Identifier: GPL-3.0-or-later
"""direct: connections go out from this machine itself, as those of any program do. It hides nothing.

Locked by default (`needs_routing`): the relay lets nothing out before that is asked for, and then public
addresses alone. What is decided here is the one thing that policy cannot know beforehand: an address of
this machine's own may have come after the start, by DHCP or a VPN, or not be listed as one at all. So
before each connection the kernel is asked where it would take it, and what would end on this machine is
met with silence, as an own address that was known from the start.

127.0.0.1 and ::1 alone are not asked about: policy prohibits them, and only the relay itself asks for them,
for a guest that may reach the host's loopback.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable

from torbox.netstack.dns import LOOPBACK4, LOOPBACK6
from torbox.netstack.flow import Refusal
from torbox.netstack.ring import Ring
from torbox.this_machine import Routes
from torbox.upstream.datagram_socket import DatagramSocket
from torbox.upstream.interface import (
    DatagramOwner,
    Datagrams,
    Reactor,
    Resolution,
    Stream,
    StreamOwner,
    Target,
    Timer,
)
from torbox.upstream.resolver import Resolver
from torbox.upstream.socket_stream import RESET, SocketStream
from torbox.upstream.url import UpstreamUrl, UrlShape

URL = UrlShape("direct", place=False)

# Linux's own connect() gives up after 127 s, with its last SYN at 63 s; what ends between the two is, to
# the guest, one time-out and no second try.
CONNECT_DEADLINE_S = 120.0

_LOOPBACK = frozenset((LOOPBACK4, LOOPBACK6))
# What a failed connect(2), its SO_ERROR or the kernel's routes mean to the guest; anything else: no network.
_REFUSALS = {
    errno.ECONNREFUSED: Refusal.REFUSED,
    errno.ECONNRESET: Refusal.REFUSED,  # a reset that crossed the handshake
    errno.ETIMEDOUT: Refusal.TIMED_OUT,
    errno.EHOSTUNREACH: Refusal.HOST_UNREACHABLE,
    errno.EHOSTDOWN: Refusal.HOST_UNREACHABLE,
    errno.EACCES: Refusal.PROHIBITED,  # a firewall of this machine's, or a route of type prohibit
    errno.EPERM: Refusal.PROHIBITED,
}


class DirectStream(SocketStream):
    """A socket at the far end itself: its errors are the guest's."""

    __slots__ = ()

    def _why(self, number: int | None) -> Refusal:
        return why_refused(number)

    def _begin(self, sock: socket.socket) -> None:
        # On loopback all is decided when connect(2) has returned, in all but name; a second one says what,
        # for a fifteenth of what it costs to be told by the next turn.
        number = sock.connect_ex(self._address)
        self._writable = number == 0
        if number not in (0, errno.EALREADY, errno.EINPROGRESS):
            raise OSError(number, os.strerror(number))

    def _advance(self, sock: socket.socket) -> None:
        """Connected, unless to itself: a closed port of the loopback may be the one our end was given.

        Then the SYN meets its own socket, RFC 9293 §3.5, and the port would be open to the guest and taken
        from this machine's programs for as long as the guest likes. Reset, it leaves no TIME-WAIT there.
        """
        if self._writable and sock.getsockname()[:2] == self._address:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        super()._advance(sock)


def why_refused(number: int | None) -> Refusal:
    """What the guest sees of an errno of the far end's."""
    return _REFUSALS.get(number or 0, Refusal.NET_UNREACHABLE)


class _Refused:
    """A stream that was not to be; says so in a later turn."""

    __slots__ = ("_timer",)

    def __init__(self, reactor: Reactor, owner: StreamOwner, why: Refusal) -> None:
        self._timer: Timer = reactor.call_at(reactor.now, lambda: owner.refused(why))

    def pump(self) -> bool:
        return False

    def shutdown(self) -> None:
        pass

    def unsent(self) -> int:
        return 0

    def abort(self) -> None:
        self._timer.cancel()


class DirectUpstream:
    takes_names = False
    takes_onions = False
    takes_ipv6 = True
    takes_datagrams = True
    needs_routing = True

    def __init__(self, reactor: Reactor, *, deadline_s: float = CONNECT_DEADLINE_S) -> None:
        """OSError if the kernel cannot be asked for its routes, or descriptors are short."""
        self._reactor = reactor
        self._deadline_s = deadline_s
        self._routes = Routes()
        self._resolver = Resolver(reactor)
        self._streams: set[SocketStream] = set()
        self._datagrams: set[DatagramSocket] = set()

    def __len__(self) -> int:
        """How many sockets are open or being opened."""
        return len(self._streams) + len(self._datagrams)

    def refusal_of(self, address: bytes) -> Refusal | None:
        """Why this packed address is not gone to, as the kernel's routes are now; None if it is."""
        if address in _LOOPBACK:
            return None
        try:
            return None if self._routes.leads_away(address) else Refusal.TIMED_OUT
        except OSError as error:
            return why_refused(error.errno)

    def open_stream(self, target: Target, rx: Ring, tx: Ring, owner: StreamOwner) -> Stream:
        """See Upstream. ValueError for a target that is a name."""
        family = {4: socket.AF_INET, 16: socket.AF_INET6}.get(len(target.address))
        if family is None or target.name:
            raise ValueError("a direct connection goes to an address")
        why = self.refusal_of(target.address)
        if why is not None:
            return _Refused(self._reactor, owner, why)
        address = (socket.inet_ntop(family, target.address), target.port)
        stream = DirectStream(
            self._reactor, family, address, rx, tx, owner, self._deadline_s, self._streams.discard
        )
        self._streams.add(stream)
        return stream

    def open_datagrams(self, family: int, owner: DatagramOwner) -> Datagrams:
        """See Upstream."""
        opened = DatagramSocket(self._reactor, family, owner, self.refusal_of, self._datagrams.discard)
        self._datagrams.add(opened)
        return opened

    def resolve(self, name: bytes, kind: str, done: Callable[[Resolution], None]) -> None:
        """See Upstream: this machine's resolver is asked."""
        self._resolver.resolve(name, kind, done)

    def close(self) -> None:
        for stream in list(self._streams):
            stream.abort()
        for datagrams in list(self._datagrams):
            datagrams.close()
        self._resolver.close()
        self._routes.close()


def open_upstream(url: UpstreamUrl, reactor: Reactor, isolation: bytes) -> DirectUpstream:
    return DirectUpstream(reactor)


def probe(url: UpstreamUrl, timeout_s: float) -> None:
    """There is nothing to ask."""
