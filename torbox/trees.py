# SPDX-License-Identifier: GPL-3.0-or-later
"""The removal of a tree that a hostile program made: of any depth, of any modes, and with symlinks in it.

shutil.rmtree recurses, so a tree of ten thousand levels ends it, and a directory without permissions
stops it. Here every name is taken relative to an open directory, no path is longer than two names, and
three descriptors are enough.
"""

from __future__ import annotations

import errno
import os


def remove(path: str) -> None:
    """Remove a directory of the caller's with all that is in it. OSError: try what is left again.

    What lies two levels down is moved up before the level between is removed.
    """
    opened = _open_for_removal(path, None)
    if opened is None:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    top = opened
    try:
        number = 0
        while entries := os.listdir(top):
            for entry in entries:
                inner = _open_for_removal(entry, top)
                if inner is None:
                    os.unlink(entry, dir_fd=top)
                    continue
                try:
                    for name in os.listdir(inner):
                        below = _open_for_removal(name, inner)
                        if below is None:
                            os.unlink(name, dir_fd=inner)
                            continue
                        os.close(below)
                        number += 1
                        while _is_there(f"{number}", top):
                            number += 1
                        os.rename(name, f"{number}", src_dir_fd=inner, dst_dir_fd=top)
                finally:
                    os.close(inner)
                os.rmdir(entry, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(path)


def _is_there(name: str, directory: int) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _open_for_removal(name: str, directory: int | None) -> int | None:
    """A directory that can be listed and moved, whatever mode a program gave it; None if it is none."""
    flags = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        place = os.open(name, os.O_PATH | flags, dir_fd=directory)
    except NotADirectoryError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise
    try:
        os.chmod(f"/proc/self/fd/{place}", 0o700)
        return os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(place)
