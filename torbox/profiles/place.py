# SPDX-License-Identifier: GPL-3.0-or-later
"""Where in a profile something stands, as faults begin with it: "browser.toml:12: net.hosts.'a.example'[0]".

A place is a source and the steps into it. Its line is looked up when somebody asks for it, which nobody
does on the way to a program's start.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from torbox.profiles.kinds import dotted

if TYPE_CHECKING:
    from torbox.profiles.lines import Steps


class Source:
    """A file as faults call it, and its text; without one (None) no line is ever told."""

    def __init__(self, label: str, text: str | None = None) -> None:
        self.label = label
        self._text = text
        self._lines: Mapping[Steps, int] | None = None

    def line(self, steps: Steps) -> int:
        """The line of what stands there, or else of what it stands in; 0 if that is not known."""
        if self._text is None:
            return 0
        if self._lines is None:
            from torbox.profiles.lines import scan  # for a fault alone

            self._lines = scan(self._text)
        while steps and steps not in self._lines:
            steps = steps[:-1]
        return self._lines.get(steps, 0)


class Place(NamedTuple):
    """A key, a table or an item of a list in a source; `within`: steps further in, to what is meant of it."""

    source: Source
    steps: Steps = ()
    within: Steps = ()

    def inside(self, step: str | int) -> Place:
        """A key of the table, or an item of the list, that stands here."""
        return Place(self.source, (*self.steps, step))

    def at(self, step: str) -> Place:
        """A key of the table that stands here, as something the table itself is at fault with."""
        return Place(self.source, self.steps, (step,))

    @property
    def spot(self) -> str:
        """File and line, "browser.toml:12"; the file alone where the line is not known."""
        line = self.source.line(self.steps + self.within)
        return f"{self.source.label}:{line}" if line else self.source.label

    @property
    def key(self) -> str:
        """What a user would call it: "net.hosts.'a.example'[0]"."""
        name = ""
        for step in self.steps:
            name = f"{name}[{step}]" if isinstance(step, int) else dotted(name, step)
        return name

    def __str__(self) -> str:
        return f"{self.spot}: {self.key}" if self.steps else self.spot


def in_order(faults: Iterable[str]) -> list[str]:
    """Faults by file, of which that of the first fault comes first, and by line, as somebody mends them.

    They come from several looks at a profile: its tables, what contradicts what, what is there to be shared.
    """
    files: dict[str, int] = {}

    def order(fault: str) -> tuple[int, int]:
        spot, _, _ = fault.partition(": ")
        match = re.fullmatch(
            r"(.*?):(\d+)(?::\d+)?", spot
        )  # file and line, and of what is no TOML the column
        file = match[1] if match else spot
        return files.setdefault(file, len(files)), int(match[2]) if match else 0

    return sorted(faults, key=order)
