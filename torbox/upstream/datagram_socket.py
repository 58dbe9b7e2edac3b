# SPDX-License-Identifier: GPL-3.0-or-later
"""A UDP socket of this machine's for one of the guest's: what an upstream without a proxy sends datagrams by.

It is not connected, so one socket reaches every far end from one port (RFC 4787 REQ-1), and what comes from
anybody is handed on; who may answer is its owner's to say. Nothing is queued here but in the kernel:
what its buffers have no room for is lost, as datagrams are.

    send        one system call; a failure is returned, or heard of later by the error queue
    arrived     BATCH at a time, then the others' turn comes
    errors      IP_RECVERR: whose datagram an ICMP error was about, and the MTU when it was too big (ip(7))

Datagrams go out with the don't-fragment bit, as the guest's own kernel sends them, so that a guest which
measures its path does so in fact. One that the guest let be fragmented goes without.
"""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Callable
from struct import Struct

from torbox.netstack.flow import Refusal
from torbox.upstream.interface import DatagramOwner, Reactor

BATCH = 32  # datagrams, and as many errors, of one socket at a time; twice as many in a turn
SAFE_SIZE = 1232  # bytes of payload that every link carries whole: IPv6's smallest MTU less its headers
BUFFER_SIZE = 1 << 16  # bytes; no datagram is larger

# linux/in.h, linux/in6.h; the socket module does not name them all
_LEVEL = {socket.AF_INET: socket.IPPROTO_IP, socket.AF_INET6: socket.IPPROTO_IPV6}
_RECVERR = {socket.AF_INET: 11, socket.AF_INET6: 25}
_MTU_DISCOVER = {socket.AF_INET: 10, socket.AF_INET6: 23}
_DONT, _DO = 0, 2  # IP_PMTUDISC_*
_EXTENDED_ERROR = Struct("=IBBBBII")  # struct sock_extended_err: errno, origin, type, code, pad, info, data
_ANCILLARY_SIZE = 512  # bytes; one error with the address of who sent it is 64
_QUOTE_SIZE = 64  # bytes of the datagram it was about; nobody looks at them

_REFUSALS = {
    errno.ECONNREFUSED: Refusal.REFUSED,
    errno.EHOSTUNREACH: Refusal.HOST_UNREACHABLE,
    errno.EHOSTDOWN: Refusal.HOST_UNREACHABLE,
    errno.ENETUNREACH: Refusal.NET_UNREACHABLE,
    errno.ENETDOWN: Refusal.NET_UNREACHABLE,
    errno.EACCES: Refusal.PROHIBITED,
    errno.EPERM: Refusal.PROHIBITED,
    errno.EINVAL: Refusal.PROHIBITED,
}
_LOST = frozenset((errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM))

_buffer = memoryview(bytearray(BUFFER_SIZE))  # of all sockets: what is in it is used up before the next read

Admits = Callable[[bytes], Refusal | None]


