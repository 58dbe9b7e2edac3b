# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that `--pcap` names: new, the caller's alone, and gone again if the sandbox did not start.

A program may have been let into the directory, this one or one before it. So nothing is followed or removed
by a path that it could have bent: no component is a symlink, and only the very file that was made is removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from torbox import syscalls
from torbox.errors import UsageError
from torbox.netstack.capture import FILE_HEADER

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
_UNMOVED = syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS


class CaptureFile:
    """`descriptor` is for `CapturingDevice`; `keep` is called once the sandbox has started."""

    def __init__(self, path: str) -> None:
        """Raises OSError or ValueError."""
        directory, self._name = os.path.split(path)
        self._directory = syscalls.openat2(
            syscalls.AT_FDCWD, directory or ".", os.O_PATH | os.O_DIRECTORY, _UNMOVED
        )
        self._is_kept = False
        try:
            self.descriptor = os.open(self._name, _NEW, 0o600, dir_fd=self._directory)
        except BaseException:
            os.close(self._directory)
            raise

    def keep(self) -> None:
        self._is_kept = True

    def close(self) -> None:
        with contextlib.suppress(OSError):
            if not self._is_kept and self._is_there():
                os.unlink(self._name, dir_fd=self._directory)
        os.close(self.descriptor)
        os.close(self._directory)

    def _is_there(self) -> bool:
        there = os.stat(self._name, dir_fd=self._directory, follow_symlinks=False)
        return os.path.samestat(there, os.fstat(self.descriptor))


@contextlib.contextmanager
def created(path: str) -> Iterator[CaptureFile]:
    """A file with an empty capture. UsageError if there is something at `path`, or can be nothing."""
    try:
        made = CaptureFile(path)
    except FileExistsError:
        raise UsageError(f"--pcap: '{path}' is there already, and nothing is overwritten") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"--pcap: '{path}' cannot be made: {_reason(error)}") from None
    with contextlib.closing(made):
        os.write(made.descriptor, FILE_HEADER)
        yield made


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ValueError):
        return str(error)
    if error.errno == errno.ELOOP:
        return "a part of its path is a symlink, which may lead anywhere by now; name it by its real path"
    return os.strerror(error.errno or 0)
