# SPDX-License-Identifier: GPL-3.0-or-later
"""`torbox home list` and `reset`: the homes that are kept, and the end of one."""

from __future__ import annotations

import argparse
import os
import sys

from torbox import homes, userns
from torbox.cli.messages import complain, say
from torbox.errors import TorboxError

_WORDS = {"home": "a home", "changes": "changes to your own"}


def home(options: argparse.Namespace) -> int:
    user = userns.resolve_user(options.user, f"torbox {options.command}")
    if user is not None:
        userns.become(user)
    whose = os.path.expanduser("~")
    return _list(whose) if options.home_command == "list" else _reset(options.names, whose)


def _list(whose: str) -> int:
    """One line for each: name, what it holds, the pid of who uses it, directory."""
    found = homes.kept(os.environ, whose)
    rows = [
        (each.name, ", ".join(_WORDS[part] for part in each.holds), each.holder, each.path) for each in found
    ]
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(row))
        return 0
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in ("home", "holds", "used by", "directory"):
        table.add_column(column, header_style="bold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(highlight=False, soft_wrap=True).print(table)
    return 0


def _reset(names: list[str], whose: str) -> int:
    """Each by itself, so that one in use does not keep the others; the exit code is the last fault's."""
    code = 0
    for name in names:
        try:
            homes.reset(name, os.environ, whose)
        except TorboxError as error:
            complain(error)
            code = error.exit_code
        else:
            say(f"{name}: removed")
    return code
