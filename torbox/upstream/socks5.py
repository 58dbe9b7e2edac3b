# SPDX-License-Identifier: GPL-3.0-or-later
"""socks5://[user:pass@]host:port: any SOCKS 5 proxy. Also what tor.py is made of.

One socket per stream. The time for connect, handshake and the proxy's own connect is one budget, so
that a proxy that dribbles bytes gains nothing by it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from torbox.netstack.flow import Refusal
from torbox.netstack.ring import Ring
from torbox.upstream import blocking
from torbox.upstream.connecting_socket import Address
from torbox.upstream.interface import NoDatagrams, Reactor, Resolution, Stream, StreamOwner, Target
from torbox.upstream.socket_stream import SocketStream
from torbox.upstream.socks5_protocol import CONNECT, MAX_REPLY, Reply, Socks5Client, Socks5Error, request
from torbox.upstream.url import UpstreamUrl, UrlShape
from torbox.upstream.vital_sign import VitalSign

URL = UrlShape("socks5://127.0.0.1:1080", place_needed=True, credentials=True, default_port=1080)

# Tor gives a stream 120 s by itself (SocksTimeout), and Linux's connect() gives up after 127 s, with
# its last SYN at 63 s: what ends between the two is, to the program, one time-out and no second try.
CONNECT_DEADLINE_S = 120.0
GREETING_DEADLINE_S = 10.0  # a proxy that lives may be busy, but not for so long

Confirm = Callable[[Callable[[bool], None]], None]


class Socks5Stream(SocketStream):
    """A stream through the proxy. `reply` is the proxy's answer, once there is one."""

    __slots__ = ("_client", "_confirm", "_to_send")

    def __init__(
        self,
        client: Socks5Client,
        confirm: Confirm | None,
        reactor: Reactor,
        place: tuple[int, Address],
        rx: Ring,
        tx: Ring,
        owner: StreamOwner,
        deadline_s: float,
        forget: Callable[[SocketStream], None],
    ) -> None:
        """`confirm`, if given, finds out whether the proxy lives and was right to end a stream."""
        self._client = client
        self._confirm = confirm
        self._to_send = client.opening()
        super().__init__(reactor, place[0], place[1], rx, tx, owner, deadline_s, forget)

    @property
    def reply(self) -> Reply | None:
        return self._client.reply

    def _begin(self, sock: socket.socket) -> None:
        # On loopback the connection is there when connect(2) has returned, in all but name.
        self._flush(sock)

    def _flush(self, sock: socket.socket) -> None:
        if self._to_send:
            try:
                sent = sock.send(self._to_send)
            except BlockingIOError:
                return
            self._to_send = self._to_send[sent:]

    def _advance(self, sock: socket.socket) -> None:
        client = self._client
        self._flush(sock)
        while client.reply is None:
            if not self._readable:
                return
            try:
                data = sock.recv(MAX_REPLY)
            except BlockingIOError:
                self._readable = False
                return
            self._readable = len(data) == MAX_REPLY or self._hung_up
            if not data:
                self._refuse(Refusal.NET_UNREACHABLE)
                return
            try:
                self._to_send += client.receive(data)
                if client.granted and client.wants_nothing:
                    self._open()
                    return
            except Socks5Error:
                self._refuse(Refusal.NET_UNREACHABLE)
                return
            self._flush(sock)
        why = client.reply.refusal
        if why is not None:
            self._refuse(why)
            return
        self.acknowledge_soon()
        self._open(client.rest)

    def _confirm_end(self) -> None:
        if self._confirm is None:
            self._end(True)
        else:
            self._confirm(self._end)


class Socks5Upstream(NoDatagrams):
    """Every stream through one proxy, with one user name and password, or none."""

    takes_names = True
    takes_onions = False
    takes_ipv6 = True
    needs_routing = False

    def __init__(
        self,
        reactor: Reactor,
        url: UpstreamUrl,
        credentials: tuple[bytes, bytes] | None,
        *,
        deadline_s: float = CONNECT_DEADLINE_S,
        confirm_ends: bool = False,
    ) -> None:
        """`url` has an address for its host, not a name: see registry.with_address. ValueError.

        `confirm_ends` asks after the proxy's life whenever it ends a stream: see vital_sign.
        """
        self._reactor = reactor
        self._place = blocking.place_of(url)
        self._credentials = credentials
        self._deadline_s = deadline_s
        self._streams: set[SocketStream] = set()
        self._nowhere = Ring(1, 1)  # of conversations that carry no stream
        self._confirm = VitalSign(self._greet).ask if confirm_ends else None

    def __len__(self) -> int:
        """How many sockets are open or being opened."""
        return len(self._streams)

    def open_stream(self, target: Target, rx: Ring, tx: Ring, owner: StreamOwner) -> Stream:
        """See Upstream. ValueError for a target that SOCKS cannot express."""
        wanted = request(CONNECT, target.address, target.name, target.port)
        return self._open(wanted, rx, tx, owner, self._deadline_s, self._confirm)

    def _open(
        self,
        wanted: bytes,
        rx: Ring,
        tx: Ring,
        owner: StreamOwner,
        deadline_s: float,
        confirm: Confirm | None,
    ) -> Socks5Stream:
        client = Socks5Client(wanted, self._credentials)
        stream = Socks5Stream(
            client, confirm, self._reactor, self._place, rx, tx, owner, deadline_s, self._streams.discard
        )
        self._streams.add(stream)
        return stream

    def ask(self, wanted: bytes, owner: StreamOwner, deadline_s: float) -> Socks5Stream:
        """A conversation that ends with its reply, or, if nothing is wanted, when it is granted.

        The owner aborts the stream once it is connected.
        """
        return self._open(wanted, self._nowhere, self._nowhere, owner, deadline_s, None)

    def _greet(self, owner: VitalSign) -> Socks5Stream:
        return self.ask(b"", owner, GREETING_DEADLINE_S)

    def resolve(self, name: bytes, kind: str, done: Callable[[Resolution], None]) -> None:
        """SOCKS 5 has no question for that: nobody can say."""
        self._reactor.call_at(self._reactor.now, lambda: done(Resolution(failed=True)))

    def close(self) -> None:
        for stream in list(self._streams):
            stream.abort()


def open_upstream(url: UpstreamUrl, reactor: Reactor, isolation: bytes) -> Socks5Upstream:
    return Socks5Upstream(reactor, url, url.credentials)


def probe(url: UpstreamUrl, timeout_s: float) -> None:
    """The proxy must take us as a client; nothing is asked of it. UpstreamError."""
    blocking.converse(url, Socks5Client(b"", url.credentials), timeout_s)
