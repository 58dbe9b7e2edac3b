# SPDX-License-Identifier: GPL-3.0-or-later
"""Where paths of this machine lead, what lies in what, and which are one place under two names."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from typing import NamedTuple

_SYMLINKS_MAX = 40  # MAXSYMLINKS of the kernel, path_resolution(7)


class Way(NamedTuple):
    """Where a path leads, and the symlinks on the way: where each of them lies, without any in that."""

    end: str
    symlinks: tuple[str, ...]


def follow(path: str) -> Way:
    """Go an absolute path as the kernel would; what is missing is taken as it is written."""
    found: list[str] = []
    at, waiting = "/", path.split("/")[::-1]
    while waiting:
        part = waiting.pop()
        if part in ("", "."):
            continue
        if part == "..":
            at = os.path.dirname(at)
            continue
        here = os.path.join(at, part)
        try:
            points_to = os.readlink(here)
        except OSError:  # not a symlink, or not there, or not to be looked at: os.stat will tell
            at = here
            continue
        found.append(here)
        if len(found) > _SYMLINKS_MAX:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if points_to.startswith("/"):
            at = "/"
        waiting += points_to.split("/")[::-1]
    return Way(at, tuple(found))


def places(paths: Iterable[str]) -> tuple[str, ...]:
    """What decides where these paths lead: their ends, and every symlink on the way."""
    found: dict[str, None] = {}
    for path in paths:
        way = follow(path)
        found.update(dict.fromkeys((way.end, *way.symlinks)))
    return tuple(found)


def quoted(path: str) -> str:
    """A path in full, since it is to be found or written down; on one line."""
    return f"'{path}'" if path.isprintable() else ascii(path)


def is_in(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory}/")


def overlap_by_alias(source: str, place: str) -> bool:
    """The same for directories that a bind mount of the host shows at a second path."""
    return lies_in_by_alias(source, place) or lies_in_by_alias(place, source)


def lies_in_by_alias(path: str, directory: str) -> bool:
    return _identity(directory) in _identities(path)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _identities(path: str) -> set[tuple[int, int] | None]:
    """Those of a path and of all that it lies in, but for the root, in which everything does."""
    found = set()
    while path != "/":
        found.add(_identity(path))
        path = os.path.dirname(path)
    return found - {None}


def overlap(one: str, other: str) -> bool:
    return is_in(one, other) or is_in(other, one)
