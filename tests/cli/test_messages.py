# SPDX-License-Identifier: GPL-3.0-or-later
"""torbox speaks in lines that are its own, whatever is in them and whoever listens."""

from __future__ import annotations

import sys

import pytest

from torbox.cli import messages
from torbox.errors import SetupError


def test_every_line_of_a_complaint_is_torboxs(capsys: pytest.CaptureFixture[str]) -> None:
    messages.complain(SetupError("step", 1, "place", advice="do this\nand that"))
    assert capsys.readouterr().err.splitlines() == [
        "torbox: step: place: Operation not permitted",
        "torbox: do this",
        "torbox: and that",
    ]


def test_what_could_move_the_cursor_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    messages.say("a\x1b[2Jb\udcff\u202e")
    assert (
        capsys.readouterr().err
        == "torbox: a\N{REPLACEMENT CHARACTER}[2Jb" + "\N{REPLACEMENT CHARACTER}" * 2 + "\n"
    )


def test_a_closed_standard_error_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    messages.say("nobody listens")
