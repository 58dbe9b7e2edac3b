# SPDX-License-Identifier: GPL-3.0-or-later
"""`torbox verify`, and the part of it that `torbox run --verify` does first."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from torbox import userns
from torbox.cli.messages import say
from torbox.cli.run import plan_of
from torbox.errors import EXIT_TORBOX, SetupError
from torbox.verify import report, run
from torbox.verify.report import Row


def verify(options: argparse.Namespace) -> int:
    """Every probe, as a table or for machines; exit code 0 if nothing leaked."""
    user = userns.resolve_user(options.user, f"torbox {options.command}")
    if user is not None:
        userns.become(user)
    rows = probed(options, quick=False)
    if options.json:
        import json

        print(json.dumps(report.as_json(rows), indent=2))
    else:
        _show(rows)
    return 0 if all(row.held for row in rows) else EXIT_TORBOX


def hold_or_stop(options: argparse.Namespace) -> None:
    """The quick probes, before a program starts. SetupError names the first that did not hold."""
    broken = [row for row in probed(options, quick=True) if not row.held]
    if broken:
        what = "; ".join(f"{row.what}: {', '.join(row.leaks) or row.untold}" for row in broken)
        raise SetupError(run.STEP, 0, what, advice="Nothing was started. torbox verify shows every probe.")


def probed(options: argparse.Namespace, *, quick: bool) -> list[Row]:
    home = os.path.expanduser("~")
    the_plan = plan_of(options, ("true",), home)
    return run.verify(the_plan, _again(options), home, quick=quick)


def _again(options: argparse.Namespace) -> list[str]:
    """The options that make the same sandbox once more."""
    words = ["--profile", options.profile]
    if options.upstream is not None:
        words += ["--upstream", options.upstream]
    words += ["--enable-routing"] if options.enable_routing else []
    words += ["--host-loopback"] if options.host_loopback else []
    words += [f"--share={path}" for path in options.share]
    for name in options.allow_missing:
        words += ["--allow-missing", name]
    return words


def _show(rows: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, pad_edge=False)
    for row in rows:
        mark = Text("held", "green") if row.held else Text("LEAK" if row.leaks else "?", "red")
        table.add_row(mark, Text(row.area), Text(row.what))
        for leak in row.leaks or ([row.untold] if row.untold else []):
            table.add_row("", "", Text(leak, "red"))
    Console(highlight=False, soft_wrap=not sys.stdout.isatty()).print(table)
    broken = sum(not row.held for row in rows)
    if broken:
        say(f"{broken} of {len(rows)} probes did not hold")
