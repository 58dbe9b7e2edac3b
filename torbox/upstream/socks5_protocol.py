# SPDX-License-Identifier: GPL-3.0-or-later
"""The client's side of SOCKS 5, sans-IO: bytes in, bytes out, no socket and no clock.

    client                                       server
    05 n methods                        ──►
                                        ◄──      05 method                      RFC 1928 §3
    01 len user len password            ──►
                                        ◄──      01 status                      RFC 1929 §2
    05 command 00 type address port     ──►
                                        ◄──      05 reply 00 type address port  RFC 1928 §6
    then the bytes of the stream, both ways

With credentials only method 02 (user name and password) is offered, without them only method 00.
A server that picks anything else breaks the protocol and gets nothing more from us: to Tor, the user
name is what keeps one sandbox's circuits apart from another's, and a server that skipped it would
void that silently.

Tor adds the commands RESOLVE and RESOLVE_PTR (its socks-extensions.txt) and the replies F0 to F7
(proposal 304). Names are raw bytes behind a length byte, so no byte in them can end them early.

Nothing is sent ahead of its turn: given greeting and password in one piece, Tor 0.4.9 answers only the
second, and a server that reads once for each message loses it.

A server may send anything: the only outcomes are a Reply or a Socks5Error.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from torbox.netstack.flow import Refusal

VERSION = 5
AUTH_VERSION = 1  # RFC 1929 §2
NO_AUTHENTICATION = 0x00
USERNAME_PASSWORD = 0x02
NO_ACCEPTABLE_METHOD = 0xFF

CONNECT = 0x01
TOR_RESOLVE = 0xF0
TOR_RESOLVE_PTR = 0xF1

IPV4 = 0x01
NAME = 0x03
IPV6 = 0x04

SUCCEEDED = 0x00
COMMAND_NOT_SUPPORTED = 0x07

MAX_FIELD = 255  # bytes of a name, user name or password: their lengths are one byte
MAX_REPLY = 4 + 1 + MAX_FIELD + 2  # bytes, the longest reply: one with a name

# What the guest is to see for each reply. Linux makes EHOSTUNREACH of an ICMP time exceeded, hence 06.
REFUSALS = {
    # General failure. A Tor exit whose connect() is refused says "misc" in most cases, since errno is
    # stale by the time it looks (connection_edge_end_errno of 0.4.9), and after three exits this is all
    # that is left of it; of what could not be connected to, programs expect to hear that it refused.
    0x01: Refusal.REFUSED,
    0x02: Refusal.PROHIBITED,  # by its rules; Tor: by the exit's policy
    0x03: Refusal.NET_UNREACHABLE,
    0x04: Refusal.HOST_UNREACHABLE,
    0x05: Refusal.REFUSED,
    0x06: Refusal.HOST_UNREACHABLE,  # TTL expired; Tor: the exit got no answer
    0x07: Refusal.PROHIBITED,  # command not supported
    0x08: Refusal.NET_UNREACHABLE,  # address type not supported
    0xF0: Refusal.HOST_UNREACHABLE,  # onion service descriptor cannot be found
    0xF1: Refusal.HOST_UNREACHABLE,  # onion service descriptor is invalid
    0xF2: Refusal.HOST_UNREACHABLE,  # onion service introduction failed
    0xF3: Refusal.HOST_UNREACHABLE,  # onion service rendezvous failed
    0xF4: Refusal.PROHIBITED,  # onion service wants client authorization
    0xF5: Refusal.PROHIBITED,  # onion service refuses the client authorization
    0xF6: Refusal.HOST_UNREACHABLE,  # not an onion service's address
    0xF7: Refusal.TIMED_OUT,  # onion service introduction timed out
}


class Socks5Error(Exception):
    """The server does not speak as it must. The message is fixed text, without anything it sent."""


class Socks5Denied(Socks5Error):
    """The server does not take us as a client without a user name and password, or with this one."""


class Reply(NamedTuple):
    """The server's answer: `code` 0 is success; then address or name, and port, are what it gave."""

    code: int
    address: bytes = b""  # packed, 4 or 16 bytes
    name: bytes = b""
    port: int = 0

    @property
    def refusal(self) -> Refusal | None:
        """What the guest is to see; None for success."""
        if self.code == SUCCEEDED:
            return None
        return REFUSALS.get(self.code, Refusal.HOST_UNREACHABLE)


