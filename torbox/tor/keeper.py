# SPDX-License-Identifier: GPL-3.0-or-later
"""The keeper: a small process that owns torbox's tor for as long as some sandbox needs it.

    torbox run ──┐ lease: one connection to RUN/keeper
    torbox run ──┼────────────► keeper ──► tor        stdout: its log, kept in memory
    torbox run ──┘                  └────► control    bootstrap events

A lease is a connection, nothing more: the kernel closes it however its holder ends. When the last
one is closed the keeper lingers a while (the next run is then fast), stops tor, removes the sockets
and ends. When tor ends by itself, every lease is told and closed. When the keeper is killed, tor
gets a SIGTERM from the kernel (pdeathsig), and loses its owner besides.

There is never more than one. Coming and going is done under a lock on RUN/lock: who finds nobody
answering at RUN/keeper listens there and hands that socket to a new keeper (lease.py), so the
keeper can be connected to before it runs; a keeper that goes removes its socket first and ends tor
before it lets the lock go. Who connects in between reads an end of file and tries again.

Messages are JSON, one per packet (SOCK_SEQPACKET). Keeper to lease:
    {"progress": PERCENT, "summary": TEXT}   as tor's bootstrap goes on
    {"ready": true, "tor": PROCESS_ID}       tor can be used
    {"failed": TEXT, "log": [LINE, …]}       tor could not be started or has ended
    {"log": [LINE, …], "warning": TEXT}      the answer to the one thing a lease may say: b"log"

It runs alone: forked off and set apart by lease.py, with no descriptor but its listener, with stdio
on /dev/null and / as its directory. It is single-threaded, since pdeathsig follows the thread.
"""

from __future__ import annotations

import collections
import fcntl
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import prctl

from torbox.tor import launch
from torbox.tor.control import Control, ControlError, parse_bootstrap
from torbox.tor.places import Places

_LOG_LINES = 40  # kept in memory; a failing tor says why in its last ten
_LOG_LINE_CHARACTERS = 400
_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STOP_S = 5.0  # a client tor ends within milliseconds of SIGTERM


