# SPDX-License-Identifier: GPL-3.0-or-later
"""What an upstream is: the seam between the guest's connections and the world outside.

    guest ─► rx ring ─► Stream ─► socket        rx: bytes from the guest (TcpConnection.rcv_buf)
    guest ◄─ tx ring ◄─ Stream ◄─ socket        tx: bytes for the guest  (TcpConnection.snd_buf)

The two rings are the only contract. A Stream never calls into TCP; it tells its StreamOwner what
happened and is pumped once per loop turn after its owner was marked. A filter is a Stream to one
side and a StreamOwner to the other, so that upstreams chain; one that only decides hands the same
rings on. An upstream is one module of this package, named as its URL scheme.

Datagrams need no rings: they are sent when they come, each way, or lost. An upstream that carries them
opens one Datagrams for each UDP socket of the guest's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torbox.netstack.flow import Refusal
from torbox.netstack.ring import Ring


class Target(NamedTuple):
    """Where a stream goes: a packed address (4 or 16 bytes) or a name, never both.

    A name is raw bytes, 1 to 255 of them, as the guest asked for it and without a final dot;
    it is resolved by the upstream.
    """

    address: bytes
    name: bytes
    port: int


class StreamOwner(Protocol):
    """The side of a stream that knows the guest's connection. Every call only marks, never pumps."""

    def connected(self) -> None:
        """The far end is connected: the guest's SYN may be answered."""

    def refused(self, why: Refusal) -> None:
        """The far end cannot be reached. The stream is dead and has let its socket go."""

    def moved(self) -> None:
        """The socket became ready: pump the stream in this turn."""

    def eof(self) -> None:
        """The far end has finished; nothing more will be put into `tx`."""

    def broken(self) -> None:
        """The connected far end was lost: the guest gets a reset. The stream is dead."""


class Stream(Protocol):
    def pump(self) -> bool:
        """Move what can be moved between rings and socket; true if it stopped for fairness alone.

        What is decided of connecting by then, the owner hears within it.
        """

    def shutdown(self) -> None:
        """The guest has finished and `rx` is empty: pass the end of file on."""

    def unsent(self) -> int:
        """Bytes of `rx` that the stream took and its far end, as far as the kernel knows, did not yet."""

    def abort(self) -> None:
        """Let everything go at once; the owner is not called again."""


class DatagramOwner(Protocol):
    """The side of Datagrams that knows the guest's socket. It may be called within `send`."""

    def arrived(self, address: bytes, port: int, payload: memoryview) -> None:
        """A datagram from anybody outside; the view is valid in the call only."""

    def unreachable(self, address: bytes, port: int, why: Refusal) -> None:
        """One that was sent there did not get through, says the network."""

    def too_big(self, address: bytes, port: int, mtu: int) -> None:
        """One that was sent there, and must not be cut, is larger than packets of `mtu` bytes carry."""


class Datagrams(Protocol):
    def admits(self, address: bytes) -> Refusal | None:
        """Whether a packed address may be sent to, as things are now; if not, what the guest is to see."""

    def send(self, address: bytes, port: int, payload: memoryview, may_fragment: bool) -> Refusal | None:
        """Send, or lose it; what the guest is to see if it is known at once that it cannot go there."""

    def close(self) -> None:
        """Let everything go at once; the owner is not called again."""


class NoDatagrams:
    """What an upstream is made of that carries none."""

    takes_datagrams = False

    def open_datagrams(self, family: int, owner: DatagramOwner) -> Datagrams:
        raise NotImplementedError("this upstream carries no datagrams")


class Resolution(NamedTuple):
    """The answer to `resolve`: packed addresses, or names for a reverse query; empty: none.

    `failed` true means that nobody could say (the guest sees SERVFAIL), not that there is none.
    """

    answers: tuple[bytes, ...] = ()
    ttl_s: int = 60
    failed: bool = False


class Upstream(Protocol):
    takes_names: bool  # names may be sent to it unresolved
    takes_onions: bool  # .onion names mean something to it
    takes_ipv6: bool
    takes_datagrams: bool
    needs_routing: bool  # connects to the far end from this machine itself: locked until that is asked for

    def open_stream(self, target: Target, rx: Ring, tx: Ring, owner: StreamOwner) -> Stream:
        """Begin to connect; the owner hears `connected` or `refused` in a later turn, never in this call."""

    def open_datagrams(self, family: int, owner: DatagramOwner) -> Datagrams:
        """A way for datagrams of one family, 4 or 6, if it takes any. OSError: none can be had now."""

    def resolve(self, name: bytes, kind: str, done: Callable[[Resolution], None]) -> None:
        """Resolve a name (`kind` "A" or "AAAA") or a packed address ("PTR"); `done` is called once, later."""

    def close(self) -> None:
        """Let every socket go."""


class Timer(Protocol):
    def cancel(self) -> None: ...


class Reactor(Protocol):
    """What an upstream needs of the event loop."""

    now: float  # seconds, monotonic, read once a turn

    def register(self, fileno: int, ready: Callable[[int], None]) -> None:
        """Call `ready(epoll events)` on each edge of IN, OUT, RDHUP, HUP or ERR."""

    def unregister(self, fileno: int) -> None: ...

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call once in the first turn at or after `when`."""

    def call_idle(self, callback: Callable[[], None]) -> None:
        """Call once when there is nothing else to do, or soon: for what nobody waits for."""
