# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the two halves meet: which upstream a sandbox gets, and the workers that serve its tun.

    upstream    the URL that was asked for, if it answers; else the first Tor that answers; else a
                Tor of torbox's own, kept alive by a lease; else an error that says all this
    workers     one process per tun queue, forked before the program, each alone with its queue

A proxy may stand on this machine or near it, so a worker is told which addresses and names are this
machine's; they are those of the start, one that comes later is not known (but to the upstream direct,
which asks the kernel each time). Tor stands far away: to it
the machine's public address is one of the Internet's, and told apart from them it would betray itself.

A worker gets its queue, a pipe to tell that it is ready (or what went wrong) and a pipe whose end
of file tells it to stop. It dies with the supervisor, holds no terminal and no stream of the
caller's, and nobody waits for its end: closing the last descriptor of a tun takes the kernel 20 ms.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from torbox import netns, privileges, syscalls, this_machine
from torbox.errors import SetupError, UpstreamError
from torbox.netns import Tun
from torbox.plan import SandboxPlan
from torbox.relay import report
from torbox.upstream import discover, registry
from torbox.upstream.tor import new_isolation
from torbox.upstream.url import UpstreamUrl

if TYPE_CHECKING:
    from torbox.netstack.name_board import Section
    from torbox.relay.worker import WorkerConfig
    from torbox.tor.lease import Lease  # 17 ms that only a start of torbox's own Tor costs

_STEP = "start the network stack"
_FAR_SCHEMES = ("tor", "block")  # what they are asked for is not looked up or connected to from here
_REPORT_LIMIT = 4096  # bytes; the longest a worker says is one error message


class Found(NamedTuple):
    """An upstream that answers, and the lease that keeps it alive if it is torbox's own Tor."""

    url: UpstreamUrl
    lease: Lease | None

    def close(self) -> None:
        if self.lease is not None:
            self.lease.close()


def find_upstream(wanted: str, progress: Callable[[int, str], None]) -> Found:
    """The upstream for this URL text; "" and "tor" mean whichever Tor there is.

    `progress(percent, summary)` hears of the start of torbox's own Tor. Raises UsageError for a
    text that is no URL, UpstreamError if nothing answers.
    """
    url = registry.parse_url(wanted or "tor")
    found = discover.discover(url)
    if found is not None:
        if url.has_place or url.scheme != "tor":
            registry.probe(found)
        return Found(found, None)
    from torbox.tor import lease  # here, because a Tor that runs already does not need it

    try:
        held = lease.acquire(progress)
    except UpstreamError as error:
        places = ", ".join(str(place) for place in discover.USUAL_PLACES)
        raise UpstreamError(
            f"no Tor answers at {places}, and torbox could not start its own: {error.message}",
            advice=error.advice,
        ) from error
    return Found(UpstreamUrl("tor", path=str(held.socks_path)), held)


class Workers:
    """The processes that serve a sandbox's tun; `pids` once they are started."""

    def __init__(self, plan: SandboxPlan, upstream: UpstreamUrl) -> None:
        self._plan = plan
        self._upstream = upstream
        self._stop, self._stop_end = os.pipe2(os.O_CLOEXEC)
        self.pids: list[int] = []

    def start(self, tun: Tun) -> None:
        """Fork one worker per queue; return when all of them serve. Raises SetupError."""
        own, own_names = self._own_ends()
        make_config = partial(self._config, tun, new_isolation(), own, own_names)
        sections = _sections(len(tun.queues))
        parent = os.getpid()
        with contextlib.ExitStack() as reports:
            readers = []
            for queue, section in zip(tun.queues, sections, strict=True):
                ready, ready_end = os.pipe2(os.O_CLOEXEC)
                readers.append(reports.enter_context(os.fdopen(ready, "rb")))
                pid = os.fork()
                if pid == 0:
                    _work(make_config, section, queue, ready_end, self._stop, parent)
                self.pids.append(pid)
                os.close(ready_end)
            for reader in readers:
                answer = reader.read(_REPORT_LIMIT)
                if answer != report.READY:
                    reason = answer.removeprefix(report.FAILED).decode("utf-8", "replace")
                    raise SetupError(_STEP, 0, reason or "a worker ended before it was ready")

    def close(self) -> None:
        """Tell the workers to stop; they do so on their own, also when this process just ends."""
        for descriptor in (self._stop, self._stop_end):
            os.close(descriptor)

    def _own_ends(self) -> tuple[tuple[str, ...], tuple[bytes, ...]]:
        """This machine's addresses and names that the upstream must not be asked for. Raises SetupError."""
        if self._upstream.scheme in _FAR_SCHEMES:
            return (), ()
        try:
            return this_machine.addresses(), this_machine.names()
        except OSError as error:
            raise SetupError(_STEP, error.errno or 0, "read this machine's addresses") from error

    def _config(
        self, tun: Tun, isolation: bytes, own: tuple[str, ...], own_names: tuple[bytes, ...]
    ) -> WorkerConfig:
        from torbox.relay.worker import WorkerConfig

        return WorkerConfig(
            upstream=self._upstream,
            isolation=isolation,
            mtu=tun.mtu,
            gso=tun.gso,
            gateways=(_packed(netns.GATEWAY_V4), _packed(netns.GATEWAY_V6)),
            dns_mode=self._plan.dns,
            ipv6=self._plan.ipv6,
            routing=self._plan.routing,
            host_loopback=self._plan.host_loopback,
            hosts=tuple(
                (name.encode(), tuple(map(_packed, addresses)))
                for name, addresses in self._plan.hosts.items()
            ),
            own=own,
            own_names=own_names,
            spin=self._plan.spin and not this_machine.on_battery(),
        )


def _sections(queues: int) -> Sequence[Section | None]:
    """Each worker's share of the names: they share memory, made before they are forked."""
    if queues == 1:
        return (None,)
    from torbox.netstack.name_board import NameBoard

    board = NameBoard(queues)
    return [board.section(part) for part in range(queues)]


def _work(
    make_config: Callable[[], WorkerConfig],
    section: Section | None,
    queue: int,
    ready: int,
    stop: int,
    parent: int,
) -> NoReturn:
    """The worker's first lines: nothing of the caller's stays with it but the upstream's way out.

    The stack is imported here and not by the parent, which supervises and never sees a packet: its 10 ms
    pass while pid 1 builds the room, and its memory is the worker's alone.
    """
    status = 1
    try:
        privileges.die_with_parent(parent)
        os.setsid()  # signals of the caller's terminal are not for it
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for stream in (0, 1, 2):
            os.dup2(null, stream)  # held open, the caller's pipe would not end with the program
        syscalls.close_all_but([queue, ready, stop])
        os.chdir("/")
        privileges.hide_this_process("torbox-net")
        from torbox.relay.worker import run_worker

        status = run_worker(make_config(), queue, ready, stop, section)
    except BaseException as error:  # the last resort: the supervisor says it, if it is still listening
        with contextlib.suppress(OSError):
            os.write(ready, report.FAILED + f"{type(error).__name__}: {error}".encode())
    os._exit(status)


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
