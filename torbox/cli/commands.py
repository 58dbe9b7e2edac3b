# SPDX-License-Identifier: GPL-3.0-or-later
"""What commands there are, read from the argument parser, for what is generated from it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import NamedTuple

from torbox.cli.entry import parser


class Command(NamedTuple):
    """A command with its verb, and the parser that knows it."""

    name: str  # "torbox profile show"
    help: str
    parser: argparse.ArgumentParser

    @property
    def options(self) -> list[argparse.Action]:
        return [action for action in _actions(self.parser) if action.option_strings]

    @property
    def arguments(self) -> list[argparse.Action]:
        """Those without a name; a group's verb is one."""
        return [action for action in _actions(self.parser) if not action.option_strings]

    @property
    def synopsis(self) -> str:
        words = [self.name] + (["[OPTION…]"] if self.options else [])
        for action in self.arguments:
            many = "…" if action.nargs == "+" else ""
            words.append(f"{action.metavar or action.dest}{many}")
        return " ".join(words)

    @property
    def is_group(self) -> bool:
        """Whether it wants a verb: it is no command by itself, and those below it are."""
        return any(isinstance(each, argparse._SubParsersAction) for each in self.parser._actions)


def commands() -> list[Command]:
    """Every command that can be given, in the order of --help."""
    return [command for command in _below("torbox", parser()) if not command.is_group]


def with_options() -> list[Command]:
    """Every command, and every group that has options of its own, which stand before the verb."""
    return [command for command in _below("torbox", parser()) if not command.is_group or command.options]


def where_options_stand() -> dict[str, str]:
    """Each option, and the first command that has it; "torbox" for those that stand before one."""
    found = dict.fromkeys(parser()._option_string_actions, "torbox")
    for command in with_options():
        for action in command.options:
            for name in action.option_strings:
                found.setdefault(name, command.name)
    return found


def verbs() -> dict[str, str]:
    """Everything that a command line's first words can be, with its help: groups and commands."""
    return {command.name: command.help for command in _below("torbox", parser())}


def _below(name: str, of: argparse.ArgumentParser) -> Iterator[Command]:
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for verb, inner in action.choices.items():
                yield Command(f"{name} {verb}", helps[verb], inner)
                yield from _below(f"{name} {verb}", inner)


def _actions(of: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in of._actions if action.dest != "help"]
