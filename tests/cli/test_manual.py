# SPDX-License-Identifier: GPL-3.0-or-later
"""torbox(1) follows from the argument parser."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.test_roff import needs_groff, rendered
from torbox.cli import manual
from torbox.cli.commands import with_options

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "torbox.1"


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


def test_the_line_of_the_readme_puts_the_pages_where_man_looks(tmp_path: Path) -> None:
    """An old pipx leaves them in its virtual environment; this one is made up, the names are the wheel's."""
    (line,) = re.findall(r"^    (.*cp -rsf.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    wheel = re.findall(r'^"docs/.*" = "(share/man/.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert len(wheel) == 2
    for page in wheel:
        path = tmp_path / "venvs" / "torbox" / page
        path.parent.mkdir(parents=True)
        path.write_text(page)
    pipx = tmp_path / "pipx"
    pipx.write_text(
        f"#!/bin/sh\n[ \"$*\" = 'environment --value PIPX_LOCAL_VENVS' ] && echo {tmp_path}/venvs\n"
    )
    pipx.chmod(0o755)
    for _ in range(2):  # of an upgrade, too
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path / "home")}
        subprocess.run(["sh", "-c", line], env=environment, check=True, timeout=20)
    for page in wheel:
        assert (tmp_path / "home" / ".local" / page).read_text() == page
