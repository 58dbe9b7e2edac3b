# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a control group is made and what is written to it, in a tree of ordinary files.

tests/e2e/test_limits_inside.py has the kernel's, where the machine lets this user make one.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from torbox import cgroup
from torbox.cgroup import NoGroup
from torbox.errors import SetupError
from torbox.limits import Limits

WANTED = Limits(memory=1 << 30, processes=100, cpu=150)
GIVEN = "/work/given"
SESSION = f"{GIVEN}/part/leaf"


class Tree:
    """A hierarchy of version 2 at `root`; this process's group is SESSION, which was delegated with GIVEN."""

    def __init__(self, root: Path) -> None:
        self.marked = {GIVEN}
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

    def is_in(self, path: str) -> None:
        self.own.write_text(f"0::{path}\n")

    def make(self, limits: Limits = WANTED) -> cgroup.Group:
        return cgroup.make(limits, own=str(self.own), mounts=str(self.mounts))


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    made = Tree(tmp_path)
    monkeypatch.setattr(
        cgroup, "_is_marked", lambda path: path in {str(made.directory(each)) for each in made.marked}
    )
    return made


def test_the_group_is_made_in_the_nearest_that_gives_what_is_wanted(tree: Tree) -> None:
    tree.give(GIVEN, "cpu memory pids")
    group = tree.make()
    assert Path(group.path).parent == tree.directory(GIVEN)
    written = {name: Path(group.path, name).read_text() for name in ("pids.max", "memory.max", "cpu.max")}
    assert written == {"pids.max": "102", "memory.max": str(1 << 30), "cpu.max": "150000 100000"}
    assert not Path(group.path, "memory.swap.max").exists()
    group = tree.make(Limits(memory=1 << 30, processes=100))
    assert Path(group.path).parent == tree.directory(f"{GIVEN}/part")


def test_there_is_none_where_nobody_gives_it(tree: Tree) -> None:
    with pytest.raises(NoGroup, match="/work/given does not give cpu, memory, pids"):
        tree.make()
    tree.mounts.write_text("")
    with pytest.raises(NoGroup, match="no control groups of version 2"):
        tree.make(Limits(processes=5))
    tree.own.write_text("3:memory:/x\n")
    with pytest.raises(NoGroup, match="no control groups of version 2"):
        tree.make(Limits(processes=5))


def test_there_is_none_beyond_what_was_delegated(tree: Tree) -> None:
    tree.give("/work", "cpu memory pids")
    with pytest.raises(NoGroup, match="/work/given does not give"):
        tree.make()
    tree.marked = set()  # as in a container, where nobody marks and all of it is this user's
    assert Path(tree.make().path).parent == tree.directory("/work")


def test_there_is_none_beside_systemds_units(tree: Tree) -> None:
    """A session's systemd has user@1000.service delegated to it, mark and all, but not to its units."""
    tree.give(GIVEN, "cpu memory pids")
    (tree.directory(GIVEN) / "init.scope").mkdir()
    for wanted in (WANTED, Limits(processes=5)):
        with pytest.raises(NoGroup, match="/work/given is systemd's"):
            tree.make(wanted)
    assert not list(tree.root.glob("**/torbox-*"))
    tree.marked = set()
    with pytest.raises(NoGroup, match="/work/given is systemd's"):
        tree.make()


