# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything torbox can fail with, and the exit code each failure has.

    TorboxError
     ├── UsageError      2    the command line contradicts itself or is not understood
     ├── ProfileError    2    a profile is missing, malformed or wrong; lists every fault
     ├── SetupError      125  a step of the sandbox failed; names the step and what to do
     ├── InUseError      125  another sandbox holds what this one wants: a name, a home, an X server
     ├── UpstreamError   125  no upstream can be reached, or its URL is wrong for this machine
     └── CommandError    126  the program is there but cannot be executed
                         127  the program is not there

One type per thing a caller can do about it. A message says what, where and what to do, in that
order, and is printed by the command line alone. The codes are those of env(1) and timeout(1):
125 for the tool itself, 126 and 127 for the program; any other code is the program's own.
"""

from __future__ import annotations

import os
from errno import ENOENT

EXIT_USAGE = 2
EXIT_TORBOX = 125
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127


class TorboxError(Exception):
    """A failure that torbox explains in one message. `advice` is what the user can do about it."""

    exit_code: int = EXIT_TORBOX

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.message}\n{self.advice}" if self.advice else self.message


class UsageError(TorboxError):
    """The command line contradicts itself or is not understood."""

    exit_code = EXIT_USAGE


class ProfileError(TorboxError):
    """A profile is missing or wrong. `faults` holds one line per fault, all found in one pass."""

    exit_code = EXIT_USAGE

    def __init__(self, faults: list[str], *, advice: str = "") -> None:
        super().__init__("\n".join(faults), advice=advice)
        self.faults = faults


class SetupError(TorboxError):
    """A step of the sandbox failed: `step` names it, `errno` is the kernel's answer (0: none)."""

    def __init__(self, step: str, errno: int, detail: str = "", *, advice: str = "") -> None:
        what = ": ".join(part for part in (step, detail, os.strerror(errno) if errno else "") if part)
        super().__init__(what, advice=advice)
        self.step = step
        self.errno = errno
        self.detail = detail


class InUseError(TorboxError):
    """Another sandbox holds what this one wants: a name, a home, or an X server."""


class UpstreamError(TorboxError):
    """No upstream can be used."""


class CommandError(TorboxError):
    """The program could not be executed; the exit code is that of env(1)."""

    def __init__(self, command: str, errno: int) -> None:
        super().__init__(f"{command}: {os.strerror(errno)}")
        self.command = command
        self.errno = errno
        self.exit_code = EXIT_NOT_FOUND if errno == ENOENT else EXIT_NOT_EXECUTABLE
