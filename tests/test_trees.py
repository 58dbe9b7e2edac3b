# SPDX-License-Identifier: GPL-3.0-or-later
"""A tree is removed whatever a hostile program made of it, and nothing beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.directories import open_directory
from torbox import trees


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree"


def test_a_tree_goes_and_what_its_symlinks_lead_to_stays(tree: Path) -> None:
    outside = tree.parent / "outside"
    (outside / "dear").mkdir(parents=True)
    (tree / "a" / "b").mkdir(parents=True)
    for where in (tree, tree / "a", tree / "a" / "b"):
        (where / "link").symlink_to(outside)
        (where / "dangling").symlink_to("nowhere")
        (where / "file").write_text("x")
    os.link(outside / "dear" / ".." / ".." / "tree" / "file", outside / "also")
    trees.remove(str(tree))
    assert not tree.exists()
    assert sorted(path.name for path in outside.iterdir()) == ["also", "dear"]


def test_depth_is_no_hindrance(tree: Path) -> None:
    top = os.open(tree, os.O_RDONLY)
    at = top
    for _ in range(3000):  # more than Python's stack, PATH_MAX and the limit of open files
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    trees.remove(str(tree))
    assert not tree.exists()


def test_directories_that_may_not_be_entered_are_removed() -> None:
    with open_directory(0o777) as directory:
        pid = os.fork()
        if pid == 0:  # to root every mode is one that may be entered
            try:
                if os.geteuid() == 0:
                    os.setresuid(12345, 12345, 12345)
                own = directory / "own"
                (own / "shut" / "in" / "side").mkdir(parents=True)
                for path in (own / "shut" / "in" / "side", own / "shut" / "in", own / "shut", own):
                    path.chmod(0)
                trees.remove(str(own))
                os._exit(own.exists())
            finally:
                os._exit(2)
        assert os.waitpid(pid, 0)[1] == 0


def test_names_that_are_numbers_already_are_not_run_over(tree: Path) -> None:
    for path in ("1", "2/1", "2/3/1", "x/1/2", "x/2"):
        (tree / path).mkdir(parents=True)
    (tree / "3").write_text("a file")
    trees.remove(str(tree))
    assert not tree.exists()


def test_what_is_no_directory_is_refused(tree: Path) -> None:
    (tree / "file").touch()
    (tree / "link").symlink_to(tree)
    for name in ("file", "link"):
        with pytest.raises(OSError):
            trees.remove(str(tree / name))
    assert (tree / "file").exists()
