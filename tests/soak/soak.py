# SPDX-License-Identifier: GPL-3.0-or-later
"""Many connections through one worker, and whether anything is left of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from tests.siege.live import Live
from tests.soak import guest
from torbox.relay.memory import LOOK_S

WARM = 500  # short connections before the first look that counts


@dataclass
class Look:
    """At one moment: what was done, the worker's memory in bytes, its descriptors."""

    what: str
    resident: int
    proportional: int
    descriptors: int

    def __str__(self) -> str:
        return (
            f"{self.what:32} RSS {self.resident / 2**20:6.1f} MiB   PSS {self.proportional / 2**20:6.1f} MiB"
            f"   {self.descriptors} descriptors"
        )


@dataclass
class Report:
    looks: list[Look] = field(default_factory=list)
    counters: dict[str, Any] = field(default_factory=dict)
    opened: int = 0  # connections that were made in all
    answered: int = 0  # of those that were held
    right: int = 0  # of the short ones
    short_s: float = 0.0

    @property
    def growth(self) -> float:
        """The worker's memory in the end, as a part of what it was when warm."""
        return self.looks[-1].resident / self.looks[1].resident

    @property
    def stayed(self) -> int:
        """What the most that were ever open have left behind for good, in bytes."""
        return self.looks[-1].resident - self.looks[0].resident


def _look(live: Live, what: str) -> Look:
    counters = live.worker.counters()
    return Look(what, live.worker.resident(), live.worker.proportional(), counters["descriptors"])


def _is_idle(counters: dict[str, Any]) -> bool:
    return not (counters["connections"] or counters["flows"] or counters["lent"])


def _wait_for_memory(live: Live, wanted: int) -> None:
    """A worker looks every few seconds at what it can give back."""
    end = time.monotonic() + 1.4 * LOOK_S
    while live.worker.resident() > 1.02 * wanted and time.monotonic() < end:
        time.sleep(0.2)


def soak(live: Live, steps: tuple[int, ...], shorts: int, limit_s: float, *, idle_s: float = 0.0) -> Report:
    """Hold as many connections as each of `steps` says, which must all answer; then `shorts` short ones.

    `idle_s` seconds after the answers there is another look at those that are held.
    """
    report = Report()
    live.ask(guest.short, 10, limit_s)
    live.worker.until(_is_idle)
    report.looks.append(_look(live, "fresh"))
    live.ask(guest.hold, max(steps), limit_s=limit_s)
    live.ask(guest.all_answer, limit_s=limit_s)
    live.ask(guest.let_go)
    live.ask(guest.short, WARM, limit_s, limit_s=limit_s)
    live.worker.until(_is_idle)
    _wait_for_memory(live, report.looks[0].resident)
    report.looks.append(_look(live, "warm: as many once, all closed"))
    for count in steps:
        live.ask(guest.hold, count, limit_s=limit_s)
        report.answered = live.ask(guest.all_answer, limit_s=limit_s)
        report.looks.append(_look(live, f"{count:,} open, {report.answered:,} answer"))
        if idle_s:
            time.sleep(idle_s)
            report.looks.append(_look(live, f"{count:,} open and idle"))
    live.ask(guest.let_go)
    live.worker.until(_is_idle)
    _wait_for_memory(live, report.looks[1].resident)
    report.looks.append(_look(live, "all closed"))
    began = time.monotonic()
    report.right = live.ask(guest.short, shorts, limit_s, limit_s=limit_s)
    report.short_s = time.monotonic() - began
    report.counters = live.worker.until(_is_idle)
    _wait_for_memory(live, report.looks[1].resident)
    report.looks.append(_look(live, f"after {shorts:,} short ones"))
    report.opened = 10 + WARM + 2 * max(steps) + shorts
    return report
