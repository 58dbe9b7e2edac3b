# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding profiles: the user's before the system's before the shipped."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.profiles.conftest import Write
from torbox.errors import ProfileError
from torbox.profiles import search


def test_the_users_profile_goes_before_the_systems_and_that_before_the_shipped(
    home: Path, write: Write
) -> None:
    shipped = search.shipped() / "browser.toml"
    assert search.find("browser", {}, home) == shipped
    search.SYSTEM.mkdir()
    system = search.SYSTEM / "browser.toml"
    system.write_text("")
    assert search.find("browser", {}, home) == system
    own = write("browser", "")
    assert search.find("browser", {}, home) == own
    assert list(search.candidates("browser", {}, home)) == [own, system, shipped]


def test_xdg_config_home_is_obeyed_where_it_is_absolute(home: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "config"
    (elsewhere / "torbox" / "profiles").mkdir(parents=True)
    mine = elsewhere / "torbox" / "profiles" / "mine.toml"
    mine.write_text("")
    assert search.find("mine", {"XDG_CONFIG_HOME": str(elsewhere)}, home) == mine
    for useless in ("", "relative/config"):
        assert (
            search.directories({"XDG_CONFIG_HOME": useless}, home)[0]
            == home / ".config" / "torbox" / "profiles"
        )


@pytest.mark.parametrize("path", ["./x", "/a/b", "x.toml", "a/b.toml", ".toml"])
def test_a_slash_or_the_suffix_makes_it_a_path(home: Path, path: str) -> None:
    assert search.find(path, {}, home) == Path(path)


def test_a_path_with_a_nul_is_no_path(home: Path) -> None:
    with pytest.raises(ProfileError) as caught:
        search.find("a\0.toml", {}, home)
    assert caught.value.faults == ["'a\\x00.toml' contains a NUL character"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("brwoser", "no profile is called 'brwoser'; did you mean 'browser'?"),
        ("Browser", "no profile is called 'Browser'; did you mean 'browser'?"),
        ("zzz", "no profile is called 'zzz'"),
        ("", "no profile is called ''"),
        ("..", "no profile is called '..'"),
        ("a\0b", "no profile is called 'a\\x00b'"),
    ],
)
def test_an_unknown_name_is_told_with_the_known_ones(home: Path, name: str, told: str) -> None:
    with pytest.raises(ProfileError) as caught:
        search.find(name, {}, home)
    assert caught.value.faults == [told]
    assert "Known profiles: browser, " in caught.value.advice
    assert str(home / ".config" / "torbox" / "profiles") in caught.value.advice


def test_an_installed_torbox_brings_its_profiles_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "torbox" / "profiles"
    (package / "shipped").mkdir(parents=True)
    monkeypatch.setattr(sys.modules[search.__name__], "__file__", str(package / "search.py"))
    assert search.shipped() == package / "shipped"
    (package / "shipped").rmdir()
    assert search.shipped() == tmp_path / "profiles"
