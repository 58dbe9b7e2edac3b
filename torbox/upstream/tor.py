# SPDX-License-Identifier: GPL-3.0-or-later
"""tor://host:port and tor+unix:PATH: a Tor's SOCKS port.

Each sandbox has a random user name and password of its own; Tor gives streams with different ones
different circuits (IsolateSOCKSAuth, on by default). Only that method is offered, so a server that
would ignore it is not used at all. Names go to Tor as names; it also resolves (RESOLVE, RESOLVE_PTR).
"""

from __future__ import annotations

import os
from collections.abc import Callable

from torbox.errors import UpstreamError
from torbox.netstack.flow import Refusal
from torbox.upstream import blocking
from torbox.upstream.interface import Reactor, Resolution
from torbox.upstream.socks5 import Socks5Stream, Socks5Upstream
from torbox.upstream.socks5_protocol import (
    COMMAND_NOT_SUPPORTED,
    TOR_RESOLVE,
    TOR_RESOLVE_PTR,
    Socks5Client,
    request,
)
from torbox.upstream.url import UpstreamUrl, UrlShape

URL = UrlShape("tor://127.0.0.1:9050 or tor+unix:/run/tor/socks", default_port=9050)

ISOLATION_BYTES = 32  # two random halves of 16 bytes: the user name and the password
RESOLVE_DEADLINE_S = 30.0  # glibc asks twice, 5 s each; a later answer still fills the cache
RESOLVE_TTL_S = 60  # Tor does not pass on the true one
NEGATIVE_TTL_S = 5  # 04 may be no such name or an exit's bad moment, so it is soon asked again
HOST_UNREACHABLE = 0x04  # what Tor replies when a name does not exist
LITERAL = b"192.0.2.1"  # RFC 5737; asked to resolve an address, Tor answers by itself, sending nothing


def new_isolation() -> bytes:
    """The random bytes that make a sandbox's circuits its own."""
    return os.urandom(ISOLATION_BYTES)


def credentials_of(isolation: bytes) -> tuple[bytes, bytes]:
    """User name and password, in hexadecimal: no byte of them means anything to Tor."""
    if len(isolation) < ISOLATION_BYTES:
        raise ValueError(f"the isolation of a sandbox has at least {ISOLATION_BYTES} random bytes")
    half = ISOLATION_BYTES // 2
    return isolation[:half].hex().encode(), isolation[half:ISOLATION_BYTES].hex().encode()


class TorUpstream(Socks5Upstream):
    takes_onions = True

    def resolve(self, name: bytes, kind: str, done: Callable[[Resolution], None]) -> None:
        """Ask an exit. ValueError for a name that cannot be asked for or an unknown kind.

        Tor answers RESOLVE with one address, of the family the exit prefers; if it is not the family
        asked for, there is none.
        """
        if kind == "PTR":
            wanted = request(TOR_RESOLVE_PTR, name, b"", 0)
        elif kind in ("A", "AAAA"):
            wanted = request(TOR_RESOLVE, b"", name, 0)
        else:
            raise ValueError(f"Tor resolves A, AAAA and PTR, not {kind}")
        lookup = _Lookup(kind, done)
        lookup.stream = self.ask(wanted, lookup, RESOLVE_DEADLINE_S)


class _Lookup:
    """The owner of a stream that ends with the reply."""

    __slots__ = ("_done", "_kind", "stream")

    def __init__(self, kind: str, done: Callable[[Resolution], None]) -> None:
        self._kind = kind
        self._done = done
        self.stream: Socks5Stream | None = None

    def connected(self) -> None:
        stream = self.stream
        if stream is None or stream.reply is None:
            self._finish(Resolution(failed=True))
            return
        stream.abort()
        if self._kind == "PTR":
            answer = stream.reply.name.removesuffix(b".")
            self._finish(Resolution((answer,) if answer else (), RESOLVE_TTL_S, failed=not answer))
            return
        answer = stream.reply.address
        if not answer:  # a name, where an address was asked for
            self._finish(Resolution(failed=True))
            return
        wanted = 16 if self._kind == "AAAA" else 4
        self._finish(Resolution((answer,) if len(answer) == wanted else (), RESOLVE_TTL_S))

    def refused(self, why: Refusal) -> None:
        reply = self.stream.reply if self.stream is not None else None
        if reply is not None and reply.code == HOST_UNREACHABLE:
            self._finish(Resolution((), NEGATIVE_TTL_S))
        else:
            self._finish(Resolution((), NEGATIVE_TTL_S, failed=True))

    def moved(self) -> None:
        pass

    def eof(self) -> None:
        pass

    def broken(self) -> None:
        pass

    def _finish(self, resolution: Resolution) -> None:
        self.stream = None
        self._done(resolution)


def open_upstream(url: UpstreamUrl, reactor: Reactor, isolation: bytes) -> TorUpstream:
    return TorUpstream(reactor, url, credentials_of(isolation), confirm_ends=True)


def probe(url: UpstreamUrl, timeout_s: float) -> None:
    """Something must answer there as Tor does. UpstreamError.

    Tor takes any user name and password, and knows RESOLVE; other proxies reject one or the other.
    """
    if not url.has_place:
        raise UpstreamError("upstream tor: it is not known yet where Tor listens")
    wanted = request(TOR_RESOLVE, b"", LITERAL, 0)
    reply = blocking.converse(url, Socks5Client(wanted, credentials_of(new_isolation())), timeout_s)
    if reply is None or reply.code == COMMAND_NOT_SUPPORTED:
        raise UpstreamError(
            f"upstream {url}: a SOCKS proxy answers there, but it is not Tor",
            advice="If it is meant to be used, write socks5:// instead; it is then that proxy you trust.",
        )
