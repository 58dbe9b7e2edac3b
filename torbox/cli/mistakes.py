# SPDX-License-Identifier: GPL-3.0-or-later
"""What was probably meant by a command line that is not understood. Imported for a mistake alone."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterable, Mapping, Sequence

from torbox.errors import UsageError
from torbox.profiles.kinds import did_you_mean, nearest, show

# What to say instead for a command that takes no program and was given one.
_TO_RUN = {"torbox shell": "torbox run --", "torbox verify": "torbox run --verify --"}


def unrecognized(command: str, extra: Sequence[str], options: Iterable[str]) -> UsageError:
    """Of words that a command ("torbox run") has no use for, the first is judged; `options` are the known.

    What follows an option is not repeated: it may be a password.
    """
    advice = see_help(command)
    if extra[0].startswith("-"):
        return UsageError(f"{no_option(extra[0])}{_option_meant(extra[0], options)}", advice=advice)
    if command in _TO_RUN:
        advice = f"To run a program: {_TO_RUN[command]} {_to_its_options(extra)}\n{advice}"
    return UsageError(f"unrecognized arguments: {_to_its_options(extra)}", advice=advice)


def no_command(words: Sequence[str], commands: Iterable[str], options: Mapping[str, str]) -> UsageError:
    """For a command line whose first word is no command of torbox's: a program, or an option.

    `options` are all that there are, and the command, "torbox run", behind which each stands; "torbox" is for
    those that stand before. What follows an option is not repeated: it may be a password.
    """
    known, advice = list(commands), see_help("torbox")
    if words[0].startswith("-"):
        name, meant = _name(words[0]), ""
        if name.startswith("--") and name not in options:
            meant = nearest(name, options)
        command = options.get(meant or name, "torbox run")
        if command != "torbox":
            advice = f"Options stand behind the command: {command} {meant or name} …\n{advice}"
        hint = f"; did you mean '{meant}'?" if meant else ""
        return UsageError(f"{no_option(name)} before a command{hint}", advice=advice)
    meant = did_you_mean(words[0], known)
    if not meant:
        advice = f"To run a program: torbox run -- {_to_its_options(words)}\n{advice}"
    return UsageError(
        f"no command of torbox is called {show(words[0])}{meant}",
        advice=f"There are {', '.join(known)}.\n{advice}",
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


def _to_its_options(words: Sequence[str]) -> str:
    """A program as it would be typed, as far as the first option; "…" for what follows."""
    shown = list(itertools.takewhile(lambda word: not word.startswith("-"), words))
    return shlex.join(shown) + " …" * (len(shown) < len(words))


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
