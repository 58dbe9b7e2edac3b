# SPDX-License-Identifier: GPL-3.0-or-later
"""A sandbox's hold on torbox's own tor: while a Lease is open, that tor runs.

`acquire` connects to the keeper (keeper.py), starting one if nobody answers. Call it before threads
are made and before the process confines itself. The lease is close-on-exec, but a child that is
only forked holds it too: it must close it, or die with its parent as torbox's children do.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torbox
from torbox.errors import UpstreamError
from torbox.tor import launch
from torbox.tor.places import Places, user_torrc

LINGER_S = 30.0  # how long a tor that nobody needs stays, so that runs in a row start but one
DEADLINE_S = 120.0  # a first bootstrap by a slow line; 5 to 20 s is usual

_MESSAGE_LIMIT = 1 << 16  # bytes; the keeper's longest holds 40 log lines of 400 characters
_ATTEMPTS = 3  # a keeper may be met just as it goes, or be killed; not time after time
_LOCK_POLL_S = 0.02  # flock(2) cannot wait with a deadline
_LOG_ANSWER_S = 2.0
_SHOWN_LOG_LINES = 12


class Lease:
    """An open hold on the running tor. `close` lets go; so does the end of the process, however it ends.

    `fileno` becomes readable when that tor has ended: nothing sent to `socks_path` will leave then,
    and `acquire` starts a new one at the same path.
    """

    def __init__(self, connection: socket.socket, places: Places, tor_pid: int) -> None:
        self._connection = connection
        self.socks_path = places.socks
        self.control_path = places.control
        self.cookie_path = places.cookie
        self.tor_pid = tor_pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        return self._connection.fileno()

    def close(self) -> None:
        self._connection.close()


def acquire(
    progress: Callable[[int, str], None],
    deadline_s: float = DEADLINE_S,
    *,
    environ: Mapping[str, str] | None = None,
    linger_s: float = LINGER_S,
) -> Lease:
    """A lease on a tor that is ready; starts it if it does not run.

    `progress(percent, summary)` is called as tor's bootstrap goes on. `linger_s` counts if this call
    starts the tor. Raises UpstreamError, with the end of tor's log, if tor is not installed, ends, or
    is not ready in `deadline_s` seconds.
    """
    environ = os.environ if environ is None else environ
    places = Places.of(environ)
    places.prepare()
    end = time.monotonic() + deadline_s
    for _ in range(_ATTEMPTS):
        connection = _connect(places) or _begin(places, environ, linger_s, end)
        try:
            return Lease(connection, places, _await_ready(connection, progress, deadline_s, end))
        except (EOFError, ConnectionError):
            connection.close()
        except BaseException:
            connection.close()
            raise
    raise UpstreamError(
        f"the process that keeps torbox's tor ended {_ATTEMPTS} times without a word",
        advice=f"Is someone killing it? Its files are in {places.run}.",
    )


def running(environ: Mapping[str, str] | None = None) -> tuple[int, str] | None:
    """How far torbox's own tor is, percent and summary, or None if it does not run. Starts nothing."""
    try:
        connection = _connect(Places.of(os.environ if environ is None else environ))
        if connection is None:
            return None
        with connection:
            message = _receive(connection, _LOG_ANSWER_S)
    except (OSError, EOFError, UpstreamError):
        return None
    return int(message["progress"]), str(message["summary"])


def would_wait_for_network(environ: Mapping[str, str] | None = None) -> bool:
    """Whether `acquire` would start a tor that needs the Internet as all do.

    Not one that runs, whose keeper knows more; nor one with lines of the user's own, which may name bridges
    or authorities on this machine or beside it.
    """
    environ = os.environ if environ is None else environ
    return user_torrc(environ) is None and running(environ) is None


