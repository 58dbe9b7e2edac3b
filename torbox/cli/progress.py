# SPDX-License-Identifier: GPL-3.0-or-later
"""How far Tor's start has come: a bar on a terminal, a line elsewhere, or with -v one for each step."""

from __future__ import annotations

import sys
from typing import Any

from torbox.cli.messages import say


class BootstrapProgress:
    """Drawn from the first `update` on: a Tor that runs already costs nothing, not even the import."""

    def __init__(self, *, quiet: bool, verbose: bool = False) -> None:
        self._quiet = quiet
        self._verbose = verbose
        self._bar: Any = None
        self._task: Any = None
        self._said = ""

    def update(self, percent: int, summary: str) -> None:
        """Tor's bootstrap has come this far."""
        if self._quiet:
            return
        if not sys.stderr.isatty():
            line = f"starting Tor: {percent} %, {summary}" if self._verbose else "starting Tor …"
            if line != self._said:
                say(line)
                self._said = line
            return
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("torbox: starting Tor"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} % {task.description}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(summary, total=100)
            self._bar.start()
        self._bar.update(self._task, completed=percent, description=summary)

    def close(self) -> None:
        """Take the bar away; the terminal is the program's from now on."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
