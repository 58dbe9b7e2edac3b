# SPDX-License-Identifier: GPL-3.0-or-later
"""What a path of this machine is called inside, and which one is shown at a path inside: read off a plan's
mounts, for what a user is told. Nothing is decided by it.

A shell expands `~/in.pdf` before torbox sees it, to a path in the caller's home; what is shared of that is in
the home inside. So a word of a command can name a file that is shared, by a name that leads nowhere inside.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import islice

from torbox.mounts import Bind, Cover, MountOp, Overlay, Proc, Replacement, Symlink, TextFile, Tmpfs
from torbox.ways import follow, is_in, quoted

_WARNINGS_MOST = 3  # words of a command that are named: a pattern of the shell's may have made thousands
_SHOWING = (Bind, Overlay, Tmpfs, TextFile, Proc, Cover, Replacement)


def outside(path: str, ops: Sequence[MountOp]) -> str:
    """The path of this machine that is shown at this one inside, absolute and normal; "" if none is."""
    for op in ops:
        if isinstance(op, Symlink) and is_in(path, op.target):
            points_to = os.path.join(os.path.dirname(op.target), op.points_to)
            path = os.path.normpath(points_to + path[len(op.target) :])
    shown = ""
    nearest = -1
    for op in ops:
        if isinstance(op, _SHOWING) and is_in(path, op.target) and len(op.target) >= nearest:
            nearest = len(op.target)
            source = _source(op)
            shown = source + path[nearest:] if source else ""
    return shown


def inside(path: str, ops: Sequence[MountOp]) -> str:
    """What something of this machine that somebody shared is called inside; "" if it is not there.

    `path` is absolute. The name of the nearest share: what is shown at two places has two names.
    """
    try:
        real = follow(path).end
    except OSError:  # symlinks that lead round
        return ""
    shares = [op for op in ops if isinstance(op, Bind | Overlay) and op.origin and is_in(real, _source(op))]
    for op in sorted(shares, key=lambda op: len(_source(op)), reverse=True):
        name = op.target + real.removeprefix(_source(op))
        if outside(name, ops) == real:
            return name
    return ""


def warnings(
    arguments: Sequence[str], ops: Sequence[MountOp], *, directory: str, start: str
) -> tuple[str, ...]:
    """A sentence for each argument that names something shared as it is not called inside.

    The caller's working directory is `directory`, the program's `start`.
    """
    if not any(isinstance(op, Bind | Overlay) and op.origin for op in ops):
        return ()
    return tuple(islice(_misnamed(arguments, ops, directory, start), _WARNINGS_MOST))


def _misnamed(arguments: Sequence[str], ops: Sequence[MountOp], directory: str, start: str) -> Iterator[str]:
    for argument in arguments:
        word = argument
        if not word.startswith("/") and (value := word.partition("=")[2]).startswith("/"):
            word = value  # as in --file=PATH
        path = os.path.join(directory, word)
        # What has no / may be anything, and what has one may be no path: then it is not there.
        if not path.startswith("/") or "/" not in word or not (word[0] == "/" or os.path.lexists(path)):
            continue
        name = inside(path, ops)
        if name and _real(outside(os.path.normpath(os.path.join(start, word)), ops)) != _real(path):
            yield f"{quoted(word)} is {quoted(name)} inside"


def _source(op: MountOp) -> str:
    return op.source if isinstance(op, Bind) else op.lower if isinstance(op, Overlay) else ""


def _real(path: str) -> str:
    try:
        return follow(path).end if path else ""
    except OSError:
        return ""
