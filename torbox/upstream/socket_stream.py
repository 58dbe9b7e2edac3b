# SPDX-License-Identifier: GPL-3.0-or-later
"""A non-blocking stream socket between the two rings of a guest's connection.

    CONNECTING ── _advance() says so ──► OPEN ── both directions finished ──► GONE
        └── refused, or the deadline ──────────────── lost, or abort() ─────────▲

The epoll registration is edge-triggered, so `_readable` and `_writable` remember the edges; each is
cleared only by the kernel's EAGAIN or by a transfer that was short, which epoll(7) says is as good (but for
the end and for urgent data, which make a read short before all was read).
While CONNECTING, edges go to `_advance`, which a scheme with a handshake overrides. While OPEN they
mark the owner and nothing moves before `pump`, once a turn.

Data goes by recv_into straight into the room of the `tx` ring and by send straight from the `rx` ring.

A socket whose far end takes nothing more (EPIPE) is still read to its end, since a server may answer
and close before it has read the whole request; only then the owner hears `broken`.

A far end that has finished may still listen, or be gone altogether. A Unix socket says which; of TCP,
keepalive finds it out. If it is gone and the guest has all, the guest gets FIN_WAIT_S to finish as well.
"""

from __future__ import annotations

import enum
import errno
import fcntl
import os
import select
import socket
import sys
import termios
from collections.abc import Callable

from torbox.netstack.flow import Refusal
from torbox.netstack.ring import Ring
from torbox.upstream.interface import Reactor, StreamOwner, Timer

FAIR_SHARE = 1 << 19  # bytes each way a turn; eight super-packets, some 200 µs of work
READ_SIZE = (
    1 << 16
)  # bytes of a first read; twice the last from there on, so that a ring grows only as it fills
SHORT_READ = 1 << 14  # bytes; a read below it was a request or an answer rather than bulk
FIN_WAIT_S = 60  # seconds, tcp(7) tcp_fin_timeout: how long a kernel keeps an end nobody holds any more
UNIX_RETRY_S = 0.01  # connect(2) gives EAGAIN while a Unix listener's backlog is full, and no edge
STARVED_RETRY_S = 0.02
_SCRATCH = memoryview(bytearray(READ_SIZE))  # holds nothing from one call to the next
RESET = b"\x01\0\0\0\0\0\0\0"  # struct linger {on, 0 s}: close(2) sends a reset

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


class _Phase(enum.Enum):
    CONNECTING = 1
    OPEN = 2
    GONE = 3


