# SPDX-License-Identifier: GPL-3.0-or-later
"""Where control groups are mounted, and this process's place among them; proc_pid_mountinfo(5), cgroups(7).

    /proc/self/mountinfo   36 24 0:30 /part /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw
                                      root  point                             type  source  options
    /proc/self/cgroup      4:memory:/docker/1f        0::/user.slice/user-1000.slice

Anybody's mounts and groups stand there. A line that is not as it should be is passed over, and a file that
cannot be read has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

OWN = "/proc/self/cgroup"
MOUNTS = "/proc/self/mountinfo"
_ESCAPED = r"\\(011|012|040|043|134)"  # Linux, fs/proc_namespace.c, mangle()


class Mount(NamedTuple):
    """What is mounted at `point`: of a file system of this type, with its own options, the part `root`."""

    root: str
    point: str
    type: str
    options: frozenset[str]


def mounted(path: str = MOUNTS) -> Iterator[Mount]:
    """Every mount but those that are no part of a directory tree, such as a namespace's."""
    for line in _lines(path):
        fields, _, kind = line.partition(" - ")
        # Split at each blank: a source may be empty, as that of mount("", …).
        before, after = fields.split(" "), kind.split(" ", 2)
        if len(before) < 6 or len(after) < 3 or not before[3].startswith("/"):
            continue
        yield Mount(_plain(before[3]), _plain(before[4]), after[0], frozenset(after[2].split(",")))


def places(path: str = OWN) -> Iterator[tuple[frozenset[str], str]]:
    """The controllers of each hierarchy, none for version 2, and the group in which this process is there."""
    for line in _lines(path):
        number, _, rest = line.partition(":")
        controllers, _, place = rest.partition(":")
        if number.isdecimal() and place.startswith("/"):
            yield frozenset(controllers.split(",")) - {""}, place


def _lines(path: str) -> list[str]:
    """A name in them may be any bytes but a line feed: no text, or what ends lines elsewhere."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            return [line.rstrip("\n") for line in file]
    except OSError:  # there is no /proc here
        return []


def _plain(name: str) -> str:
    return re.sub(_ESCAPED, lambda found: chr(int(found[1], 8)), name) if "\\" in name else name
