# SPDX-License-Identifier: GPL-3.0-or-later
"""One attack on a live worker, with an honest program beside the hostile one, and what came of it."""

from __future__ import annotations

import ctypes
import os
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from tests.siege.honest import Told, requests
from tests.siege.live import Live

PR_SET_PDEATHSIG = 1


@dataclass
class Report:
    name: str
    during: Told
    after: Told
    grown: int  # bytes the worker's memory had grown by at its most

    def __str__(self) -> str:
        return f"{self.name:18} during: {self.during}; after: {self.after}; {self.grown >> 20:+d} MiB"


def die_with_parent() -> None:
    """An attack lasts no longer than the test, however that ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def besieged(attack: Callable[[], None], seconds: float) -> tuple[Told, Told]:
    """Runs inside: the honest program's fortune while the attack lasts, and after it."""
    ready, told = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            die_with_parent()
            os.write(told, b"x")
            attack()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    try:
        os.close(told)
        os.read(ready, 1)
        os.close(ready)
        time.sleep(min(0.3, seconds / 4))  # for the attack to unfold
        during = requests(seconds)
        fell = os.waitpid(pid, os.WNOHANG)[0]
        assert not fell, "the attack ended by itself"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return during, requests(min(seconds, 1.0) / 2)


def siege(live: Live, attack: Callable[[], None], seconds: float) -> Report:
    before = most = live.worker.resident()
    live.tell(besieged, attack, seconds)
    while not live.answered(0.1):
        most = max(most, live.worker.resident())
        assert live.worker.alive()
    during, after = live.answer()
    return Report(attack.__name__, during, after, most - before)
