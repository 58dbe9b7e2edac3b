# SPDX-License-Identifier: GPL-3.0-or-later
"""torbox(1) follows from the argument parser."""

from __future__ import annotations

from pathlib import Path

from tests.test_roff import needs_groff, rendered
from torbox.cli import manual
from torbox.cli.commands import with_options

DOCUMENT = Path(__file__).parents[2] / "docs" / "torbox.1"


def test_the_document_is_fresh() -> None:
    assert DOCUMENT.read_text() == manual.page(), "run: make docs"


@needs_groff
def test_every_command_and_option_can_be_read_and_those_of_its_own_are_explained() -> None:
    read = rendered(manual.page()).replace("\N{HYPHEN}", "-").replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    for command in with_options():
        assert command.synopsis in read
        _, _, own = read.rpartition(f" {command.synopsis} {command.help[:1].upper()}{command.help[1:]}. ")
        assert own, command.name
        for action in command.options:
            term = ", ".join(action.option_strings) + (f" {action.metavar}" if action.metavar else "")
            assert term in own, (command.name, term)
            assert action.help
            assert action.help[1:] in read, term


@needs_groff
def test_exit_codes_and_examples_are_there() -> None:
    read = rendered(manual.page())
    for word in ("125", "126", "127", "128+N", "torbox run -- curl https://", "XDG_CONFIG_HOME"):
        assert word in read