def test_a_scope_of_its_own_is_made_to_give_and_its_processes_go_into_a_leaf(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.is_in(GIVEN)
    scope = tree.directory(GIVEN)
    (scope / "cgroup.controllers").write_text("cpu memory pids\n")
    running = {scope: ["12", "13"], scope / "outside": []}
    busy = [True]  # 12 starts 14 while it is moved

    def write(path: str, value: str) -> None:
        group, name = Path(path).parent, Path(path).name
        if name == "cgroup.procs":
            running[scope].remove(value)
            running[group].append(value)
            if busy.pop() if busy else False:
                running[scope].append("14")
        elif name == "cgroup.subtree_control" and running[scope]:
            (scope / "cgroup.procs").write_text("\n".join(running[scope]))
            raise OSError(errno.EBUSY, "busy")
        Path(path).write_text(value)

    (scope / "cgroup.procs").write_text("12\n13\n")
    monkeypatch.setattr(cgroup, "_write", write)
    assert Path(tree.make().path).parent == scope
    assert running == {scope: [], scope / "outside": ["12", "13", "14"]}
    assert (scope / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"


class Scope:
    """GIVEN as the kernel has it: with processes it gives nothing, and ever only what it has itself."""

    def __init__(self, tree: Tree, controllers: str) -> None:
        self.tree = tree
        self.directory = tree.directory(GIVEN)
        for path in (f"{GIVEN}/part/leaf", f"{GIVEN}/part"):
            shutil.rmtree(tree.directory(path))
        (self.directory / "cgroup.controllers").write_text(controllers)
        (self.directory / "cgroup.procs").write_text("12\n")
        tree.give(GIVEN, "")
        tree.is_in(GIVEN)
        self.moved: list[str] = []

    def write(self, path: str, value: str) -> None:
        group, name = Path(path).parent, Path(path).name
        if name == "cgroup.procs":
            self.moved.append(f"{value} to {group.name}")
            (self.directory / "cgroup.procs").write_text("")
            self.tree.is_in(f"{GIVEN}/{group.name}")
            (group / "cgroup.subtree_control").write_text("")
        elif name == "cgroup.subtree_control":
            if (self.directory / "cgroup.procs").read_text():
                raise OSError(errno.EBUSY, "busy")
            wanted = set(value.replace("+", "").split())
            if not wanted <= set((self.directory / "cgroup.controllers").read_text().split()):
                raise OSError(errno.ENOENT, "no such controller")
            given = set(Path(path).read_text().split())
            value = " ".join(sorted(wanted | given))
        Path(path).write_text(value)

    def run(self, limits: Limits) -> set[str]:
        """A run from its beginning to its end; the files of its group."""
        group = Path(self.tree.make(limits).path)
        assert group.parent == self.directory
        files = {each.name for each in group.iterdir()}
        shutil.rmtree(group)  # the kernel's files do not keep a directory
        return files

    def available(self) -> set[str]:
        return cgroup.available(own=str(self.tree.own), mounts=str(self.tree.mounts))


def test_one_run_after_another_gets_its_group_in_a_scope(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    scope = Scope(tree, "cpu memory pids\n")
    monkeypatch.setattr(cgroup, "_write", scope.write)
    assert scope.run(Limits(memory=1 << 30)) == {"memory.max"}
    assert scope.moved == ["12 to outside"]
    before = sorted(tree.root.rglob("*"))
    assert scope.available() == {"cpu", "memory", "pids"}
    assert sorted(tree.root.rglob("*")) == before
    assert scope.run(Limits(cpu=50)) == {"cpu.max"}
    assert scope.run(WANTED) == {"cpu.max", "memory.max", "pids.max"}
    assert scope.moved == ["12 to outside"]


def test_no_process_is_moved_for_what_a_scope_has_not(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--allow-missing cpu-limit` tries again without, and is to find everything as it was."""
    scope = Scope(tree, "memory pids\n")
    monkeypatch.setattr(cgroup, "_write", scope.write)
    with pytest.raises(NoGroup, match="/work/given does not give cpu, memory, pids"):
        tree.make()
    assert not scope.moved
    assert not (scope.directory / "outside").exists()
    assert scope.run(WANTED._replace(cpu=0)) == {"memory.max", "pids.max"}
    with pytest.raises(NoGroup, match="/work/given does not give cpu, memory, pids"):
        tree.make()
    assert scope.available() == {"memory", "pids"}


def test_a_leaf_of_that_name_of_anybody_elses_is_a_group_like_any_other(tree: Tree) -> None:
    (tree.directory(SESSION) / "outside").mkdir()
    tree.is_in(f"{SESSION}/outside")
    with pytest.raises(NoGroup, match="outside is not this user's"):
        tree.make()


def test_processes_are_moved_only_where_it_was_delegated_to_them(tree: Tree) -> None:
    tree.is_in("/")
    tree.give("/", "")
    with pytest.raises(NoGroup, match="does not give"):
        tree.make()
    assert not (tree.root / "outside").exists()


def test_it_is_told_why_a_scope_cannot_be_made_to_give(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.is_in(GIVEN)
    (tree.directory(GIVEN) / "cgroup.controllers").write_text("cpu memory pids\n")

    def write(path: str, _value: str) -> None:
        raise OSError(errno.EBUSY if path.endswith("subtree_control") else errno.ESRCH, "")

    monkeypatch.setattr(cgroup, "_write", write)
    with pytest.raises(NoGroup, match="cannot be made to give cpu, memory, pids: Device or resource busy"):
        tree.make()


def test_there_is_none_where_it_is_not_this_users(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.give(f"{GIVEN}/part", "cpu memory pids")
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "cgroup.procs" not in path and real(path, mode))
    with pytest.raises(NoGroup, match="leaf is not this user's"):
        tree.make()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(NoGroup, match="leaf is not this user's"):
        tree.make()


def test_it_is_told_why_none_was_made(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.give(f"{GIVEN}/part", "cpu memory pids")

    def mkdir(path: str, _mode: int) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "mkdir", mkdir)
    with pytest.raises(NoGroup, match=r"torbox-\d+: Resource temporarily unavailable"):
        tree.make()


def test_a_limit_that_cannot_be_written_stops_the_start(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.give(f"{GIVEN}/part", "cpu memory pids")

    def write(path: str, _value: str) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(cgroup, "_write", write)
    with pytest.raises(SetupError, match=r"pids\.max: Permission denied"):
        tree.make()
    assert not list(tree.root.glob("**/torbox-*"))


def test_it_is_entered_and_what_others_left_behind_is_removed(tree: Tree) -> None:
    above = tree.directory(f"{GIVEN}/part")
    left, used = above / "torbox-999999999", above / f"torbox-{os.getppid()}"
    left.mkdir()
    used.mkdir()
    group = tree.make(Limits(processes=5))
    group.enter()
    assert Path(group.path, "cgroup.procs").read_text() == "0"
    assert not left.exists()
    assert used.exists()
    with pytest.raises(SetupError):
        cgroup.Group(str(above / "gone")).enter()


def test_one_that_a_killed_torbox_of_the_same_number_left_is_in_nobodys_way(tree: Tree) -> None:
    above = tree.directory(f"{GIVEN}/part")
    (above / f"torbox-{os.getpid()}").mkdir()
    assert Path(tree.make(Limits(processes=5)).path).parent == above


def test_it_is_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "torbox-1"
    path.mkdir()
    cgroup.Group(str(path)).close()
    assert not path.exists()
    cgroup.Group(str(path)).close()


def test_what_could_be_had_is_told_and_nothing_made(tree: Tree) -> None:
    def available() -> set[str]:
        return cgroup.available(own=str(tree.own), mounts=str(tree.mounts))

    before = sorted(tree.root.rglob("*"))
    assert available() == {"memory", "pids"}
    tree.give(GIVEN, "cpu io memory pids")
    assert available() == {"cpu", "memory", "pids"}
    tree.is_in(GIVEN)  # a scope of its own, whose processes torbox would move
    tree.give(GIVEN, "")
    with pytest.raises(NoGroup, match="/work/given does not give memory, pids, cpu"):
        available()
    (tree.directory(GIVEN) / "cgroup.controllers").write_text("cpuset cpu memory pids\n")
    assert available() == {"cpu", "memory", "pids"}
    assert sorted(tree.root.rglob("*")) == sorted([*before, tree.directory(GIVEN) / "cgroup.controllers"])
    tree.marked = set()
    (tree.directory(GIVEN) / "init.scope").mkdir()
    with pytest.raises(NoGroup, match="is systemd's"):
        available()
