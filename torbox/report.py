# SPDX-License-Identifier: GPL-3.0-or-later
"""What a process that torbox forks to serve beside the sandbox says to torbox, by a pipe, as it starts.

    (MISSING name NUL why LF)*    protections that it does without
    READY                         it serves
    FAILED reason                 it cannot; also behind READY, as long as it holds the pipe

It lets go of the pipe before it reads what a hostile program has sent, so nothing of this is ever such a
program's word.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from torbox.errors import SetupError

READY = b"\x01"
MISSING = b"\x02"
FAILED = b"\x00"
CAPTURE_LOST = 3  # exit status of a worker that could not write down a packet, when it has no pipe any more
ROOM = "Is there room for the file of --pcap?"  # the advice then
_LIMIT = 4096  # bytes; the longest that one says is one error message


class Report:
    """The end of the process that reports; each method says nothing once it is closed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def missing(self, name: str, why: str) -> None:
        """`why` may have any text in it; line breaks become spaces."""
        self._say(MISSING + f"{name}\0{why.replace(chr(10), ' ')}\n".encode("utf-8", "replace"))

    def ready(self) -> bool:
        """False if nobody is there any more to hear it."""
        return self._say(READY)

    def failed(self, reason: str) -> None:
        """The last that is said."""
        self._say(FAILED + reason.encode("utf-8", "backslashreplace"))
        self.close()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1  # the number may soon be that of something else

    def _say(self, message: bytes) -> bool:
        if self._descriptor < 0:
            return False
        try:
            os.write(self._descriptor, message)
        except BrokenPipeError:
            return False
        return True


def hear(reader: int, tell: Callable[[str, str], None]) -> str | None:
    """Wait until it is ready: None; or the reason why it cannot be, "" if it ended without a word.

    `tell(name, why)` hears of each protection that it does without.
    """
    said = b""
    while True:
        while said.startswith(MISSING) and b"\n" in said:
            line, _, said = said.removeprefix(MISSING).partition(b"\n")
            name, _, why = line.decode("utf-8", "replace").partition("\0")
            tell(name, why)
        if said == READY:
            return None
        if said.startswith(READY):  # it has failed since: what is read here would not be read by `last_words`
            return _reason(said.removeprefix(READY))
        if not (chunk := os.read(reader, _LIMIT)):
            return _reason(said)
        said += chunk


def reason_of(error: BaseException) -> str:
    """What is said of an error that nobody has foreseen, or of a SetupError."""
    return str(error) if isinstance(error, SetupError) else f"{type(error).__name__}: {error}"


def last_words(reader: int) -> str:
    """Of one that was ready and has ended: why, if it has said so; else "". It does not wait."""
    os.set_blocking(reader, False)
    try:
        return _reason(os.read(reader, _LIMIT))
    except BlockingIOError:
        return ""


def _reason(said: bytes) -> str:
    return said.removeprefix(FAILED).decode("utf-8", "replace") if said.startswith(FAILED) else ""
