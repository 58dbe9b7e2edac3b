# SPDX-License-Identifier: GPL-3.0-or-later
"""What --share brings in, where the program starts then, and what it cannot bring."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.test_shares import shared
from torbox import plan
from torbox.errors import ProfileError
from torbox.plan import SandboxPlan
from torbox.profiles import load


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def brought(home: Path, *options: str, directory: Path | str = "/", text: str = "") -> SandboxPlan:
    return plan.make(
        load.loads(text, "p.toml"),
        command=("true",),
        upstream=None,
        share=options,
        directory=str(directory),
        environ={},
        home=str(home),
    )


@pytest.mark.parametrize(
    ("option", "source", "target", "read_only"),
    [
        (".", "work", "~/work", False),
        ("./:ro", "work", "~/work", True),
        ("sub", "work/sub", "~/work/sub", False),
        ("./sub//:rw", "work/sub", "~/work/sub", False),
        ("../other", "other", "~/other", False),
        ("~/other:ro", "other", "~/other", True),
        ("odd:ro:rw", "work/odd:ro", "~/work/odd:ro", False),
        ("../../outside", "../outside", "OUTSIDE", False),
    ],
)
def test_share_brings_a_path_in(home: Path, option: str, source: str, target: str, read_only: bool) -> None:
    for name in ("work/sub", "work/odd:ro", "other", "../outside"):
        (home / name).mkdir(parents=True, exist_ok=True)
    found = shared(brought(home, option, directory=home / "work"))
    outside = str(home.parent / "outside")
    wanted = target.replace("~", "/home/user").replace("OUTSIDE", outside)
    assert found == [(os.path.normpath(home / source), wanted, read_only)]


def test_the_program_starts_where_the_caller_is_if_that_is_shared_on_the_command_line(home: Path) -> None:
    (home / "work" / "sub").mkdir(parents=True)
    here = home / "work" / "sub"
    assert brought(home, ".", directory=here).directory == "/home/user/work/sub"
    assert brought(home, "..", directory=here).directory == "/home/user/work/sub"
    assert brought(home, "~/work", "~/work/sub:ro", directory=here).directory == "/home/user/work/sub"
    assert brought(home, "~/work/sub", directory=home / "work").directory == "/home/user/work"
    assert brought(home, "~/work/sub", directory=home).directory == "/home/user"
    assert brought(home, "~/work/sub", directory=home / "elsewhere").directory == "/home/user"
    outside = home.parent / "outside"
    (outside / "sub").mkdir(parents=True)
    assert brought(home, "sub", directory=outside).directory == str(outside)
    assert brought(home, str(outside), directory="/").directory == "/home/user"
    assert brought(home, directory=here, text="mounts.read_only = ['~/work']").directory == "/home/user"


def test_the_command_lines_share_takes_the_place_of_the_profiles(home: Path) -> None:
    (home / "work").mkdir()
    found = brought(home, "~/work:ro", text="mounts.read_write = ['~/work']")
    assert shared(found) == [(f"{home}/work", "/home/user/work", True)]


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("", "is no path"),
        (":ro", "is no path"),
        ("/", "never shared as a whole"),
        ("/proc", "never shared as a whole"),
        ("/proc/1", "the sandbox has its own"),
        ("/run", "never shared as a whole"),
        ("/tmp", "never shared as a whole"),
        ("/etc/passwd", "the sandbox has its own"),
        ("HOME", "for a whole home directory there is home.mode"),
        ("~/", "for a whole home directory there is home.mode"),
        ("HOME/..", "has '..' in it"),
        ("no-such", "is not there"),
        ("link/../x", "has '..' in it"),
        ("link", "leads through the symlink"),
        ("round", "Too many levels of symbolic links"),
        ("file/x", "Not a directory"),
        ("~/.config", "directory of torbox's own"),
        ("~/.local/share", "directory of torbox's own"),
    ],
)
def test_what_share_cannot_bring_is_told(home: Path, option: str, told: str) -> None:
    for name in ("work", ".config", ".local/share"):
        (home / name).mkdir(parents=True)
    (home / "work" / "link").symlink_to("/")
    (home / "work" / "round").symlink_to("round")
    (home / "work" / "file").touch()
    with pytest.raises(ProfileError) as caught:
        brought(home, option.replace("HOME", str(home)), directory=home / "work")
    (fault,) = caught.value.faults
    assert fault.startswith("--share: ")
    assert told in fault


def test_a_directory_that_is_gone_cannot_be_shared(home: Path) -> None:
    with pytest.raises(ProfileError, match="current directory, which is not there any more"):
        brought(home, ".", directory="")
