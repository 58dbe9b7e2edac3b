# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory there is for this process: the machine's, or less where a control group says so.

    /proc/self/cgroup      4:memory:/docker/1f        0::/user.slice/user-1000.slice    hierarchies.py
    limit                  memory.limit_in_bytes      memory.max
    from there up to the mount of that hierarchy: each of them holds; cgroups(7)

In a container the kernel's totals, and tmpfs's percentages with them, are the whole machine's all the same.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator

from torbox import hierarchies


def machines() -> int:
    """Bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@functools.cache
def total() -> int:
    """Bytes."""
    return least(hierarchies.OWN, hierarchies.MOUNTS)


def least(own: str, mounts: str) -> int:
    """Bytes; of a process that has these files in /proc."""
    return min((machines(), *_limits(own, mounts)))


def tmpfs_size(size: str) -> str:
    """A size for tmpfs(5) that means the same as this one of a profile, "512M" or "25%" of `total`."""
    if not size.endswith("%") or total() == machines():
        return size
    return str(total() * int(size[:-1]) // 100)


def _limits(own: str, mounts: str) -> Iterator[int]:
    """Those that hold for this process, of either version."""
    places = list(hierarchies.places(own))
    for mount in hierarchies.mounted(mounts):
        for controllers, place in places:
            if mount.type == "cgroup2" and not controllers:
                yield from _up(mount.point, mount.root, place, "memory.max")
            elif mount.type == "cgroup" and "memory" in controllers & mount.options:
                yield from _up(mount.point, mount.root, place, "memory.limit_in_bytes")


def _up(point: str, root: str, place: str, name: str) -> Iterator[int]:
    """What is said from `place` up; the hierarchy's part `root` is mounted at `point`."""
    below = os.path.relpath(place, root)
    parts = [] if below == "." or below.startswith("..") else below.split("/")
    for depth in range(len(parts), -1, -1):
        try:
            with open(os.path.join(point, *parts[:depth], name)) as file:
                yield int(file.read())
        except (OSError, ValueError):  # of the root nothing is said, and "max" is no limit
            continue