class DatagramSocket:
    """See Datagrams. `admits(address)` asks the upstream; `forget` is called when the socket is let go."""

    __slots__ = ("_admits", "_family", "_forget", "_owner", "_reactor", "_socket", "_waiting")

    def __init__(
        self,
        reactor: Reactor,
        family: int,
        owner: DatagramOwner,
        admits: Admits,
        forget: Callable[[DatagramSocket], None],
    ) -> None:
        """OSError if there can be no such socket."""
        self._reactor = reactor
        self._family = socket.AF_INET if family == 4 else socket.AF_INET6
        self._owner = owner
        self._admits = admits
        self._forget = forget
        self._waiting = False  # for the next turn, with more to read
        sock = socket.socket(
            self._family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.IPPROTO_UDP
        )
        try:
            level = _LEVEL[self._family]
            if self._family == socket.AF_INET6:
                sock.setsockopt(level, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(level, _RECVERR[self._family], 1)
            sock.setsockopt(level, _MTU_DISCOVER[self._family], _DO)
            reactor.register(sock.fileno(), self._ready)
        except OSError:
            sock.close()
            raise
        self._socket: socket.socket | None = sock

    # -- out ---------------------------------------------------------------------------------------

    def admits(self, address: bytes) -> Refusal | None:
        """See Datagrams."""
        return self._admits(address)

    def send(self, address: bytes, port: int, payload: memoryview, may_fragment: bool) -> Refusal | None:
        """See Datagrams."""
        sock = self._socket
        if sock is None:
            return None
        place = (socket.inet_ntop(self._family, address), port)
        if may_fragment and len(payload) > SAFE_SIZE:
            return self._send_in_fragments(sock, payload, place)
        return self._send(sock, payload, place)

    def _send_in_fragments(
        self, sock: socket.socket, payload: memoryview, place: tuple[str, int]
    ) -> Refusal | None:
        level, option = _LEVEL[self._family], _MTU_DISCOVER[self._family]
        sock.setsockopt(level, option, _DONT)
        try:
            return self._send(sock, payload, place)
        finally:
            sock.setsockopt(level, option, _DO)

    def _send(self, sock: socket.socket, payload: memoryview, place: tuple[str, int]) -> Refusal | None:
        for _ in range(2):
            try:
                sock.sendto(payload, place)
            except OSError as error:
                number = error.errno or 0
            else:
                return None
            if number in _LOST:
                return None
            # It may be what an earlier datagram met with; then it is in the queue, and gone by reading it.
            if not self._read_errors(sock, place[1]) or number == errno.EMSGSIZE:
                break
        return None if number == errno.EMSGSIZE else _REFUSALS.get(number, Refusal.HOST_UNREACHABLE)

    # -- in ----------------------------------------------------------------------------------------

    def _ready(self, events: int) -> None:
        if events & select.EPOLLERR and self._socket is not None:
            self._read_errors(self._socket)
        if events & (select.EPOLLIN | select.EPOLLERR):
            self._receive()

    def _receive(self) -> None:
        """Until there is no more or others should have their turn: an exception a batch, none a datagram."""
        owner, family = self._owner, self._family
        try:
            for _ in range(BATCH):
                sock = self._socket
                if sock is None:  # let go by whoever heard of the last one
                    return
                size, place = sock.recvfrom_into(_buffer)
                owner.arrived(socket.inet_pton(family, place[0]), place[1], _buffer[:size])
        except BlockingIOError:
            return
        except OSError:  # an error that is in the queue as well: the kernel tells that it is there
            if self._socket is not None:
                self._read_errors(self._socket)
        self._call_again()

    def _call_again(self) -> None:
        if not self._waiting and self._socket is not None:
            self._waiting = True
            self._reactor.call_at(self._reactor.now, self._again)

    def _again(self) -> None:
        self._waiting = False
        self._receive()

    def _read_errors(self, sock: socket.socket, port: int = 0) -> bool:
        """Tell the owner of the errors that wait, a batch at most; whether there were any.

        `port` is that of the datagram just sent: the kernel leaves it out when IPv4 itself refused it.
        """
        level, kind = _LEVEL[self._family], _RECVERR[self._family]
        for count in range(BATCH):
            try:
                _, ancillary, _, place = sock.recvmsg(_QUOTE_SIZE, _ANCILLARY_SIZE, socket.MSG_ERRQUEUE)
            except OSError:
                return count > 0
            for its_level, its_kind, data in ancillary:
                if its_level == level and its_kind == kind and len(data) >= _EXTENDED_ERROR.size and place:
                    self._tell(_EXTENDED_ERROR.unpack_from(data), place[0], place[1] or port)
            if self._socket is None:
                return True
        self._call_again()
        return True

    def _tell(self, error: tuple[int, ...], host: str, port: int) -> None:
        number, info = error[0], error[5]
        address = socket.inet_pton(self._family, host)
        if number == errno.EMSGSIZE:
            self._owner.too_big(address, port, info)
        elif number in _REFUSALS:
            self._owner.unreachable(address, port, _REFUSALS[number])

    # -- the end -----------------------------------------------------------------------------------

    def close(self) -> None:
        """See Datagrams."""
        sock, self._socket = self._socket, None
        if sock is not None:
            self._reactor.unregister(sock.fileno())
            sock.close()
            self._forget(self)
