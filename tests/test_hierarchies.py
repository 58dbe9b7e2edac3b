# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of the kernel's list of mounts and of a process's groups: no line of them stops a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from torbox import cgroup, hierarchies, memory
from torbox.hierarchies import Mount

GROUPS = b"36 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
HERE = Mount("/", "/sys/fs/cgroup", "cgroup2", frozenset(("rw", "nsdelegate")))
ODD = {
    'an empty source, as of mount("", …)': b"37 24 0:31 / /x rw shared:4 - tmpfs  rw\n",
    "nothing": b"\n",
    "no separator": b"37 24 0:31 / /x rw tmpfs tmpfs rw\n",
    "nothing behind it": b"37 24 0:31 / /x rw - \n",
    "too little before it": b"37 24 - tmpfs tmpfs rw\n",
    "a namespace": b"38 24 0:4 net:[4026531840] /run/netns/a rw - nsfs nsfs rw\n",
    "no text": b"39 24 0:32 / /\xff\xfe rw - tmpfs \xff rw\n",
    "another end of a line": b"39 24 0:32 / /a\rb\x0b\x85c rw - tmpfs t rw\n",
}
UNEXPECTED = (b"", b"\n", b"0\n", b"0:\n", b"0::\n", b"x::/y\n", b"0:/a\n", b"::::\n", b"\xff:\xff:\xff\n")


def mounted(tmp_path: Path, text: bytes) -> list[Mount]:
    (tmp_path / "mounts").write_bytes(text)
    return list(hierarchies.mounted(str(tmp_path / "mounts")))


def test_a_mount_is_read_field_by_field(tmp_path: Path) -> None:
    line = rb"36 24 0:30 /a\040b /c\134d\011 rw - cgroup - rw,memory" + b"\n"
    assert mounted(tmp_path, GROUPS + line) == [
        HERE,
        Mount("/a b", "/c\\d\t", "cgroup", frozenset(("rw", "memory"))),
    ]


def test_a_source_may_be_empty(tmp_path: Path) -> None:
    found = mounted(tmp_path, b"37 24 0:31 / /x rw shared:4 - tmpfs  rw,size=4k\n" + GROUPS)
    assert found == [Mount("/", "/x", "tmpfs", frozenset(("rw", "size=4k"))), HERE]


@pytest.mark.parametrize("line", ODD.values(), ids=ODD)
def test_no_mount_of_anybodys_stops_a_run(tmp_path: Path, line: bytes) -> None:
    assert HERE in mounted(tmp_path, line + GROUPS)
    (tmp_path / "own").write_bytes(b"4:memory:/a\n0::/b\n")
    files = str(tmp_path / "own"), str(tmp_path / "mounts")
    assert memory.least(*files) <= memory.machines()
    assert cgroup.mount_point(files[1]) == HERE.point


def test_a_place_is_read_of_either_version(tmp_path: Path) -> None:
    (tmp_path / "own").write_bytes(b"3:cpu,cpuacct:/c\n1:name=systemd:/d:e\n0::/f\rg \xff\n")
    assert list(hierarchies.places(str(tmp_path / "own"))) == [
        (frozenset(("cpu", "cpuacct")), "/c"),
        (frozenset(("name=systemd",)), "/d:e"),
        (frozenset(), "/f\rg \udcff"),
    ]


@pytest.mark.parametrize("line", UNEXPECTED)
def test_no_line_of_a_processs_groups_stops_a_run(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "own").write_bytes(line + b"0::/b\n")
    (tmp_path / "mounts").write_bytes(GROUPS)
    files = str(tmp_path / "own"), str(tmp_path / "mounts")
    assert list(hierarchies.places(files[0])) == [(frozenset(), "/b")]
    assert memory.least(*files) <= memory.machines()


def test_without_proc_there_are_none() -> None:
    assert list(hierarchies.mounted("/nowhere")) == list(hierarchies.places("/nowhere")) == []
