# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands, as the argument parser has them."""

from __future__ import annotations

from torbox.cli.commands import commands, with_options


def test_every_command_is_found_with_its_verb_and_its_help() -> None:
    found = {command.name: command for command in commands()}
    assert {"torbox run", "torbox shell", "torbox doctor", "torbox profile show"} <= set(found)
    assert "torbox profile" not in found
    assert all(command.help for command in found.values())


def test_every_option_and_argument_is_named_in_help() -> None:
    for command in with_options():
        for action in command.options:
            assert action.help, (command.name, action.option_strings)
        for action in command.arguments:
            assert action.metavar, command.name


def test_a_synopsis_is_what_is_typed() -> None:
    found = {command.name: command.synopsis for command in commands()}
    assert found["torbox run"] == "torbox run [OPTION…] [--] COMMAND [ARG…]"
    assert {command.name: command.synopsis for command in with_options()}["torbox home"] == (
        "torbox home [OPTION…] VERB"
    )
    assert found["torbox profile list"] == "torbox profile list"
    assert found["torbox profile check"] == "torbox profile check NAME|FILE…"
