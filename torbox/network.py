# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the two halves meet: which upstream a sandbox gets, and the workers that serve its tun.

    upstream    the URL that was asked for, if it answers; else the first Tor that answers; else a
                Tor of torbox's own, kept alive by a lease; else an error that says all this
    workers     one process per tun queue, forked before the program, each alone with its queue

A proxy may stand on this machine or near it, so a worker is told which addresses and names are this
machine's; they are those of the start, one that comes later is not known (but to the upstream direct,
which asks the kernel each time). Tor stands far away: to it
the machine's public address is one of the Internet's, and told apart from them it would betray itself.

A worker confines itself (confinement.py) as far as its upstream lets it: `reach_of` says how far that is.

A worker gets its queue, a pipe to tell that it is ready or what went wrong (report.py), which it holds
until it is sealed, and a pipe whose end of file tells it to stop. It dies with the supervisor, holds no
terminal and no stream of the caller's, and nobody waits for its end: closing the last descriptor of a tun
takes the kernel 20 ms.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from torbox import netns, privileges, report, this_machine
from torbox.allowance import Allowance
from torbox.confinement import Confinement
from torbox.errors import SetupError, UpstreamError
from torbox.netns import Tun
from torbox.plan import DIRECT, SandboxPlan
from torbox.report import Report
from torbox.stack_filter import Reach
from torbox.upstream import discover, registry
from torbox.upstream.tor import new_isolation
from torbox.upstream.url import UpstreamUrl

if TYPE_CHECKING:
    from torbox.netstack.name_board import Section
    from torbox.relay.worker import WorkerConfig
    from torbox.tor.lease import Lease  # 17 ms that only a start of torbox's own Tor costs

_STEP = "start the network stack"
_FAR_SCHEMES = ("tor", "block")  # what they are asked for is not looked up or connected to from here
NO_CAPTURE = -1  # in place of a descriptor


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
        if lease.would_wait_for_network() and not this_machine.has_route():
            raise UpstreamError(
                "this machine has no route to the Internet, which a Tor on it needs",
                advice="Connect it to a network (torbox doctor says whether it is), or name a Tor that runs"
                " elsewhere:\n--upstream tor://HOST:PORT",
            )
        held = lease.acquire(progress)
    except UpstreamError as error:
        places = ", ".join(str(place) for place in discover.USUAL_PLACES)
        raise UpstreamError(
            f"no Tor answers at {places}, and torbox could not start its own: {error.message}",
            advice=error.advice,
        ) from error
    return Found(UpstreamUrl("tor", path=str(held.socks_path)), held)


class Workers:
    """The processes that serve a sandbox's tun; `pids` once they are started.

    `tell(name, why)` hears of each protection that they do without because the plan allows it.
    """

    def __init__(
        self, plan: SandboxPlan, upstream: UpstreamUrl, tell: Callable[[str, str], None] = lambda *_: None
    ) -> None:
        self._plan = plan
        self._upstream = upstream
        self._tell = tell
        self._stop, self._stop_end = os.pipe2(os.O_CLOEXEC)
        self._reports: dict[int, int] = {}  # what each worker says is read from there
        self.capture = NO_CAPTURE  # a descriptor for all workers to write down what they see

    @property
    def pids(self) -> list[int]:
        return list(self._reports)

    def start(self, tun: Tun) -> None:
        """Fork one worker per queue; return when all of them serve. Raises SetupError."""
        own, own_names = self._own_ends()
        make_config = partial(self._config, tun, new_isolation(), own, own_names)
        sections = _sections(len(tun.queues))
        parent = os.getpid()
        for queue, section in zip(tun.queues, sections, strict=True):
            reader, report_end = os.pipe2(os.O_CLOEXEC)
            pid = os.fork()
            if pid == 0:
                ends = _Ends(queue, report_end, self._stop, self.capture)
                _work(make_config, section, ends, parent, self._reach(), self._plan.allow_missing)
            self._reports[pid] = reader
            os.close(report_end)
        for reader in self._reports.values():
            reason = report.hear(reader, self._tell)
            if reason is not None:
                raise SetupError(_STEP, 0, reason or "a worker ended before it was ready")

    def last_words(self, pid: int) -> str:
        """Why a worker that was ready has ended, if it could say so; "" if not."""
        return report.last_words(self._reports[pid])

    def _reach(self) -> Reach:
        return Reach() if self._plan.is_locked else reach_of(self._upstream)

    def finish(self) -> None:
        """Stop the workers, and wait until all that they saw is written down. SetupError if it is not."""
        os.write(self._stop_end, b"\0")
        for pid in self.pids:
            with contextlib.suppress(ChildProcessError):  # how it ended was told already
                if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == report.CAPTURE_LOST:
                    raise SetupError("capture", 0, "the file of --pcap lacks packets", advice=report.ROOM)

    def close(self) -> None:
        """Tell the workers to stop; they do so on their own, also when this process just ends."""
        for descriptor in (self._stop, self._stop_end, *self._reports.values()):
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
        self,
        tun: Tun,
        isolation: bytes,
        own: tuple[str, ...],
        own_names: tuple[bytes, ...],
        path_of: Callable[[str], str],
    ) -> WorkerConfig:
        """`path_of` says where the worker finds a Unix socket."""
        from torbox.relay.worker import WorkerConfig

        return WorkerConfig(
            upstream=replace(self._upstream, path=path_of(self._upstream.path)),
            isolation=isolation,
            mtu=tun.mtu,
            gso=tun.gso,
            gateways=(_packed(netns.GATEWAY_V4), _packed(netns.GATEWAY_V6)),
            guests=(_packed(netns.GUEST_V4), _packed(netns.GUEST_V6)),
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


def reach_of(upstream: UpstreamUrl) -> Reach:
    """What connections by this upstream need; of one that is not known here, nothing."""
    if upstream.path:
        return Reach((socket.AF_UNIX,), paths=(upstream.path,))
    if upstream.host:
        family = socket.AF_INET6 if ":" in upstream.host else socket.AF_INET
        return Reach((family,), port=upstream.port)
    if upstream.scheme == DIRECT:
        return Reach((socket.AF_INET, socket.AF_INET6), resolves=True)
    return Reach()


class _Ends(NamedTuple):
    """The descriptors that a worker keeps; see the top."""

    queue: int
    report: int
    stop: int
    capture: int


def _work(
    make_config: Callable[[Callable[[str], str]], WorkerConfig],
    section: Section | None,
    ends: _Ends,
    parent: int,
    reach: Reach,
    allowed: frozenset[str],
) -> NoReturn:
    """The worker's first lines: nothing of the caller's stays with it but the upstream's way out.

    The stack is imported here and not by the parent, which supervises and never sees a packet: its 10 ms
    pass while pid 1 builds the room, and its memory is the worker's alone.
    """
    status = 1
    told = Report(ends.report)
    try:
        privileges.detach(parent, [end for end in ends if end != NO_CAPTURE])
        confinement = Confinement(reach, Allowance(allowed, told.missing))
        confinement.prepare()
        privileges.hide_this_process("torbox-net")
        privileges.die_with_parent(parent)  # forgotten by the kernel if credentials change (prctl(2))
        from torbox.relay.worker import run_worker

        config = make_config(confinement.path_of)
        status = run_worker(config, ends.queue, told, ends.stop, section, confinement.seal, ends.capture)
    except BaseException as error:  # the last resort: the supervisor says it, as long as nothing was read
        told.failed(report.reason_of(error))
    os._exit(status)


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