class SocketStream:
    """Connects to `address` in `family` and then carries bytes; see Stream in interface.py.

    `forget` is called once, when the socket has been let go: the upstream's book-keeping.
    """

    __slots__ = (
        "_address",
        "_far_confirmed",
        "_far_finished",
        "_finish_wanted",
        "_first",
        "_forget",
        "_gone",
        "_guest_finished",
        "_hung_up",
        "_is_tcp",
        "_last_read",
        "_owner",
        "_phase",
        "_reactor",
        "_readable",
        "_reset",
        "_rx",
        "_send_failed",
        "_socket",
        "_starved",
        "_timer",
        "_tx",
        "_unacknowledged",
        "_writable",
    )

    def __init__(
        self,
        reactor: Reactor,
        family: int,
        address: Address,
        rx: Ring,
        tx: Ring,
        owner: StreamOwner,
        deadline_s: float,
        forget: Callable[[SocketStream], None],
    ) -> None:
        self._reactor = reactor
        self._address = address
        self._rx = rx
        self._tx = tx
        self._owner = owner
        self._forget = forget
        self._phase = _Phase.CONNECTING
        self._first = b""  # came behind the handshake, and waits for room
        self._readable = self._writable = False
        self._last_read = 0  # bytes
        self._unacknowledged = False  # something was read, and nothing sent since that would say so
        self._finish_wanted = self._guest_finished = self._far_finished = self._send_failed = False
        self._gone = self._hung_up = self._starved = self._reset = self._far_confirmed = False
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

    # -- connecting ------------------------------------------------------------------------------

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
        if self._phase is _Phase.CONNECTING:
            self._let_go()
            self._owner.refused(why)

    def _ready(self, events: int) -> None:
        if events == select.EPOLLOUT and self._writable and self._phase is _Phase.OPEN:
            return  # that of the registration: it was known before it came
        if events & _READ_EVENTS:
            self._readable = True
            if events & _SHORT_EVENTS:
                self._hung_up = True  # read until there is nothing
                if events & select.EPOLLHUP:  # both ways
                    self._gone = True
                    self._wait_for_guest()
        if events & _WRITE_EVENTS:
            self._writable = True
        if self._phase is _Phase.OPEN:
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
        self._phase = _Phase.OPEN
        self._writable = True
        self._first = first[self._tx.write(first) :]
        self._owner.connected()
        if first or self._readable or self._finish_wanted:
            self._owner.moved()

    # -- open ------------------------------------------------------------------------------------

    def pump(self) -> bool:
        """See Stream. May call the owner's `eof` or `broken`, and what there is to hear of connecting."""
        sock = self._socket
        if sock is None:
            return False
        if self._phase is not _Phase.OPEN:
            if self._phase is _Phase.CONNECTING and self._writable:
                self._proceed(sock, 0)
            return False
        again = False
        try:
            if self._writable and not self._send_failed and len(self._rx):
                again = self._send(sock)
            if (self._readable or self._first) and not self._far_finished:
                again = self._receive(sock) or again
        except OSError:
            self._lose()
            return False
        if self._send_failed and self._far_confirmed:
            self._lose()
            return False
        if self._finish_wanted and not self._guest_finished and not len(self._rx):
            self.shutdown()
        return again

    def _send(self, sock: socket.socket) -> bool:
        rx = self._rx
        budget = FAIR_SHARE
        try:
            while budget > 0:
                views = rx.peek(0, budget)
                if not views:
                    return False
                if len(views) == 1:
                    wanted = len(views[0])
                    sent = sock.send(views[0])
                else:
                    wanted = sum(map(len, views))
                    sent = sock.sendmsg(views)
                rx.consume(sent)
                self._unacknowledged = False
                if sent < wanted:
                    self._writable = False
                    return False
                if not len(rx):
                    return False
                budget -= sent
            return True
        except BlockingIOError:
            self._writable = False
        except BrokenPipeError:
            self._send_failed = True
            self._readable = True
        except ConnectionResetError:  # told once: a read would now find what looks like an orderly end
            self._send_failed = self._reset = True
            self._readable = True
        return False

    def _receive(self, sock: socket.socket) -> bool:
        tx = self._tx
        tx.more = False
        if self._first:  # all rings together had no room for it
            self._first = self._first[tx.write(self._first) :]
            if self._first:
                self._wait_for_memory()
                return False
        budget = FAIR_SHARE
        while budget > 0:
            room = min(tx.free, max(2 * self._last_read, READ_SIZE), budget)
            if room <= 0:
                if not len(tx):
                    self._wait_for_memory()
                return False
            try:
                got = self._read(sock, room)
            except BlockingIOError:
                self._readable = False
                return False
            if not got:
                self._finish_far()
                return False
            if got < room and not self._hung_up:
                if got < SHORT_READ:
                    self.acknowledge_soon()
                self._readable = False
                return False
            budget -= got
        tx.more = True
        return True

    def _read(self, sock: socket.socket, room: int) -> int:
        """Read up to `room` bytes into `tx`, which has as much; 0 at the end. BlockingIOError.

        Bulk goes straight into the ring, and much of it at once: the kernel lets the far end go on once for
        each read, which costs more than the call. What may be a short answer is read elsewhere first, so that
        the ring takes no more storage than it needs while ten thousand of them wait to be acknowledged.
        """
        tx = self._tx
        if self._last_read < SHORT_READ:
            got = sock.recv_into(_SCRATCH, min(room, READ_SIZE))
            tx.write(_SCRATCH[:got])
        else:
            views = tx.writable(room)
            got = 0
            try:
                got = sock.recv_into(views[0]) if len(views) == 1 else sock.recvmsg_into(views)[0]
            finally:
                del views
                tx.commit(got)  # also of nothing: the ring gives its storage back
        if got < room or got > self._last_read:  # a small one that was all there was room for says nothing
            self._last_read = got
        return got

    def _wait_for_memory(self) -> None:
        """All rings together hold what they may, this one nothing: no acknowledgement will call for us."""
        if not self._starved:
            self._starved = True
            self._reactor.call_at(self._reactor.now + STARVED_RETRY_S, self._no_longer_starved)

    def _no_longer_starved(self) -> None:
        self._starved = False
        if self._phase is _Phase.OPEN:
            self._owner.moved()

    def acknowledge_soon(self) -> None:
        """Have the kernel acknowledge what was read, unless the guest's next request does so first.

        The far end may hold its next bytes until then (Nagle), and the kernel leaves quick-ACK mode by
        itself: without this a small request can cost 44 ms. It costs 6 µs, a packet of its own.
        """
        if self._is_tcp and not self._unacknowledged:
            self._unacknowledged = True
            self._reactor.call_idle(self._acknowledge)

    def _acknowledge(self) -> None:
        if self._unacknowledged and self._socket is not None:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self._unacknowledged = False

    def _finish_far(self) -> None:
        self._far_finished = True
        self._readable = False
        if self._reset:
            self._lose()
        else:
            self._confirm_end()

    def _confirm_end(self) -> None:
        """The socket says that the far end has finished. A scheme that can doubt it overrides this."""
        self._end(True)

    def _end(self, orderly: bool) -> None:
        """The far end has finished indeed, or else was lost; may be called in a later turn."""
        if self._phase is not _Phase.OPEN:
            return
        if not orderly:
            self._lose()
            return
        self._far_confirmed = True
        self._owner.eof()
        if self._guest_finished:
            self._let_go()
        elif self._gone:
            self._wait_for_guest()
        elif self._is_tcp and self._socket is not None:
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
                self._socket.setsockopt(socket.IPPROTO_TCP, option, FIN_WAIT_S)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def _wait_for_guest(self) -> None:
        """The far end is gone: once the guest has all that came, nobody is left who could end it."""
        if self._phase is _Phase.OPEN and self._far_confirmed and self._timer is None:
            self._timer = self._reactor.call_at(self._reactor.now + FIN_WAIT_S, self._waited_for_guest)

    def _waited_for_guest(self) -> None:
        self._timer = None
        if len(self._tx):
            self._wait_for_guest()
        else:
            self._lose()

    def _shut(self) -> None:
        self._guest_finished = True
        if self._far_confirmed:
            self._let_go()
        elif self._socket is not None:
            self._socket.shutdown(socket.SHUT_WR)

    def _lose(self) -> None:
        self._let_go()
        self._owner.broken()

    def shutdown(self) -> None:
        self._finish_wanted = True
        if self._phase is _Phase.OPEN and not self._guest_finished and not len(self._rx):
            try:
                self._shut()
            except OSError:  # the far end is gone already; the next read will say how
                self._readable = True
                self._owner.moved()

    def unsent(self) -> int:
        """See Stream. A kernel makes a socket writable again only when much of a megabyte has been taken."""
        if self._socket is None:
            return 0
        return int.from_bytes(fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)), sys.byteorder)

    # -- the end ---------------------------------------------------------------------------------

    def abort(self) -> None:
        sock = self._socket
        if sock is not None and self._phase is _Phase.OPEN and self._is_tcp and not self._guest_finished:
            # The guest's reset is passed on as one, not as an orderly end of its data; but where they have
            # ended orderly already, what the kernel still holds of them is not taken back.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._let_go()

    def _let_go(self) -> None:
        if self._phase is _Phase.GONE:
            return
        self._phase = _Phase.GONE
        self._tx.more = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        sock, self._socket = self._socket, None
        if sock is not None:
            self._reactor.unregister(sock.fileno())
            sock.close()
        self._forget(self)


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
