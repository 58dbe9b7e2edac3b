# SPDX-License-Identifier: GPL-3.0-or-later
"""What can stand where on a command line, as all three shells want to know it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from torbox import allowance
from torbox.cli.commands import Command, verbs

UPSTREAMS = ("tor", "tor://127.0.0.1:9050", "tor+unix:/run/tor/socks", "socks5://", "direct", "block")
RUN = "torbox run"  # the one command that another program's words follow


def takes(action: argparse.Action) -> str:
    """What its value is: one of its "words", upstream, profile, home, user, file, any "text", none ""."""
    if action.nargs == 0:
        return ""
    if choices(action):
        return "words"
    by_metavar = {"NAME|FILE": "profile", "URL": "upstream", "HOME": "home"}
    if action.dest == "user":
        return "user"
    metavar = str(action.metavar)
    return by_metavar.get(metavar, "file" if metavar.startswith(("PATH", "FILE")) else "text")


def choices(action: argparse.Action) -> list[str]:
    """The words of which its value is one; none where it can be another."""
    return list(allowance.WHAT) if action.metavar == "WHAT" else list(map(str, action.choices or ()))


def valued(command: Command) -> Iterator[argparse.Action]:
    """The options that a value follows."""
    return (action for action in command.options if takes(action))


def names(command: Command) -> list[str]:
    """How its options are written."""
    return [*(name for action in command.options for name in action.option_strings), "--help"]


def verbs_by_path() -> dict[str, list[str]]:
    """The words that may follow "torbox profile", and the like, and last "torbox"."""
    found: dict[str, list[str]] = {}
    for path in verbs():
        above, _, word = path.rpartition(" ")
        found.setdefault(above, []).append(word)
    return dict(sorted(found.items(), key=lambda each: -len(each[0])))
