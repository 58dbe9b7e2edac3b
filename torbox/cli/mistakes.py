# SPDX-License-Identifier: GPL-3.0-or-later
"""What was probably meant by a command line that is not understood. Imported for a mistake alone."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from torbox.errors import UsageError
from torbox.profiles.kinds import did_you_mean, show

# What to say instead for a command that takes no program and was given one.
_TO_RUN = {"torbox shell": "torbox run --", "torbox verify": "torbox run --verify --"}


def unrecognized(command: str, extra: Sequence[str], options: Iterable[str]) -> UsageError:
    """Of words that a command ("torbox run") has no use for, the first is judged; `options` are the known.

    What follows an option that does not exist is not repeated: it may be a password.
    """
    advice = see_help(command)
    if extra[0].startswith("-"):
        return UsageError(f"{no_option(extra[0])}{_option_meant(extra[0], options)}", advice=advice)
    if command in _TO_RUN:
        advice = f"To run a program: {_TO_RUN[command]} {shlex.join(extra)}\n{advice}"
    return UsageError(f"unrecognized arguments: {' '.join(extra)}", advice=advice)


def no_command(words: Sequence[str], commands: Iterable[str]) -> UsageError:
    """For a command line whose first word is no command of torbox's: a program, or an option too early."""
    known = list(commands)
    if words[0].startswith("-"):
        return UsageError(
            f"{no_option(words[0])} before a command",
            advice=f"Options stand behind the command: torbox run {_name(words[0])} …\n{see_help('torbox')}",
        )
    return UsageError(
        f"no command of torbox is called {show(words[0])}{did_you_mean(words[0], known)}",
        advice=f"There are {', '.join(known)}.\nTo run a program: torbox run -- {shlex.join(words)}\n"
        f"{see_help('torbox')}",
    )


def no_choice(command: str, what: str, word: str, choices: Iterable[str]) -> UsageError:
    """For a word that is none of those that there are."""
    known = list(choices)
    return UsageError(
        f"{what}: {show(word)} is not one of {', '.join(known)}{did_you_mean(word, known)}",
        advice=see_help(command),
    )


def see_help(command: str) -> str:
    return f"See {command} --help."


def no_option(word: str) -> str:
    return f"there is no option {_name(word)}"


def _name(word: str) -> str:
    """The option without a value that is written in the same word."""
    return word.partition("=")[0] if word.startswith("--") else word[:2]


def _option_meant(word: str, options: Iterable[str]) -> str:
    """The option that is spelled nearly so; of one letter, those that begin with it."""
    name = _name(word)
    if name.startswith("--"):
        return did_you_mean(name, options)
    found = [each for each in options if each.startswith(f"-{name}")]
    return f"; did you mean {' or '.join(map(repr, found))}?" if found else ""
