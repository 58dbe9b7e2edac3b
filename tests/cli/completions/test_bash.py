# SPDX-License-Identifier: GPL-3.0-or-later
"""bash completes torbox's command lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.completions.shells import LINES, Offered, needs, output, prepared

ASK = """
source "$1"
COMP_LINE=$2 COMP_POINT=${#2}
read -ra COMP_WORDS <<<"${2//:/ : }"
[[ $2 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_torbox
printf '%s\\n' "${COMPREPLY[@]}"
"""
pytestmark = needs("bash")


@pytest.fixture
def offered(tmp_path: Path) -> Iterator[Offered]:
    with prepared("bash", tmp_path) as (script, environment):
        yield lambda line: set(
            output(["bash", "-c", ASK, "bash", str(script), line], environment).splitlines()
        )


@pytest.mark.parametrize(("line", "some", "none"), LINES, ids=[line for line, _, _ in LINES])
def test_what_may_follow_is_offered(offered: Offered, line: str, some: set[str], none: set[str]) -> None:
    found = offered(line)
    assert some <= found
    assert not none & found


def test_only_what_is_behind_a_colon_is_put_in(offered: Offered) -> None:
    assert offered("torbox run --upstream tor://1") == {"//127.0.0.1:9050"}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("torbox run --profile=chr", {"chromium"}),
        ("torbox shell -v --profile=chr", {"chromium"}),
        ("torbox run --upstream=tor://1", {"//127.0.0.1:9050"}),
        ("torbox run --allow-missing=lan", {"landlock"}),
        ("torbox run --no-such=chr", {""}),
        ("torbox run --profile --profile=chr", {""}),
    ],
)
def test_only_what_is_behind_an_equals_sign_is_put_in(offered: Offered, line: str, found: set[str]) -> None:
    assert offered(line) == found


def test_a_value_behind_an_equals_sign_is_no_reason_to_skip_the_next_word(offered: Offered) -> None:
    assert "--dry-run" in offered("torbox run --profile=chromium --dry")


def test_a_profiles_name_is_a_word_and_never_a_command(offered: Offered, tmp_path: Path) -> None:
    own = tmp_path / "home" / ".config" / "torbox" / "profiles"
    own.mkdir(parents=True)
    (own / "my $(echo two) one.toml").write_text("")
    assert offered("torbox run --profile my") == {r"my\ \$\(echo\ two\)\ one"}


def test_bash_completions_own_help_is_used_for_the_program(tmp_path: Path) -> None:
    ask = '_command_offset() { printf "from %s\\n" "${COMP_WORDS[$1]}"; }\n' + ASK
    with prepared("bash", tmp_path) as (script, environment):
        line = "torbox run --upstream tor://127.0.0.1:9050 -- curl --pro"
        assert "from curl" in output(["bash", "-c", ask, "bash", str(script), line], environment)