def request(command: int, address: bytes, name: bytes, port: int) -> bytes:
    """RFC 1928 §4. `address` packed, or else `name`. ValueError for what the format cannot hold."""
    if address and name:
        raise ValueError("an address or a name, not both")
    if len(address) == 4:
        kind = IPV4
        where = address
    elif len(address) == 16:
        kind = IPV6
        where = address
    elif not address and 0 < len(name) <= MAX_FIELD:
        kind = NAME
        where = bytes((len(name),)) + name
    else:
        raise ValueError("a SOCKS request holds an address of 4 or 16 bytes or a name of 1 to 255")
    return bytes((VERSION, command, 0, kind)) + where + port.to_bytes(2, "big")


class _Phase(enum.Enum):
    METHOD = 1
    STATUS = 2
    REPLY = 3
    DONE = 4


class Socks5Client:
    """One conversation, from greeting to reply.

    Send `opening()`, then whatever `receive()` gives, until `reply` is there. What the server sent
    behind its reply is the beginning of the stream and left in `rest`.
    """

    __slots__ = ("_buffer", "_credentials", "_phase", "_request", "reply", "rest")

    def __init__(self, request: bytes, credentials: tuple[bytes, bytes] | None) -> None:
        if credentials is not None and not all(0 < len(part) <= MAX_FIELD for part in credentials):
            raise ValueError("user name and password have 1 to 255 bytes")
        self._request = request
        self._credentials = credentials
        self._phase = _Phase.METHOD
        self._buffer = b""
        self.reply: Reply | None = None
        self.rest = b""

    @property
    def granted(self) -> bool:
        """The server has agreed to serve us, and the request was given to be sent."""
        return self._phase is _Phase.REPLY or self._phase is _Phase.DONE

    @property
    def wants_nothing(self) -> bool:
        """The request is empty: the conversation was about being granted alone."""
        return not self._request

    def opening(self) -> bytes:
        if self._credentials is None:
            return bytes((VERSION, 1, NO_AUTHENTICATION))
        return bytes((VERSION, 1, USERNAME_PASSWORD))

    def receive(self, data: bytes) -> bytes:
        """Take in what the server sent; the bytes to send next. Socks5Error ends the conversation."""
        self._buffer += data
        to_send = b""
        if self._phase is _Phase.METHOD and len(self._buffer) >= 2:
            to_send += self._method()
        if self._phase is _Phase.STATUS and len(self._buffer) >= 2:
            to_send += self._status()
        if self._phase is _Phase.REPLY:
            self._read_reply()
        elif self._phase is _Phase.DONE:
            self.rest += self._buffer
            self._buffer = b""
        return to_send

    def _method(self) -> bytes:
        version, method = self._buffer[0], self._buffer[1]
        self._buffer = self._buffer[2:]
        if version != VERSION:
            raise Socks5Error("the server does not speak SOCKS 5")
        if method == NO_ACCEPTABLE_METHOD:
            if self._credentials is None:
                raise Socks5Denied("the server wants a user name and password")
            raise Socks5Error("the server does not take a user name and password")
        if method != (NO_AUTHENTICATION if self._credentials is None else USERNAME_PASSWORD):
            raise Socks5Error("the server chose a method that was not offered")
        if self._credentials is None:
            self._phase = _Phase.REPLY
            return self._request
        self._phase = _Phase.STATUS
        user, password = self._credentials
        return bytes((AUTH_VERSION, len(user))) + user + bytes((len(password),)) + password

    def _status(self) -> bytes:
        version, status = self._buffer[0], self._buffer[1]
        self._buffer = self._buffer[2:]
        if version != AUTH_VERSION:
            raise Socks5Error("the server's answer to the password is malformed")
        if status != SUCCEEDED:
            raise Socks5Denied("the server refuses the user name and password")
        self._phase = _Phase.REPLY
        return self._request

    def _read_reply(self) -> None:
        data = self._buffer
        if data and data[0] != VERSION:
            raise Socks5Error("the server's reply is malformed")
        if len(data) < 2:
            return
        if data[1] != SUCCEEDED:  # some servers stop here, so nothing more is waited for
            self._finish(Reply(data[1]), len(data))
            return
        if len(data) < 5:
            return
        kind = data[3]
        if kind == IPV4:
            start, size = 4, 4
        elif kind == IPV6:
            start, size = 4, 16
        elif kind == NAME:
            start, size = 5, data[4]
        else:
            raise Socks5Error("the server's reply has an unknown type of address")
        end = start + size + 2
        if len(data) < end:
            return
        where = data[start : start + size]
        port = int.from_bytes(data[end - 2 : end], "big")
        reply = (
            Reply(SUCCEEDED, name=where, port=port) if kind == NAME else Reply(SUCCEEDED, where, b"", port)
        )
        self._finish(reply, end)

    def _finish(self, reply: Reply, end: int) -> None:
        self.reply = reply
        self._phase = _Phase.DONE
        self.rest = self._buffer[end:]
        self._buffer = b""
