# SPDX-License-Identifier: GPL-3.0-or-later
"""How far Tor's start has come, and what is never said."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from torbox.cli.progress import BootstrapProgress


class Terminal:
    """A standard error that says it is a terminal."""

    def __init__(self) -> None:
        self.drawn = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.drawn += text
        return len(text)

    def flush(self) -> None:
        pass


def test_a_pipe_gets_one_line_however_often_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    progress = BootstrapProgress(quiet=False)
    for percent in (5, 50, 100):
        progress.update(percent, "loading")
    progress.close()
    assert capsys.readouterr().err == "torbox: starting Tor …\n"


def test_and_with_v_one_line_for_each_step(capsys: pytest.CaptureFixture[str]) -> None:
    progress = BootstrapProgress(quiet=False, verbose=True)
    for percent, summary in ((5, "Connecting"), (5, "Connecting"), (50, "Loading"), (100, "Done")):
        progress.update(percent, summary)
    progress.close()
    assert capsys.readouterr().err == (
        "torbox: starting Tor: 5 %, Connecting\n"
        "torbox: starting Tor: 50 %, Loading\n"
        "torbox: starting Tor: 100 %, Done\n"
    )


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    progress = BootstrapProgress(quiet=True)
    progress.update(5, "loading")
    progress.close()
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal: Any = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    progress = BootstrapProgress(quiet=False)
    progress.update(5, "conn")
    progress.update(45, "loading descriptors")
    progress.close()
    progress.close()
    assert "torbox: starting Tor" in terminal.drawn
    assert "45 % loading descriptors" in terminal.drawn
    assert terminal.drawn.endswith(("\x1b[?25h", "\x1b[2K"))
