# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: the only place that prints and exits.

    entry     what every command shares: arguments, errors, exit codes
    messages  how torbox speaks
    run       `torbox run` and `torbox shell`
    dry_run   the plan of either, printed
    show      `torbox doctor` and `torbox profile …`, drawn with rich
    mistakes  what was meant by a command line that is not understood
    commands  what the argument parser knows, for what is made from it: manual (torbox(1)), completions

What the program prints is all that is seen; torbox's own words go to standard error and begin with
`torbox:`. rich is imported by the commands that draw, never on the way to a program's start.
"""

from torbox.cli.entry import command, main

__all__ = ["command", "main"]
