# SPDX-License-Identifier: GPL-3.0-or-later
"""A profile written out is the same profile read again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.profiles.conftest import Write
from torbox.profiles import load, search, text
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


def test_a_resolved_profile_names_the_line_of_each_part_and_reads_back_as_it_was(
    home: Path, write: Write
) -> None:
    base = write(
        "base",
        """\
command = ["b"]
[mounts]
read_only = [
    "/srv/a", "/srv/b",
]
[net.hosts]
"x.example" = ["192.0.2.1"]
[home.files]
".x" = '''
one
'''
""",
    )
    heir = write("heir", 'extends = "base"\nmounts.read_only = ["/srv/c"]\nnet.mtu = 1500\n')
    profile = load.load("heir", {}, home)
    shown = text.emit(profile, resolved=True)
    lines = shown.splitlines()
    assert lines[:2] == [f"# {heir}", f"# {base}"]
    assert 'command = ["b"]  # base.toml:1' in lines
    at = lines.index("read_only = [")
    assert lines[at + 1 : at + 5] == [
        '    "/srv/a",  # base.toml:4',
        '    "/srv/b",  # base.toml:4',
        '    "/srv/c",  # heir.toml:2',
        "]",
    ]
    assert "mtu = 1500  # heir.toml:3" in lines
    assert 'hosts."x.example" = ["192.0.2.1"]  # base.toml:7' in lines
    assert '"""  # base.toml:9' in lines
    assert "ipv6 = true  # torbox's default" in lines
    assert "read_write = []  # torbox's default" in lines
    again = load.loads(shown)
    assert all(value_of(again, path) == value_of(profile, path) for path in KEYS if path != "extends")


@pytest.mark.parametrize("name", sorted(path.stem for path in search.shipped().iterdir()))
def test_every_shipped_profile_resolved_reads_back_as_it_was(home: Path, name: str) -> None:
    profile = load.load(name, {}, home)
    again = load.loads(text.emit(profile, resolved=True))
    assert all(value_of(again, path) == value_of(profile, path) for path in KEYS if path != "extends")


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@given(st.dictionaries(TEXT.filter(lambda name: name.isalpha() and name.isascii()), TEXT, max_size=3), TEXT)
def test_any_text_survives(variables: dict[str, str], word: str) -> None:
    profile = build({"env.set": variables, "command": (word, f'{word}\n"""\n{word}'), "description": word})
    again = load.loads(text.emit(profile))
    assert again.env == profile.env
    assert again.command == profile.command
    assert again.description == profile.description
