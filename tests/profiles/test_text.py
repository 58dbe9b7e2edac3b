# SPDX-License-Identifier: GPL-3.0-or-later
"""A profile written out is the same profile read again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torbox.profiles import load, text
from torbox.profiles.model import KEYS, build, value_of


@pytest.mark.parametrize("name", ["default", "shell", "browser", "curl"])
def test_a_shown_profile_reads_back_as_it_was(home: Path, name: str) -> None:
    profile = load.load(name, {}, home)
    again = load.loads(text.emit(profile))
    for path in KEYS:
        if path != "extends":
            assert value_of(again, path) == value_of(profile, path), path


def test_values_are_shown_with_the_file_they_are_from(home: Path) -> None:
    lines = text.emit(load.load("shell", {}, home)).splitlines()
    assert 'command = ["/bin/bash"]  # shell.toml' in lines
    assert "mtu = 65520" in lines
    assert "[net]" in lines


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@given(st.dictionaries(TEXT.filter(lambda name: name.isalpha() and name.isascii()), TEXT, max_size=3), TEXT)
def test_any_text_survives(variables: dict[str, str], word: str) -> None:
    profile = build({"env.set": variables, "command": (word, f'{word}\n"""\n{word}'), "description": word})
    again = load.loads(text.emit(profile))
    assert again.env == profile.env
    assert again.command == profile.command
    assert again.description == profile.description