class Keeper:
    def __init__(self, listener: socket.socket, places: Places, linger_s: float) -> None:
        self._places = places
        self._linger_s = linger_s
        self._listener = listener
        self._leases: set[socket.socket] = set()
        self._idle_since = time.monotonic()
        self._log: collections.deque[str] = collections.deque(maxlen=_LOG_LINES)
        self._log_rest = b""
        self._warning = ""
        self._progress: tuple[int, str] = (0, "Starting")
        self._control: Control | None = None
        self._tor: subprocess.Popen[bytes] | None = None
        self._failure = ""
        self._selector = selectors.DefaultSelector()

    # -- the life of tor ---------------------------------------------------------------------------

    def keep(self, binary: str, user_torrc: Path | None) -> None:
        """Start tor and serve leases until none needs it or it ends."""
        self._listener.setblocking(False)
        self._watch(self._listener, self._accept)
        try:
            self._start_tor(binary, user_torrc)
            while not self._failure and not self._unneeded():
                if self._leases:
                    wait_s = None
                else:
                    wait_s = max(0.0, self._idle_since + self._linger_s - time.monotonic())
                for key, _ in self._selector.select(wait_s):
                    key.data()
        except SystemExit:
            self._failure = "the keeper of tor was told to end"
        except Exception as error:  # the last resort: leases are told, for nobody sees a traceback here
            self._failure = f"the keeper of tor failed: {error!r}"
        for number in _ENDING_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        self._retire()

    def _start_tor(self, binary: str, user_torrc: Path | None) -> None:
        self._places.sweep()
        self._places.torrc.write_text(launch.torrc(self._places, os.getpid(), user_torrc))
        self._tor = subprocess.Popen(
            launch.command(binary, self._places),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_keeper(os.getpid()),
        )
        assert self._tor.stdout is not None
        os.set_blocking(self._tor.stdout.fileno(), False)
        self._watch(self._tor.stdout.fileno(), self._read_log)

    def _read_log(self) -> None:
        """Tor's log; its end is tor's end, for no other process holds the pipe."""
        assert self._tor is not None
        assert self._tor.stdout is not None
        data = os.read(self._tor.stdout.fileno(), 65_536)
        *lines, self._log_rest = (self._log_rest + data).split(b"\n")
        for line in lines:
            self._log.append(line.decode("utf-8", "replace")[:_LOG_LINE_CHARACTERS])
        if not data:
            self._selector.unregister(self._tor.stdout.fileno())
            self._failure = f"tor ended: {_ending(self._tor.wait())}"
        elif self._control is None:
            self._open_control()

    def _open_control(self) -> None:
        """Tried at each log line until tor has made its control socket and cookie; more lines follow them."""
        try:
            control = Control(self._places.control, self._places.cookie)
        except (FileNotFoundError, ConnectionRefusedError):
            return
        # Tor now ends when this connection does, without waiting for its look every 15 s at the owner.
        control.command("TAKEOWNERSHIP")
        control.command("SETEVENTS STATUS_CLIENT")
        self._bootstrapped(control.get_info("status/bootstrap-phase"))
        self._control = control
        self._watch(control.socket, self._read_control)
        self._note_events()

    def _read_control(self) -> None:
        assert self._control is not None
        try:
            self._control.events += self._control.receive()
        except ControlError:
            self._selector.unregister(self._control.socket)  # tor is ending; its log will end too
            return
        self._note_events()

    def _note_events(self) -> None:
        assert self._control is not None
        events, self._control.events = self._control.events, []
        for event in events:
            self._bootstrapped(event.lines[0])

    def _bootstrapped(self, line: str) -> None:
        progress = parse_bootstrap(line)
        if progress is None:
            return
        self._warning = line.partition('WARNING="')[2].partition('"')[0]
        if progress != self._progress:
            self._progress = progress
            for lease in list(self._leases):
                self._report(lease)

    # -- leases ------------------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            lease, _ = self._listener.accept()
        except BlockingIOError:
            return  # it went away again
        lease.setblocking(False)
        self._leases.add(lease)
        self._watch(lease, lambda: self._hear(lease))
        self._report(lease)

    def _report(self, lease: socket.socket) -> None:
        percent, summary = self._progress
        self._tell(lease, {"progress": percent, "summary": summary})
        if percent == 100 and self._tor is not None:
            self._tell(lease, {"ready": True, "tor": self._tor.pid})

    def _hear(self, lease: socket.socket) -> None:
        try:
            said = lease.recv(64)
        except OSError:
            said = b""
        if said == b"log":
            self._tell(lease, {"log": list(self._log), "warning": self._warning})
        else:
            self._release(lease)

    def _tell(self, lease: socket.socket, message: dict[str, Any]) -> None:
        try:
            lease.send(json.dumps(message).encode())
        except OSError:  # gone, or not reading what little there is to read
            self._release(lease)

    def _release(self, lease: socket.socket) -> None:
        if lease in self._leases:
            self._leases.remove(lease)
            self._selector.unregister(lease)
            lease.close()
            self._idle_since = time.monotonic()

    # -- the end -----------------------------------------------------------------------------------

    def _unneeded(self) -> bool:
        """No lease for long enough. Who waits to be accepted is a lease already."""
        if self._leases or time.monotonic() < self._idle_since + self._linger_s:
            return False
        self._accept()
        return not self._leases

    def _retire(self) -> None:
        """Under the lock, so that a next keeper finds tor's data directory free and its own files its own."""
        with self._places.lock.open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._places.keeper.unlink(missing_ok=True)
            if self._failure:
                self._accept()
                for lease in list(self._leases):
                    self._tell(lease, {"failed": self._failure, "log": list(self._log)})
            self._listener.close()
            self._stop_tor()
            self._places.sweep()
            for lease in list(self._leases):
                self._release(lease)

    def _stop_tor(self) -> None:
        if self._tor is None:
            return
        self._tor.terminate()
        try:
            self._tor.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._tor.kill()
            self._tor.wait()

    def _watch(self, readable: socket.socket | int, then: Callable[[], None]) -> None:
        self._selector.register(readable, selectors.EVENT_READ, then)


def _die_with_keeper(keeper: int) -> Callable[[], None]:
    """What tor's process does before it becomes tor."""

    def prepare() -> None:
        prctl.set_pdeathsig(signal.SIGTERM)  # not SIGKILL: tor saves its guards
        if os.getppid() != keeper:
            os._exit(1)

    return prepare


def _ending(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def main(arguments: list[str]) -> NoReturn:
    """`keeper LISTENER LINGER_S STATE RUN BINARY [USER_TORRC]`, run by lease.py alone."""
    descriptor, linger_s, state, run, binary, *user_torrc = arguments
    if os.fork():
        os._exit(0)  # the starter waits for this one; the keeper is init's child and nobody's zombie
    os.dup2(0, 2)  # /dev/null: up to here stderr was the starter's
    os.umask(0o077)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in _ENDING_SIGNALS:
        signal.signal(number, lambda *_: sys.exit(0))
    prctl.set_name("torbox-keeper")
    keeper = Keeper(socket.socket(fileno=int(descriptor)), Places(Path(state), Path(run)), float(linger_s))
    keeper.keep(binary, Path(user_torrc[0]) if user_torrc else None)
    sys.exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
