# SPDX-License-Identifier: GPL-3.0-or-later
"""A container's memory is what its control groups leave it, in ordinary files that look like them."""

from __future__ import annotations

from pathlib import Path

import pytest

from torbox import limits, memory, system

GIB = 1 << 30


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "machines", lambda: 16 * GIB)


def total(directory: Path, place: str, kind: str, root: str = "/", **said: object) -> int:
    """Of a process whose group is `place`; `said`: what is in the file of a group, / as __."""
    name = "memory.max" if kind.startswith("cgroup2") else "memory.limit_in_bytes"
    for group, value in said.items():
        group = group.removeprefix("top").replace("__", "/").lstrip("/")
        (directory / "groups" / group).mkdir(parents=True, exist_ok=True)
        (directory / "groups" / group / name).write_text(f"{value}\n")
    (directory / "own").write_text(place)
    mounts = (
        f"22 28 0:21 / /proc rw - proc proc rw\n36 24 0:30 {root} {directory}/groups rw shared:9 - {kind}\n"
    )
    (directory / "mounts").write_text(mounts)
    return memory.least(str(directory / "own"), str(directory / "mounts"))


V1 = "3:cpu,cpuacct:/c\n4:memory:/a/b\n0::/\n"


def test_a_machine_without_limits_has_all_its_memory(tmp_path: Path) -> None:
    assert total(tmp_path / "", "0::/a/b\n", "cgroup2 cgroup rw", top__a="max", top__a__b="max") == 16 * GIB


def test_any_group_above_limits_it(tmp_path: Path) -> None:
    said = {"top__a": 2 * GIB, "top__a__b": 3 * GIB, "top__c": GIB}
    assert total(tmp_path, "0::/a/b\n", "cgroup2 cgroup rw", **said) == 2 * GIB


def test_so_do_those_of_version_1(tmp_path: Path) -> None:
    said = {"top": 9223372036854771712, "top__a__b": 3 * GIB, "top__c": GIB}
    assert total(tmp_path, V1, "cgroup cgroup rw,memory", **said) == 3 * GIB


def test_only_the_hierarchy_of_memory_counts(tmp_path: Path) -> None:
    assert total(tmp_path, V1, "cgroup cgroup rw,cpuset", top=GIB, top__a__b=GIB) == 16 * GIB


def test_in_a_container_a_part_is_mounted(tmp_path: Path) -> None:
    assert total(tmp_path, V1, "cgroup cgroup rw,memory", "/a", top__b=3 * GIB, top__a__b=GIB) == 3 * GIB


def test_in_its_own_namespace_too(tmp_path: Path) -> None:
    assert total(tmp_path, "0::/../x\n", "cgroup2 cgroup rw", top=5 * GIB) == 5 * GIB


def test_where_nothing_can_be_read_it_is_the_machines() -> None:
    assert memory.least("/nowhere", "/nowhere") == 16 * GIB


def test_percentages_are_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "total", lambda: 16 * GIB)
    assert memory.tmpfs_size("20%") == "20%"
    monkeypatch.setattr(memory, "total", lambda: 2 * GIB)
    assert memory.tmpfs_size("50%") == str(GIB)
    assert memory.tmpfs_size("512m") == "512m"
    assert system.memory("/tmp", "/tmp", {}).size == str(2 * GIB * 15 // 100)
    assert system.memory("~", "~", {"~": "25%"}).size == str(GIB // 2)
    usual = limits.of_profile(memory="25%", processes=9, cpu=0, open_files=9, file_size="", is_said=True)
    assert usual.memory == GIB // 2
