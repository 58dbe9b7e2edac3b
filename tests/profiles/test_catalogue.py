# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of profiles: each name once, and none as fine that no program could be run with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.profiles.conftest import Write
from torbox.profiles import catalogue, search


def test_all_profiles_are_listed_once_with_what_they_are_or_what_is_wrong(home: Path, write: Write) -> None:
    write("browser", 'description = "mine"')
    write("broken", "a = ")
    write("wordless", "description = 7")
    (home / ".config" / "torbox" / "profiles" / "notes.txt").write_text("")
    listed = catalogue.available({}, home)
    by_name = {each.name: each for each in listed}
    shipped = {path.stem for path in search.shipped().iterdir()}
    assert [each.name for each in listed] == sorted(shipped | {"broken", "wordless"})
    assert by_name["browser"].description == "mine"
    assert by_name["broken"].fault == "broken.toml:1: at its end: invalid value"
    assert by_name["wordless"].fault == "wordless.toml:1: description: 7 is not a text"
    assert all(by_name[name].description and not by_name[name].fault for name in shipped)


@pytest.mark.parametrize("name", ["curl", "git", "wget"])
def test_profiles_of_programs_that_save_files_say_where_those_end(home: Path, name: str) -> None:
    (listed,) = [each for each in catalogue.available({}, home) if each.name == name]
    assert "gone unless shared" in listed.description
    head = Path(listed.path).read_text().partition("description =")[0]
    assert "gone when it ends, unless it is" in head
    assert f"torbox run --profile {name} --share ." in head


@pytest.mark.parametrize(
    ("base", "told"),
    [
        ("a = ", "base.toml:1: at its end: invalid value"),
        ("net.mtu = 1", "base.toml:1: net.mtu: 1 is not a whole number of bytes from 1280 to 65520"),
        ('extends = "heir"', "base.toml:1: extends: 'heir' leads back to heir.toml"),
        ("x = 1\ny = 1", "base.toml:1: x: unknown key (and 1 more)"),
    ],
)
def test_a_profile_is_not_fine_if_its_base_is_not(home: Path, write: Write, base: str, told: str) -> None:
    write("heir", 'description = "fine by itself"\nextends = "base"')
    write("base", base)
    faults = {each.name: each.fault for each in catalogue.available({}, home)}
    assert faults["heir"] == told
    assert faults["base"]


def test_a_base_that_is_not_there_is_told(home: Path, write: Write) -> None:
    write("heir", 'extends = "defualt"')
    (heir,) = [each for each in catalogue.available({}, home) if each.name == "heir"]
    assert heir.fault.startswith("heir.toml:1: extends: no profile is called 'defualt'")


def test_what_is_no_file_is_listed_with_what_it_is(home: Path, write: Write) -> None:
    own = write("x", "").parent
    (own / "directory.toml").mkdir()
    os.mkfifo(own / "pipe.toml")
    (own / "dangling.toml").symlink_to("nothing")
    faults = {each.name: each.fault for each in catalogue.available({}, home) if each.fault}
    assert faults["directory"] == "directory.toml: is a directory"
    assert faults["pipe"] == "pipe.toml: is not a regular file"
    assert faults["dangling"].endswith("cannot be opened: No such file or directory")
