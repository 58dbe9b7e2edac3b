# SPDX-License-Identifier: GPL-3.0-or-later
"""torbox's own words: on standard error, each line begun with `torbox:`."""

from __future__ import annotations

import sys

from torbox.errors import TorboxError


def complain(error: TorboxError) -> None:
    """One message on standard error, each line of it torbox's."""
    lines = [*error.message.splitlines(), *error.advice.splitlines()]
    for line in lines:
        say(line)


def say(line: str) -> None:
    """A line of torbox's own, whatever bytes a name in it had."""
    printable = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line
    )
    if sys.stderr is None:  # it was closed before torbox started
        return
    try:
        sys.stderr.write(f"torbox: {printable}\n")
        sys.stderr.flush()
    except (OSError, ValueError, UnicodeError):
        pass  # standard error is closed; the exit code must do
