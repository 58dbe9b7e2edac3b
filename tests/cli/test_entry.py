# SPDX-License-Identifier: GPL-3.0-or-later
"""The frame of every command: help, version, errors in one form."""

from __future__ import annotations

import pytest

from torbox import __version__
from torbox.cli import entry as cli


def test_version_and_help_go_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    for argument, wanted in (("--version", __version__), ("--help", "exit codes")):
        with pytest.raises(SystemExit) as caught:
            cli.main([argument])
        assert caught.value.code == 0
        assert wanted in capsys.readouterr().out


def test_no_command_is_wrong_usage_with_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "torbox run --upstream socks5:" in captured.err


def test_a_bug_is_one_line_and_a_traceback_only_on_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_options: object) -> int:
        raise ZeroDivisionError("by design")

    monkeypatch.setattr(cli, "_dispatch", broken)
    monkeypatch.delenv("TORBOX_TRACEBACK", raising=False)
    assert cli.main(["doctor"]) == 125
    said = capsys.readouterr().err
    assert "this is a bug in torbox: ZeroDivisionError: by design" in said
    assert "Traceback" not in said
    monkeypatch.setenv("TORBOX_TRACEBACK", "1")
    cli.main(["doctor"])
    assert "Traceback" in capsys.readouterr().err


def test_options_after_the_command_are_the_commands() -> None:
    options = cli._parse(["run", "-q", "--", "curl", "-v", "--profile", "x"])
    assert options.argv == ["--", "curl", "-v", "--profile", "x"]
    assert options.profile == "default"
    options = cli._parse(["run", "curl", "-v", "--upstream", "x"])
    assert options.argv == ["curl", "-v", "--upstream", "x"]
    assert options.upstream is None
