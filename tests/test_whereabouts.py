# SPDX-License-Identifier: GPL-3.0-or-later
"""A word of a command that names something shared by a name that leads nowhere inside is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from torbox import plan, whereabouts
from torbox.plan import SandboxPlan
from torbox.profiles import load


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    (home / "w" / "sub").mkdir(parents=True)
    (home / "w" / "in.pdf").touch()
    (home / "other").mkdir()
    return home


def made(
    home: Path, *arguments: str, share: tuple[str, ...] = (), directory: Path | str = "/", text: str = ""
) -> SandboxPlan:
    return plan.make(
        load.loads(text, "p.toml"),
        command=("cat", *arguments),
        upstream=None,
        share=share,
        directory=str(directory),
        environ={},
        home=str(home),
    )


def warned(home: Path, *arguments: str, **how: object) -> list[str]:
    told = made(home, *arguments, **how).warnings  # type: ignore[arg-type]
    return [warning.replace(str(home), "HOME") for warning in told]


def test_a_path_that_the_shell_made_of_a_tilde_is_told_with_its_name_inside(home: Path) -> None:
    share = (f"{home}/w/in.pdf:ro",)
    told = ["'HOME/w/in.pdf' is '/home/user/w/in.pdf' inside"]
    assert warned(home, f"{home}/w/in.pdf", share=share) == told
    assert warned(home, f"--file={home}/w/in.pdf", share=share) == told
    assert warned(home, f"{home}/w/in.pdf", text='mounts.read_only = ["~/w"]') == told


def test_also_what_is_yet_to_be_made(home: Path) -> None:
    (told,) = warned(home, f"{home}/w/out.pdf", share=("~/w",))
    assert told.endswith("is '/home/user/w/out.pdf' inside")


def test_a_home_that_is_the_callers_own_has_another_name_inside(home: Path) -> None:
    for mode in ("overlay", "host"):
        told = warned(home, f"{home}/w/in.pdf", text=f'home.mode = "{mode}"')
        assert told[1:] == ["'HOME/w/in.pdf' is '/home/user/w/in.pdf' inside"]


def test_a_path_relative_to_a_directory_that_is_not_the_programs(home: Path) -> None:
    profile = 'mounts.read_only = ["~/w"]'
    assert warned(home, "w/in.pdf", directory=home, text=profile) == []
    assert warned(home, "./in.pdf", directory=home / "w", text=profile) == [
        "'./in.pdf' is '/home/user/w/in.pdf' inside"
    ]


@pytest.mark.parametrize(
    "word", ["in.pdf", "./in.pdf", "sub/../in.pdf", "../w/in.pdf", "s/a/b/", "http://w/"]
)
def test_what_means_the_same_inside_or_is_no_path_is_not_told(home: Path, word: str) -> None:
    assert warned(home, word, directory=home / "w", share=(".",)) == []
    assert warned(home, "s/a/b/", directory=home / "w", text='mounts.read_only = ["~/w"]') == []


def test_nor_what_is_there_by_its_own_name_or_not_shared_at_all(home: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    words = (str(outside), "/usr/bin/env", "/bin/sh", "/etc/os-release", "/etc/localtime", "/dev/null", "/")
    assert warned(home, *words, f"{home}/other/x", share=("~/w", str(outside))) == []
    assert warned(home, str(home / "w"), text=f'mounts.read_only = ["{home}/w"]') == []


def test_symlinks_that_lead_round_are_nothing_to_tell(home: Path) -> None:
    (home / "w" / "round").symlink_to("round")
    assert warned(home, f"{home}/w/round", share=("~/w",)) == []


def test_what_a_pattern_of_the_shells_has_become_does_not_fill_the_screen(home: Path) -> None:
    assert len(warned(home, *(f"{home}/w/{number}" for number in range(100)), share=("~/w",))) == 3


def test_which_path_of_this_machine_is_shown_at_one_inside(home: Path) -> None:
    ops = made(home, share=("~/w",), text='[home.files]\n".bashrc" = "x"').mounts
    assert whereabouts.outside("/home/user/w/in.pdf", ops) == f"{home}/w/in.pdf"
    assert whereabouts.outside("/bin/sh", ops) == "/usr/bin/sh"
    for its_own in ("/home/user", "/home/user/.bashrc", "/tmp/x", "/proc/self", "/nowhere"):
        assert whereabouts.outside(its_own, ops) == ""
