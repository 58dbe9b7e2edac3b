# SPDX-License-Identifier: GPL-3.0-or-later
"""A program of the network: started with its log, watched, and dead when its starter is."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

_POLL_S = 0.02  # short against the second that a step of tor takes, long against what a look costs


class TornetError(RuntimeError):
    """The private network could not be built: what failed, and the end of its log."""


def find_program(name: str, package: str) -> str:
    """The path of a program, which may be a daemon outside an ordinary user's PATH."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin", "/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        raise TornetError(f"{name} is not installed; try: sudo apt-get install {package}")
    return found


class Process:
    """One program with stdout and stderr in `log`.

    setpriv(1) sets the parent death signal after the fork and execs the program, so that no Python
    runs between fork and exec in a process that may have threads. The signal comes when the
    *thread* that started the program ends.
    """

    def __init__(self, name: str, argv: Sequence[str], log: Path, *, keep: Sequence[int] = ()) -> None:
        self.name = name
        self.log = log
        setpriv = find_program("setpriv", "util-linux")
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                [setpriv, "--pdeathsig", "KILL", "--", *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=tuple(keep),
            )
        self.pid = self._popen.pid

    def alive(self) -> bool:
        return self._popen.poll() is None

    def kill(self) -> None:
        """End it now. Nothing of a network that is thrown away needs an orderly end."""
        if self.alive():
            self._popen.kill()
        self._popen.wait()

    def finish(self, deadline_s: float) -> None:
        """Wait until it ends by itself with success."""
        try:
            code = self._popen.wait(deadline_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TornetError(f"{self.name} did not end within {deadline_s} s{self.tail()}") from None
        if code:
            raise TornetError(f"{self.name} failed with exit code {code}{self.tail()}")

    def tail(self, lines: int = 15) -> str:
        """The end of its log, ready to be put behind a message."""
        try:
            text = self.log.read_text(errors="replace").splitlines()[-lines:]
        except OSError:
            return ""
        return "".join(f"\n  {self.log.name}: {line}" for line in text)


def wait_until(
    happened: Callable[[], bool], what: str, deadline_s: float, processes: Sequence[Process] = ()
) -> None:
    """Look until it happened. TornetError if one of `processes` dies meanwhile, or at the deadline."""
    end = time.monotonic() + deadline_s
    while not happened():
        for process in processes:
            if not process.alive():
                raise TornetError(f"{process.name} died while waiting for {what}{process.tail()}")
        if time.monotonic() > end:
            tails = "".join(process.tail(8) for process in processes)
            raise TornetError(f"no {what} within {deadline_s:g} s{tails}")
        time.sleep(_POLL_S)
