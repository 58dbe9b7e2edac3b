# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths are followed as the kernel follows them, and compared by what they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from torbox import ways


def test_a_path_is_followed_as_the_kernel_does(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "relative").symlink_to("a/b")
    (tmp_path / "a" / "b" / "up").symlink_to("../../a/./b//")
    (tmp_path / "absolute").symlink_to(tmp_path / "relative" / "up")
    way = ways.follow(str(tmp_path / "absolute" / "missing"))
    assert way.end == os.path.realpath(tmp_path / "absolute" / "missing") == f"{tmp_path}/a/b/missing"
    assert way.symlinks == (f"{tmp_path}/absolute", f"{tmp_path}/relative", f"{tmp_path}/a/b/up")


def test_symlinks_that_lead_round_end(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        ways.follow(f"{tmp_path}/a/x")


def test_what_lies_in_what_goes_by_whole_names(tmp_path: Path) -> None:
    assert ways.is_in("/a/b", "/a")
    assert ways.is_in("/a", "/a")
    assert not ways.is_in("/ab", "/a")
    assert ways.overlap("/a", "/a/b")
    assert not ways.overlap("/a/b", "/a/c")
    (tmp_path / "x" / "y").mkdir(parents=True)
    assert ways.lies_in_by_alias(f"{tmp_path}/x/y", f"{tmp_path}/x")
    assert not ways.lies_in_by_alias(f"{tmp_path}/x", f"{tmp_path}/x/y")
    assert not ways.lies_in_by_alias(f"{tmp_path}/no", f"{tmp_path}/such")


def test_a_path_is_told_in_one_line() -> None:
    assert ways.quoted("/a b") == "'/a b'"
    assert "\n" not in ways.quoted("/a\nb")
