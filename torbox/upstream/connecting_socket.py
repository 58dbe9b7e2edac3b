# SPDX-License-Identifier: GPL-3.0-or-later
"""A non-blocking stream socket on its way to a far end, and its end; what it carries is socket_stream.py's.

    CONNECTING ── _advance() says so ──► OPEN ── let go ──► GONE
        └── refused, or the deadline ──────────────────────▲

The epoll registration is edge-triggered, so `_readable` and `_writable` remember the edges. While
CONNECTING, they go to `_advance`, which a scheme with a handshake overrides; while OPEN, to the owner.
"""

from __future__ import annotations

import enum
import errno
import os
import select
import socket

from torbox.netstack.flow import Refusal
from torbox.upstream.interface import Reactor, StreamOwner, Timer

UNIX_RETRY_S = 0.01  # connect(2) gives EAGAIN while a Unix listener's backlog is full, and no edge

_READ_EVENTS = select.EPOLLIN | select.EPOLLPRI | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
# After these a short read does not say that there is no more: the end of file has no edge of its own, and
# a read stops before urgent data (which is ordinary data here, RFC 6093).
_SHORT_EVENTS = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR | select.EPOLLPRI
_WRITE_EVENTS = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR

# What a failed connect(2) or socket(2) means to the guest. Anything else: the network is not there.
_REFUSALS = {
    errno.ETIMEDOUT: Refusal.TIMED_OUT,
    errno.EHOSTUNREACH: Refusal.HOST_UNREACHABLE,
}

Address = tuple[str, int] | str


class Phase(enum.Enum):
    CONNECTING = 1
    OPEN = 2
    GONE = 3


class ConnectingSocket:
    """Connects to `address` in `family`; the owner hears `refused`, or `_opened` is called."""

    __slots__ = (
        "_address",
        "_gone",
        "_hung_up",
        "_is_tcp",
        "_owner",
        "_phase",
        "_reactor",
        "_readable",
        "_socket",
        "_timer",
        "_writable",
    )

    def __init__(
        self, reactor: Reactor, family: int, address: Address, owner: StreamOwner, deadline_s: float
    ) -> None:
        self._reactor = reactor
        self._address = address
        self._owner = owner
        self._phase = Phase.CONNECTING
        self._readable = self._writable = False
        self._gone = self._hung_up = False
        self._is_tcp = family != socket.AF_UNIX
        self._socket: socket.socket | None = None
        self._timer: Timer | None = None
        try:
            self._socket = open_socket(family)
        except OSError as error:  # out of descriptors or memory: EMFILE, ENFILE, ENOBUFS, ENOMEM
            self._refuse_later(error.errno)
            return
        self._timer = reactor.call_at(reactor.now + deadline_s, self._too_late)
        self._connect()

    def _connect(self) -> None:
        """Begin, or for a Unix socket begin again. The owner hears of a failure in a later turn."""
        sock = self._socket
        if sock is None:
            return
        result = sock.connect_ex(self._address)
        if result == errno.EAGAIN and not self._is_tcp:
            self._reactor.call_at(self._reactor.now + UNIX_RETRY_S, self._connect)
            return
        if result not in (0, errno.EINPROGRESS):
            self._refuse_later(result)
            return
        try:
            # After connect(2): before it, a socket counts as hung up and would say so.
            self._reactor.register(sock.fileno(), self._ready)
            self._begin(sock)
        except OSError as error:
            self._reactor.unregister(sock.fileno())  # it has said why, and now would only say that it is over
            self._refuse_later(error.errno)

    def _begin(self, sock: socket.socket) -> None:
        """Called right behind connect(2): what can be sent without waiting. May raise OSError."""

    def _refuse_later(self, number: int | None) -> None:
        why = self._why(number)
        self._reactor.call_at(self._reactor.now, lambda: self._refuse(why))

    def _why(self, number: int | None) -> Refusal:
        """What the guest sees of an errno. One that reaches the far end itself overrides this."""
        return refusal_of(number)

    def _too_late(self) -> None:
        self._timer = None
        self._refuse(Refusal.TIMED_OUT)

    def _refuse(self, why: Refusal) -> None:
        if self._phase is Phase.CONNECTING:
            self._let_go()
            self._owner.refused(why)

    def _ready(self, events: int) -> None:
        if events == select.EPOLLOUT and self._writable and self._phase is Phase.OPEN:
            return  # that of the registration: it was known before it came
        if events & _READ_EVENTS:
            self._readable = True
            if events & _SHORT_EVENTS:
                self._hung_up = True  # read until there is nothing
                if events & select.EPOLLHUP:  # both ways
                    self._gone = True
                    self._far_end_is_gone()
        if events & _WRITE_EVENTS:
            self._writable = True
        if self._phase is Phase.OPEN:
            self._owner.moved()
            return
        sock = self._socket
        if sock is not None:
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if events & select.EPOLLERR else 0
            self._proceed(sock, number)

    def _proceed(self, sock: socket.socket, number: int) -> None:
        """Go on connecting; `number` is the errno that the socket told, if any."""
        try:
            if number:
                raise OSError(number, os.strerror(number))
            self._advance(sock)
        except OSError as error:
            self._refuse(self._why(error.errno))

    def _advance(self, sock: socket.socket) -> None:
        """The socket became ready before the stream is open. Without a handshake, it now is."""
        if self._writable:
            self._open()

    def _open(self, first: bytes = b"") -> None:
        """The far end is connected; `first` came behind the handshake."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._phase = Phase.OPEN
        self._writable = True
        self._opened(first)

    def _opened(self, first: bytes) -> None:
        """Called once it is open."""
        raise NotImplementedError

    def _far_end_is_gone(self) -> None:
        """Called when the socket says so of both directions, be it open or not."""

    def _let_go(self) -> None:
        """Close the socket, if it is there still, and hear no more of it."""
        self._phase = Phase.GONE
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        sock, self._socket = self._socket, None
        if sock is not None:
            self._reactor.unregister(sock.fileno())
            sock.close()


def refusal_of(number: int | None) -> Refusal:
    """What the guest sees when the proxy itself cannot be reached: its network is down."""
    return _REFUSALS.get(number or 0, Refusal.NET_UNREACHABLE)


def open_socket(family: int) -> socket.socket:
    """A non-blocking stream socket that does not wait to fill segments. OSError."""
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    if family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    return sock
