# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that stands between the sandbox and what the session has: it passes on what a filter lets pass.

    client ──► Passage ──► server      bytes by way of the filter, which may answer itself; and descriptors,
           ◄──         ◄──             where the protocol has some (D-Bus)

One process for all, forked before the sandbox, without the caller's descriptors; it dies with torbox. It
parses what the program inside sends, so before it lets anybody in it is confined as the network stack is
(confinement.py): what is left to it are its listeners, the servers' sockets, and passing bytes and
descriptors. What a direction holds is bounded: no more is read until that has gone on. So is how many pass
by a door at a time, each of whom takes a connection of the server's that the user's other programs need too;
who says nothing that goes on is not kept.

Where what is said to a server holds only as long as that server lives (an X server's cookie), a connection to
it is the doorman's lifeline: when it ends he leaves, and nobody is shown in to the server that comes next.
"""

from __future__ import annotations

import array
import contextlib
import gc
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from torbox import privileges, report
from torbox.allowance import Allowance
from torbox.confinement import Confinement
from torbox.errors import SetupError
from torbox.report import Report
from torbox.stack_filter import Reach

_CHUNK = 64 << 10  # bytes that are read at a time
_HELD_MAX = 256 << 10  # bytes that a direction holds before no more is read for it
_DESCRIPTORS_MAX = 16  # in one message, as dbus-daemon has it by default
PASSAGES_MAX = 64  # of a door, unless it has fewer; who comes then waits in the kernel's queue
SILENCE_MAX_S = 10  # from a client's coming until some of what it says goes on; libraries need milliseconds
_QUEUE = 16  # connections that wait to be let in
_STEP = "start the desktop's doorman"


class Judge(Protocol):
    """Of one connection. ValueError from either ends it."""

    def feed(self, content: bytes) -> tuple[bytes, bytes]:
        """What a client says: what goes on to the server, and what back to the client."""

    def reply(self, content: bytes) -> bytes:
        """What the server says: what goes back to the client."""


class Door(NamedTuple):
    """A listener of the sandbox's, the address of the server behind it, and who judges what is said."""

    listener: socket.socket
    server: str  # a path; an abstract name begins with @
    judge: Callable[[], Judge]
    passes_descriptors: bool
    passages_max: int = PASSAGES_MAX


class _Direction:
    """What is on its way to one end."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.held = bytearray()
        self.descriptors: list[int] = []
        self.is_last = False  # nothing more will come

    def send(self) -> None:
        """As much as is taken at once. Raises OSError."""
        while self.held:
            try:
                if self.descriptors:
                    passed = array.array("i", self.descriptors)
                    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)]
                    sent = self.end.sendmsg([self.held[:_CHUNK]], rights)
                    self.drop_descriptors()
                else:
                    sent = self.end.send(self.held[:_CHUNK])
            except BlockingIOError:
                return
            del self.held[:sent]
        if self.is_last:
            self.end.shutdown(socket.SHUT_WR)

    def drop_descriptors(self) -> None:
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors.clear()


class Passage:
    """One client and its server."""

    def __init__(self, client: socket.socket, server: socket.socket, door: Door) -> None:
        self.client, self.server, self.door = client, server, door
        self.silent_until: float | None = time.monotonic() + SILENCE_MAX_S  # None: it has introduced itself
        self._judge = door.judge()
        self._passes_descriptors = door.passes_descriptors
        self._on, self._back = _Direction(server), _Direction(client)

    def events(self) -> Iterator[tuple[int, int]]:
        """What either end is waited for."""
        for end, incoming, outgoing in (
            (self.client, self._on, self._back),
            (self.server, self._back, self._on),
        ):
            wants = 0
            if not incoming.is_last and len(incoming.held) < _HELD_MAX and len(outgoing.held) < 2 * _HELD_MAX:
                wants |= select.POLLIN
            if outgoing.held:
                wants |= select.POLLOUT
            if wants:
                yield end.fileno(), wants

    def turn(self, descriptor: int, event: int) -> bool:
        """Do what can be done. False once the passage is at its end."""
        try:
            if event & ~select.POLLOUT:
                self._read(self.client if descriptor == self.client.fileno() else self.server)
            self._on.send()
            self._back.send()
        except (OSError, ValueError):
            return False
        return not (self._on.is_last and self._back.is_last and not self._on.held and not self._back.held)

    def _read(self, end: socket.socket) -> None:
        direction = self._on if end is self.client else self._back
        if direction.is_last:
            return
        room = socket.CMSG_SPACE(4 * _DESCRIPTORS_MAX) if self._passes_descriptors else 0
        try:
            content, passed, flags, _ = end.recvmsg(_CHUNK, room, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        for level, kind, value in passed:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                found = array.array("i")
                found.frombytes(value[: len(value) - len(value) % found.itemsize])
                direction.descriptors += found
        if flags & socket.MSG_CTRUNC and self._passes_descriptors:
            raise ValueError("more descriptors than the protocol has")
        if len(direction.descriptors) > 4 * _DESCRIPTORS_MAX:
            raise ValueError("more descriptors than are passed on")
        if not content:
            direction.is_last = True
            if not direction.held:
                direction.end.shutdown(socket.SHUT_WR)
        elif end is self.client:
            on, back = self._judge.feed(content)
            self._on.held += on
            self._back.held += back
            if on:
                self.silent_until = None
        else:
            self._back.held += self._judge.reply(content)

    def close(self) -> None:
        for direction in (self._on, self._back):
            direction.drop_descriptors()
            direction.end.close()


def serve(doors: list[Door], lifeline: socket.socket | None = None) -> None:
    """Let clients in and pass on what may pass, as long as the lifeline holds; without one for ever."""
    if lifeline is not None:
        lifeline.setblocking(False)  # one with a time-out would be waited for, MSG_DONTWAIT or not
    passages: dict[int, Passage] = {}
    by_listener = {door.listener.fileno(): door for door in doors}
    while True:
        poll = select.poll()
        if lifeline is not None:
            poll.register(lifeline, select.POLLIN)
        there = set(passages.values())
        for descriptor, door in by_listener.items():
            if sum(passage.door is door for passage in there) < door.passages_max:
                poll.register(descriptor, select.POLLIN)
        for passage in there:
            for descriptor, wanted in passage.events():
                poll.register(descriptor, wanted)
        silent = [passage.silent_until for passage in there if passage.silent_until is not None]
        wait_s = max(0.0, min(silent) - time.monotonic()) if silent else None
        events = poll.poll(None if wait_s is None else 1000 * wait_s + 1)
        if not _holds(lifeline):
            return
        for descriptor, event in events:
            if descriptor in by_listener:
                _let_in(by_listener[descriptor], passages, lifeline)
            elif (found := passages.get(descriptor)) and not found.turn(descriptor, event):
                _let_out(found, passages)
        for passage in set(passages.values()):
            if passage.silent_until is not None and passage.silent_until <= time.monotonic():
                _let_out(passage, passages)


def _holds(lifeline: socket.socket | None) -> bool:
    """Whether its other end is there still. What that says, as a server does to all, is nothing to us."""
    if lifeline is None:
        return True
    try:
        while lifeline.recv(_CHUNK):
            pass
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _let_in(door: Door, passages: dict[int, Passage], lifeline: socket.socket | None) -> None:
    client = server = None
    try:
        client, _ = door.listener.accept()
        if _user_of(client) != os.getuid():
            raise PermissionError
        server = socket.socket(socket.AF_UNIX)
        if not door.passes_descriptors:
            # PulseAudio wants credentials with the first message; the kernel adds them to each from here on.
            server.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        server.connect(_address(door.server))
        if not _holds(lifeline):  # this may be another server than the one that was there
            raise ConnectionResetError
        client.setblocking(False)
        server.setblocking(False)
    except OSError:
        for end in (client, server):
            if end is not None:
                end.close()
        return
    passage = Passage(client, server, door)
    passages[client.fileno()] = passages[server.fileno()] = passage


def _let_out(passage: Passage, passages: dict[int, Passage]) -> None:
    del passages[passage.client.fileno()], passages[passage.server.fileno()]
    passage.close()


def _user_of(client: socket.socket) -> int:
    """The uid of who is at the other end, as it is out here; unix(7), SO_PEERCRED."""
    _, uid, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(uid)


def _address(path: str) -> str:
    """What the kernel calls a path, or an abstract name that begins with @."""
    return "\0" + path[1:] if path.startswith("@") else path


@contextlib.contextmanager
def posted(
    doors: list[Door],
    lifeline: socket.socket | None = None,
    allowed: frozenset[str] = frozenset(),
    tell: Callable[[str, str], None] = lambda *_: None,
) -> Iterator[int]:
    """A process that serves these doors for the time of the block, and its pidfd.

    SetupError if it cannot be confined; but what is `allowed` to be missing (allowance.py) is told.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    with open(reader, "rb", buffering=0):
        pid = _fork(doors, lifeline, allowed, Report(writer))
        os.close(writer)
        reason = report.hear(reader, tell)
    try:
        if reason is not None:
            raise SetupError(_STEP, 0, reason or "it ended before it was ready")
        pidfd = os.pidfd_open(pid)
        try:
            yield pidfd
        finally:
            os.close(pidfd)
    finally:
        _end(pid)


def listening(path: str) -> socket.socket:
    """A socket of the sandbox's own to let clients in by. Raises SetupError."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(_address(path))
        listener.listen(_QUEUE)
    except OSError as error:
        listener.close()
        raise SetupError("make a socket for the desktop", error.errno or 0, path) from error
    return listener


def _fork(doors: list[Door], lifeline: socket.socket | None, allowed: frozenset[str], told: Report) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        listeners = [door.listener for door in doors]
        ends = listeners if lifeline is None else [*listeners, lifeline]
        privileges.detach(parent, [told.fileno(), *(end.fileno() for end in ends)])
        doors = _confined(doors, Allowance(allowed, told.missing), parent)
        told.ready()
        told.close()
        gc.enable()  # which torbox's own start does without
        serve(doors, lifeline)
    except BaseException as error:  # the last resort: torbox says it, as long as nobody was let in
        told.failed(report.reason_of(error))
    finally:
        os._exit(1)


def _confined(doors: list[Door], allowance: Allowance, parent: int) -> list[Door]:
    """The doors as this process sees them from here on. SetupError."""
    servers = tuple(dict.fromkeys(door.server for door in doors))
    reach = Reach((socket.AF_UNIX,), paths=servers, lets_in=True)
    confinement = Confinement(reach, allowance, "the desktop's doorman")
    confinement.prepare()
    privileges.settle()
    privileges.die_with_parent(parent)  # forgotten by the kernel if credentials change (prctl(2))
    confinement.seal()
    return [door._replace(server=confinement.path_of(door.server)) for door in doors]


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
