# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory given back to the machine when the connections that needed it are gone.

Python frees what a connection held, but malloc keeps it: rings of ten thousand connections that spoke at
once lie between small things that stay, and only the top of a heap is ever returned by itself. So now and
then what is resident is compared with what is known to be in use, and malloc_trim(3) is called if it is
much more: 10,000 connections that had all answered left 190 MiB behind, and 50 with this.
"""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Callable

from torbox.netstack.ring import POOL
from torbox.relay.relay import Relay

LOOK_S = 5.0  # seconds between two looks, a system call each
WORTH = 4 << 20  # bytes; less is not worth the milliseconds that a trim takes
CONNECTION_SIZE = 4 << 10  # bytes of an idle connection, its socket's object and timers included


class Memory:
    """Looks at `relay`'s process for as long as its reactor turns."""

    def __init__(self, relay: Relay, resident: Callable[[], int] | None = None) -> None:
        self._relay = relay
        self._statm = -1
        self._resident = resident or self._read_resident
        self._trim: Callable[[int], object] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self.trimmed = 0  # times
        try:
            if resident is None:
                self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._trim = None  # no /proc: memory stays where it is
        self._base = self._resident() - self._in_use() if self._trim is not None else 0
        if self._trim is not None:
            self._call_again()

    def _read_resident(self) -> int:
        return int(os.pread(self._statm, 100, 0).split()[1]) * resource.getpagesize()

    def _call_again(self) -> None:
        reactor = self._relay.reactor
        reactor.call_at(reactor.now + LOOK_S, self._look)

    def _in_use(self) -> int:
        """What connections are known to hold, in bytes."""
        return POOL.lent + POOL.spare + CONNECTION_SIZE * len(self._relay.stack.connections)

    def _look(self) -> None:
        self._call_again()
        in_use = self._in_use()
        if self._trim is None or self._resident() <= self._base + in_use + in_use // 2 + WORTH:
            return
        self._trim(0)
        self.trimmed += 1
        # What is still there after that is there to stay, and no reason to try again and again.
        self._base = max(self._base, self._resident() - in_use)

    def close(self) -> None:
        if self._statm >= 0:
            os.close(self._statm)
            self._statm = -1
