# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the proxy live? Asked when it ends a stream.

When a proxy is killed, its kernel ends its streams as it would end them orderly, and half a download
would pass for a whole one. A process that is gone cannot answer a greeting, though: it is greeted on
a connection of its own, and only if it answers does the guest see an end of file, else a reset.

One check serves all streams that ended before it began; those that end while it is under way share
the next.
"""

from __future__ import annotations

from collections.abc import Callable

from torbox.netstack.flow import Refusal
from torbox.upstream.interface import Stream

Verdict = Callable[[bool], None]
Begin = Callable[["VitalSign"], Stream]


class VitalSign:
    """`begin` opens a stream owned by this object that counts as connected when the proxy has answered."""

    __slots__ = ("_asked", "_begin", "_stream", "_waiting")

    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        self._asked: list[Verdict] = []
        self._waiting: list[Verdict] = []
        self._stream: Stream | None = None

    def ask(self, verdict: Verdict) -> None:
        """Call `verdict(lives)`, in a later turn."""
        if self._asked:
            self._waiting.append(verdict)
        else:
            self._asked.append(verdict)
            self._stream = self._begin(self)

    def _tell(self, lives: bool) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.abort()
        asked, self._asked = self._asked, []
        for verdict in asked:
            verdict(lives)
        if self._waiting:
            self._asked, self._waiting = self._waiting, []
            self._stream = self._begin(self)

    # -- StreamOwner -----------------------------------------------------------------------------

    def connected(self) -> None:
        self._tell(True)

    def refused(self, why: Refusal) -> None:
        self._tell(False)

    def moved(self) -> None:
        pass

    def eof(self) -> None:
        pass

    def broken(self) -> None:
        pass
