# SPDX-License-Identifier: GPL-3.0-or-later
"""A person at a terminal: types, and waits for what is to appear."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from tests.support.processes import descendants, wait_until_gone

PROMPT = "READY> "


class Screen:
    """A command on a terminal of its own. `see` waits for a text and gives what came before it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], list(command), {**environment, "PS1": PROMPT, "TERM": "dumb"})
        self._seen = b""

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def see(self, text: str, timeout_s: float = 20) -> str:
        wanted, end = text.encode(), time.monotonic() + timeout_s
        while wanted not in self._seen:
            ready, _, _ = select.select([self.descriptor], [], [], max(0.0, end - time.monotonic()))
            try:
                chunk = os.read(self.descriptor, 4096) if ready else b""
            except OSError:
                chunk = b""
            if not chunk:
                raise AssertionError(f"{text!r} did not appear; on the screen: {self._seen.decode()!r}")
            self._seen += chunk
        before, _, self._seen = self._seen.partition(wanted)
        return before.decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        started = descendants(self.pid)  # a job in the background hears nothing of its terminal's end
        for pid in (self.pid, *started):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.close(self.descriptor)
        os.waitpid(self.pid, 0)
        wait_until_gone(started)


def shell(environment: Mapping[str, str], prefix: Sequence[str] = ()) -> Screen:
    """An interactive shell with job control, its prompt already seen."""
    screen = Screen([*prefix, "bash", "--norc", "--noediting", "-b", "-i"], environment)
    screen.see(PROMPT)
    return screen
