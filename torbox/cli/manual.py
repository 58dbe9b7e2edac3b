# SPDX-License-Identifier: GPL-3.0-or-later
"""torbox(1): commands and options as the argument parser has them, with what it does not say around them.

`make docs` writes docs/torbox.1; a test fails while the file differs from what this gives.
"""

from __future__ import annotations

import argparse

from torbox import roff
from torbox.cli.commands import commands, with_options
from torbox.cli.entry import parser
from torbox.errors import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, EXIT_TORBOX, EXIT_USAGE

DESCRIPTION = """
torbox runs a program in a sandbox of its own, made of Linux namespaces, as an ordinary user. The program sees
an ordinary network interface; the other end of it is a TCP/IP stack in a process of torbox's, which sends
every connection through Tor, or refuses it. The program need not know of Tor or of proxies.

All traffic goes through the upstream, or nowhere. If a protection cannot be applied, the program does not
start. When torbox dies, the program dies.

The program starts in a home directory of its own, which is empty unless a profile says otherwise; see
`torbox-profile`(5). What it prints is all that is seen: torbox's own words go to standard error and begin
with `torbox:`.
"""
EXITS = (
    (f"{EXIT_USAGE}", "The command line or a profile is wrong; nothing was started."),
    (f"{EXIT_TORBOX}", "torbox itself failed, or a probe of `torbox verify` did not hold."),
    (f"{EXIT_NOT_EXECUTABLE}", "The program is there but cannot be executed."),
    (f"{EXIT_NOT_FOUND}", "There is no such program."),
    ("128+N", "Signal N ended the program."),
    ("anything else", "The program's own."),
)
ENVIRONMENT = (
    ("XDG_CONFIG_HOME", "Profiles of one's own are in `torbox/profiles` there; by default in `~/.config`."),
    ("XDG_STATE_HOME", "What torbox's own Tor knows is in `torbox` there; by default in `~/.local/state`."),
    (
        "XDG_RUNTIME_DIR",
        "Locks of named sandboxes and the sockets of torbox's own Tor are in `torbox` there.",
    ),
    ("SUDO_UID, DOAS_USER", "Started as root, torbox becomes this user, unless `--user` names another."),
    ("TORBOX_TRACEBACK", "Set to anything, a fault of torbox's own is told with where in it it happened."),
)
FILES = (
    ("~/.config/torbox/profiles/NAME.toml", "Profiles of one's own."),
    ("/etc/torbox/profiles/NAME.toml", "The system's."),
)


def page() -> str:
    """The whole text of docs/torbox.1."""
    whole = parser()
    parts = [
        roff.title("torbox", 1, "run any program in a rootless sandbox whose only way out is Tor"),
        roff.section("Synopsis"),
        roff.example(command.synopsis for command in commands()),
        roff.section("Description"),
        roff.from_markdown(DESCRIPTION),
        roff.section("Commands"),
    ]
    told: dict[str, tuple[str, str | None]] = {}  # options by what they say, and whose they are
    for command in with_options():
        parts += [roff.subsection(command.synopsis), roff.paragraph(_sentence(command.help))]
        for action in command.arguments:
            if action.help:
                parts.append(roff.item(str(action.metavar), _sentence(action.help)))
        again = []
        for action in command.options:
            term = _term(action)
            if told.get(term, ("", None))[1] == action.help:
                again.append((term, told[term][0]))
            else:
                told.setdefault(term, (command.name, action.help))
                parts.append(roff.item(term, _sentence(action.help or "")))
        if again:
            terms = ", ".join(dict.fromkeys(term for term, _ in again))
            whose = ", ".join(dict.fromkeys(f"`{name}`" for _, name in again))
            parts.append(
                roff.paragraph(f"It takes these as well, which mean what they do for {whose}: {terms}.")
            )
    parts += [roff.section("Exit status"), *(roff.item(code, what) for code, what in EXITS)]
    parts += [roff.section("Environment"), *(roff.item(name, what) for name, what in ENVIRONMENT)]
    parts += [roff.section("Files"), *(roff.item(name, what) for name, what in FILES)]
    parts += [roff.section("Examples"), roff.example(_examples(whole.epilog or ""))]
    parts += [roff.section("See also"), roff.paragraph("`torbox-profile`(5), `tor`(1), `namespaces`(7)")]
    return roff.page(*parts)


def _term(action: argparse.Action) -> str:
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    return f"{names} {action.metavar}" if action.metavar else names


def _sentence(text: str) -> str:
    """A help text as a sentence of its own."""
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _examples(epilog: str) -> list[str]:
    _, _, behind = epilog.partition("examples:\n")
    return [line.strip() for line in behind.partition("\n\n")[0].splitlines()]


if __name__ == "__main__":  # make docs
    import sys

    sys.stdout.write(page())
