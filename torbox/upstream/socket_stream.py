# SPDX-License-Identifier: GPL-3.0-or-later
"""A non-blocking stream socket between the two rings of a guest's connection; connecting_socket.py opens it.

    OPEN ── both directions finished, lost, or abort() ──► GONE

The edges that epoll told of, `_readable` and `_writable`, are each cleared only by the kernel's EAGAIN or by
a transfer that was short, which epoll(7) says is as good (but for the end and for urgent data, which make a
read short before all was read). They mark the owner, and nothing moves before `pump`, once a turn.

Data goes by recv_into straight into the room of the `tx` ring and by send straight from the `rx` ring.

A socket whose far end takes nothing more (EPIPE) is still read to its end, since a server may answer
and close before it has read the whole request; only then the owner hears `broken`.

A far end that has finished may still listen, or be gone altogether. A Unix socket says which; of TCP,
keepalive finds it out. If it is gone and the guest has all, the guest gets FIN_WAIT_S to finish as well.
"""

from __future__ import annotations

import fcntl
import socket
import sys
import termios
from collections.abc import Callable

from torbox.netstack.ring import Ring
from torbox.upstream.connecting_socket import Address, ConnectingSocket, Phase
from torbox.upstream.interface import Reactor, StreamOwner

FAIR_SHARE = 1 << 19  # bytes each way a turn; eight super-packets, some 200 µs of work
READ_SIZE = (
    1 << 16
)  # bytes of a first read; twice the last from there on, so that a ring grows only as it fills
SHORT_READ = 1 << 14  # bytes; a read below it was a request or an answer rather than bulk
FIN_WAIT_S = 60  # seconds, tcp(7) tcp_fin_timeout: how long a kernel keeps an end nobody holds any more
STARVED_RETRY_S = 0.02
_SCRATCH = memoryview(bytearray(READ_SIZE))  # holds nothing from one call to the next
RESET = b"\x01\0\0\0\0\0\0\0"  # struct linger {on, 0 s}: close(2) sends a reset


class SocketStream(ConnectingSocket):
    """Connects to `address` in `family` and then carries bytes; see Stream in interface.py.

    `forget` is called once, when the socket has been let go: the upstream's book-keeping.
    """

    __slots__ = (
        "_far_confirmed",
        "_far_finished",
        "_finish_wanted",
        "_first",
        "_forget",
        "_guest_finished",
        "_last_read",
        "_reset",
        "_rx",
        "_send_failed",
        "_starved",
        "_tx",
        "_unacknowledged",
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
        self._rx = rx
        self._tx = tx
        self._forget = forget
        self._first = b""  # came behind the handshake, and waits for room
        self._last_read = 0  # bytes
        self._unacknowledged = False  # something was read, and nothing sent since that would say so
        self._finish_wanted = self._guest_finished = self._far_finished = self._send_failed = False
        self._starved = self._reset = self._far_confirmed = False
        super().__init__(reactor, family, address, owner, deadline_s)

    # -- open ------------------------------------------------------------------------------------

    def _opened(self, first: bytes) -> None:
        self._first = first[self._tx.write(first) :]
        self._owner.connected()
        if first or self._readable or self._finish_wanted:
            self._owner.moved()

    def pump(self) -> bool:
        """See Stream. May call the owner's `eof` or `broken`, and what there is to hear of connecting."""
        sock = self._socket
        if sock is None:
            return False
        if self._phase is not Phase.OPEN:
            if self._phase is Phase.CONNECTING and self._writable:
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
        if self._phase is Phase.OPEN:
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
        if self._phase is not Phase.OPEN:
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

    def _far_end_is_gone(self) -> None:
        self._wait_for_guest()

    def _wait_for_guest(self) -> None:
        """The far end is gone: once the guest has all that came, nobody is left who could end it."""
        if self._phase is Phase.OPEN and self._far_confirmed and self._timer is None:
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
        if self._phase is Phase.OPEN and not self._guest_finished and not len(self._rx):
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
        if sock is not None and self._phase is Phase.OPEN and self._is_tcp and not self._guest_finished:
            # The guest's reset is passed on as one, not as an orderly end of its data; but where they have
            # ended orderly already, what the kernel still holds of them is not taken back.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._let_go()

    def _let_go(self) -> None:
        if self._phase is Phase.GONE:
            return
        self._tx.more = False
        super()._let_go()
        self._forget(self)
