# SPDX-License-Identifier: GPL-3.0-or-later
"""block: nothing goes out. Every connection is refused, every name fails to resolve."""

from __future__ import annotations

from collections.abc import Callable

from torbox.netstack.flow import Refusal
from torbox.netstack.ring import Ring
from torbox.upstream.interface import NoDatagrams, Reactor, Resolution, Stream, StreamOwner, Target, Timer
from torbox.upstream.url import UpstreamUrl, UrlShape

URL = UrlShape("block", place=False)


class BlockedStream:
    """Waits for nothing but the turn in which it may say no."""

    __slots__ = ("_timer",)

    def __init__(self, reactor: Reactor, owner: StreamOwner) -> None:
        self._timer: Timer = reactor.call_at(reactor.now, lambda: owner.refused(Refusal.PROHIBITED))

    def pump(self) -> bool:
        return False

    def shutdown(self) -> None:
        pass

    def unsent(self) -> int:
        return 0

    def abort(self) -> None:
        self._timer.cancel()


class BlockUpstream(NoDatagrams):
    takes_names = True  # so that a refusal is seen at connect(), and no name waits for an answer
    takes_onions = False
    takes_ipv6 = True
    needs_routing = False

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor

    def open_stream(self, target: Target, rx: Ring, tx: Ring, owner: StreamOwner) -> Stream:
        return BlockedStream(self._reactor, owner)

    def resolve(self, name: bytes, kind: str, done: Callable[[Resolution], None]) -> None:
        self._reactor.call_at(self._reactor.now, lambda: done(Resolution(failed=True)))

    def close(self) -> None:
        pass


def open_upstream(url: UpstreamUrl, reactor: Reactor, isolation: bytes) -> BlockUpstream:
    return BlockUpstream(reactor)


def probe(url: UpstreamUrl, timeout_s: float) -> None:
    """There is nothing to ask."""
