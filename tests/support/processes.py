# SPDX-License-Identifier: GPL-3.0-or-later
"""Who descends from whom, read from /proc."""

from __future__ import annotations

import time
from pathlib import Path

from tests.support.patience import PATIENCE_S


def descendants(pid: int) -> set[int]:
    """Every process below `pid`, at this moment."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found.update(below)
        waiting.extend(below)
    return found


def wait_until_gone(pids: set[int], timeout_s: float = PATIENCE_S) -> None:
    """Return once none of `pids` is there any more, not even as a zombie; AssertionError otherwise."""
    end = time.monotonic() + timeout_s
    while left := {pid for pid in pids if _is_there(pid)}:
        assert time.monotonic() < end, f"still there: {sorted(left)}"
        time.sleep(0.01)  # the kernel gives no event for the end of somebody else's child


def _is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
