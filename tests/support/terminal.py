# SPDX-License-Identifier: GPL-3.0-or-later
"""A person at a terminal: types, and waits for what is to appear."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import pyte

from tests.support.patience import PATIENCE_S
from tests.support.processes import descendants, wait_until_gone

PROMPT = "READY> "


class Screen:
    """A command on a terminal of its own. `see` waits for a text and gives what came before it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], list(command), {"TERM": "dumb", **environment, "PS1": PROMPT})
        self._seen = b""

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def see(self, text: str, timeout_s: float = 2 * PATIENCE_S) -> str:
        wanted, end = text.encode(), time.monotonic() + timeout_s
        while wanted not in self._seen:
            ready, _, _ = select.select([self.descriptor], [], [], max(0.0, end - time.monotonic()))
            try:
                chunk = os.read(self.descriptor, 4096) if ready else b""
            except OSError:
                chunk = b""
            if not chunk:
                raise AssertionError(
                    f"{text!r} did not appear; at the end of the screen: {self._seen[-2000:]!r}"
                )
            self._seen += chunk
        before, _, self._seen = self._seen.partition(wanted)
        return before.decode()

    def ended(self) -> int:
        """Wait until the command has let go of its terminal and ended; its exit code."""
        with contextlib.suppress(OSError):
            while os.read(self.descriptor, 4096):
                pass
        found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        assert found is not None
        return found.si_status

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


class Emulator(Screen):
    """The same with a terminal that is drawn on: what is seen is what stands on it now.

    A terminal that a program asks where the cursor is, or what it is, answers (ECMA-48).
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], rows: int = 24, columns: int = 80
    ) -> None:
        super().__init__(command, {**environment, "TERM": "linux"})
        self._screen = pyte.Screen(columns, rows)
        self._screen.write_process_input = self.type  # type: ignore[method-assign]
        self._stream = pyte.ByteStream(self._screen)
        self.resize(rows, columns)

    @property
    def text(self) -> str:
        """The screen's lines, without the blanks at their ends."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    def resize(self, rows: int, columns: int) -> None:
        self._screen.resize(rows, columns)
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def see(self, text: str, timeout_s: float = 2 * PATIENCE_S) -> str:
        """Wait until `text` stands on the screen; all of it."""
        end = time.monotonic() + timeout_s
        while text not in self.text:
            ready, _, _ = select.select([self.descriptor], [], [], max(0.0, end - time.monotonic()))
            try:
                chunk = os.read(self.descriptor, 4096) if ready else b""
            except OSError:
                chunk = b""
            if not chunk:
                raise AssertionError(f"{text!r} did not appear; on the screen:\n{self.text}")
            self._stream.feed(chunk)
        return self.text


def shell(environment: Mapping[str, str], prefix: Sequence[str] = ()) -> Screen:
    """An interactive shell with job control, its prompt already seen."""
    screen = Screen([*prefix, "bash", "--norc", "--noediting", "-b", "-i"], environment)
    screen.see(PROMPT)
    return screen
