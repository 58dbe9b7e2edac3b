# SPDX-License-Identifier: GPL-3.0-or-later
"""fish completes torbox's command lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.completions.shells import LINES, Offered, needs, output, prepared

pytestmark = needs("fish")


@pytest.fixture
def offered(tmp_path: Path) -> Iterator[Offered]:
    with prepared("fish", tmp_path) as (script, environment):

        def offered(line: str) -> set[str]:
            ask = f"source {script}; complete -C '{line}'"
            found = output(["fish", "--no-config", "-c", ask], environment)
            return {each.partition("\t")[0] for each in found.splitlines()}

        yield offered


@pytest.mark.parametrize(("line", "some", "none"), LINES, ids=[line for line, _, _ in LINES])
def test_what_may_follow_is_offered(offered: Offered, line: str, some: set[str], none: set[str]) -> None:
    found = offered(line)
    assert some <= found
    assert not none & found


def test_a_value_may_be_in_the_options_own_word(offered: Offered) -> None:
    assert offered("torbox run --profile=chr") == {"--profile=chromium"}


def test_behind_run_the_programs_own_completion_is_asked(offered: Offered) -> None:
    assert "--resolved" in offered("torbox run -v --profile curl torbox profile show --res")