def _connect(places: Places) -> socket.socket | None:
    """A connection to the keeper, or None if none listens."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        connection.connect(str(places.keeper))
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except OSError as error:
        connection.close()
        raise UpstreamError(f"{places.keeper}: {error.strerror}") from error
    return connection


def _begin(places: Places, environ: Mapping[str, str], linger_s: float, end: float) -> socket.socket:
    """Under the lock: connect after all, if another run was faster, or else to a keeper of our own making."""
    binary = launch.find_binary(environ)
    with places.lock.open("ab") as lock:
        _lock(lock.fileno(), places, end)
        connection = _connect(places)
        if connection is not None:
            return connection
        places.keeper.unlink(missing_ok=True)  # a killed keeper leaves its name behind
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        with listener:
            listener.bind(str(places.keeper))
            places.keeper.chmod(0o600)
            listener.listen(128)
            # Before the keeper runs, or it might find no lease and go at once.
            connection = _connect(places)
            if connection is None:
                raise UpstreamError(f"{places.keeper}: nobody listens at the socket that was just made")
            try:
                _start_keeper(listener.fileno(), places, linger_s, binary, environ)
            except BaseException:
                connection.close()
                places.keeper.unlink(missing_ok=True)
                raise
            return connection


def _lock(descriptor: int, places: Places, end: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise UpstreamError(
                    "another torbox has been starting or stopping tor all the time",
                    advice=f"See who holds it: fuser -v {places.lock}",
                ) from None
            time.sleep(_LOCK_POLL_S)


def _start_keeper(
    listener: int, places: Places, linger_s: float, binary: str, environ: Mapping[str, str]
) -> None:
    """A new program and not a fork: no thread, descriptor, handler or secret of this process goes with it."""
    arguments = [str(listener), str(linger_s), str(places.state), str(places.run), binary]
    torrc = user_torrc(environ)
    arguments += [str(torrc)] if torrc is not None else []
    here = str(Path(torbox.__file__).parent.parent)
    started = subprocess.run(
        [sys.executable, "-m", "torbox.tor.keeper", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,  # why Python did not get so far; the keeper lets go of it at once
        pass_fds=(listener,),
        cwd="/",
        env={
            "HOME": environ.get("HOME", "/"),  # for ~ in the user's torrc
            "PATH": os.defpath,
            # What this process imports from, and no relative entry: "/" is no place to import from.
            "PYTHONPATH": os.pathsep.join([here, *(path for path in sys.path if os.path.isabs(path))]),
            "PYTHONSAFEPATH": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        start_new_session=True,
        check=False,
    )
    if started.returncode:
        said = started.stderr.decode(errors="replace").strip().splitlines()
        why = said[-1] if said else f"exit code {started.returncode}"
        raise UpstreamError(f"the keeper of tor could not be started: {why}")


def _await_ready(
    connection: socket.socket, progress: Callable[[int, str], None], deadline_s: float, end: float
) -> int:
    """Hear the keeper out until tor is ready; its process id. EOFError if the keeper ends."""
    reached = (0, "Starting")
    while True:
        left_s = end - time.monotonic()
        try:
            message = _receive(connection, left_s)
        except TimeoutError:
            raise _late(connection, deadline_s, reached) from None
        if "ready" in message:
            connection.settimeout(None)
            return int(message["tor"])
        if "failed" in message:
            raise UpstreamError(str(message["failed"]), advice=_tail(message["log"]))
        if "progress" in message:
            reached = int(message["progress"]), str(message["summary"])
            progress(*reached)


def _receive(connection: socket.socket, timeout_s: float) -> dict[str, Any]:
    if timeout_s <= 0:
        raise TimeoutError
    connection.settimeout(timeout_s)
    packet = connection.recv(_MESSAGE_LIMIT)
    if not packet:
        raise EOFError
    message: dict[str, Any] = json.loads(packet)
    return message


def _late(connection: socket.socket, deadline_s: float, reached: tuple[int, str]) -> UpstreamError:
    """What to say when tor is not ready in time: how far it came, its last warning, the end of its log."""
    answer: dict[str, Any] = {}
    end = time.monotonic() + _LOG_ANSWER_S
    try:
        connection.send(b"log")
        while "log" not in answer:
            answer = _receive(connection, end - time.monotonic())
    except (OSError, EOFError):
        answer = {"log": [], "warning": ""}
    percent, summary = reached
    because = f" ({answer['warning']})" if answer["warning"] else ""
    return UpstreamError(
        f"Tor was not ready within {deadline_s:g} s: it stopped at {percent} %, {summary}{because}",
        advice="Is this machine online, and its clock right? Where Tor is blocked, bridges help: put "
        f"Bridge lines into ~/.config/torbox/torrc.\n{_tail(answer['log'])}",
    )


def _tail(log: list[str]) -> str:
    if not log:
        return "Tor logged nothing."
    return "\n".join(["The end of tor's log:", *(f"  {line}" for line in log[-_SHOWN_LOG_LINES:])])
