# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a control group is made and what is written to it, in a tree of ordinary files.

tests/e2e/test_limits_inside.py has the kernel's, where the machine lets this user make one.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from torbox import cgroup
from torbox.errors import SetupError
from torbox.limits import Limits

WANTED = Limits(memory=1 << 30, processes=100, cpu=150)
SESSION = "/user.slice/user@1000.service/app.slice/terminal.scope"


class Tree:
    """A hierarchy of version 2 at `root`; this process's group is SESSION."""

    def __init__(self, root: Path) -> None:
        self.root = root / "cgroup"
        self.own = root / "own"
        self.own.write_text(f"4:memory:/old\n0::{SESSION}\n")
        self.mounts = root / "mounts"
        self.mounts.write_text(
            "22 28 0:21 / /proc rw - proc proc rw\n"
            f"35 24 0:30 /part /elsewhere rw shared:9 - cgroup2 cgroup2 rw\n"
            f"36 24 0:30 / {self.root} rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
        )
        place = self.root
        for name in ("", *SESSION.split("/")[1:]):
            place /= name
            place.mkdir()
            (place / "cgroup.procs").touch()
            (place / "cgroup.subtree_control").write_text("memory pids\n")
        (place / "cgroup.subtree_control").write_text("")

    def directory(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def give(self, path: str, controllers: str) -> None:
        (self.directory(path) / "cgroup.subtree_control").write_text(controllers)

    def make(self, limits: Limits = WANTED) -> cgroup.Group | None:
        return cgroup.make(limits, own=str(self.own), mounts=str(self.mounts))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_the_group_is_made_in_the_nearest_that_gives_what_is_wanted(tree: Tree) -> None:
    tree.give("/user.slice/user@1000.service", "cpu memory pids")
    group = tree.make()
    assert group is not None
    assert Path(group.path).parent == tree.directory("/user.slice/user@1000.service")
    written = {name: Path(group.path, name).read_text() for name in ("pids.max", "memory.max", "cpu.max")}
    assert written == {"pids.max": "102", "memory.max": str(1 << 30), "cpu.max": "150000 100000"}
    assert not Path(group.path, "memory.swap.max").exists()
    group = tree.make(Limits(memory=1 << 30, processes=100))
    assert group is not None
    assert Path(group.path).parent == tree.directory("/user.slice/user@1000.service/app.slice")


def test_there_is_none_where_nobody_gives_it(tree: Tree) -> None:
    assert tree.make() is None
    tree.mounts.write_text("")
    assert tree.make(Limits(processes=5)) is None
    tree.own.write_text("3:memory:/x\n")
    assert tree.make(Limits(processes=5)) is None


def test_there_is_none_where_it_is_not_this_users(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.give("/user.slice/user@1000.service/app.slice", "cpu memory pids")
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "cgroup.procs" not in path and real(path, mode))
    assert tree.make() is None
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert tree.make() is None


def test_a_limit_that_cannot_be_written_stops_the_start(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.give("/user.slice/user@1000.service/app.slice", "cpu memory pids")

    def write(path: str, _value: str) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(cgroup, "_write", write)
    with pytest.raises(SetupError, match=r"pids\.max: Permission denied"):
        tree.make()
    assert not list(tree.root.glob("**/torbox-*"))


def test_it_is_entered_and_what_others_left_behind_is_removed(tree: Tree) -> None:
    above = tree.directory("/user.slice/user@1000.service/app.slice")
    left, used = above / "torbox-999999999", above / f"torbox-{os.getppid()}"
    left.mkdir()
    used.mkdir()
    group = tree.make(Limits(processes=5))
    assert group is not None
    group.enter()
    assert Path(group.path, "cgroup.procs").read_text() == "0"
    assert not left.exists()
    assert used.exists()
    with pytest.raises(SetupError):
        cgroup.Group(str(above / "gone")).enter()


def test_one_that_a_killed_torbox_of_the_same_number_left_is_in_nobodys_way(tree: Tree) -> None:
    above = tree.directory("/user.slice/user@1000.service/app.slice")
    (above / f"torbox-{os.getpid()}").mkdir()
    assert tree.make(Limits(processes=5)) is not None


def test_it_is_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "torbox-1"
    path.mkdir()
    cgroup.Group(str(path)).close()
    assert not path.exists()
    cgroup.Group(str(path)).close()
