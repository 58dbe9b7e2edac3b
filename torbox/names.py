# SPDX-License-Identifier: GPL-3.0-or-later
"""What one sandbox may hold at a time: a name (`--name NAME`), and an X server as its only untrusted sandbox.

The claim is a lock on a file in torbox's run directory, which the kernel lets go when the process
dies, however it dies; the file itself is removed by whoever held it and ended in order.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator, Mapping

from torbox.errors import InUseError, SetupError, UsageError

_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_LONGEST = 64  # characters


@contextlib.contextmanager
def claim(name: str, environ: Mapping[str, str], home: str) -> Iterator[None]:
    """Hold `name` for the time of the block. UsageError for a bad one, InUseError for one that is taken."""
    if not 0 < len(name) <= _LONGEST or not set(name) <= _ALLOWED or name.startswith((".", "-")):
        raise UsageError(
            f"--name {name!r}: a name has 1 to {_LONGEST} letters, digits, dots, dashes or underscores,"
            " and begins with neither dot nor dash"
        )
    path = os.path.join(run_directory(environ, home), f"{name}.lock")
    advice = "Choose another name, or end that one first."
    with _claimed(path, f"--name {name}: a sandbox of this name is running", advice):
        yield


@contextlib.contextmanager
def claim_display(number: int, environ: Mapping[str, str], home: str) -> Iterator[None]:
    """Hold an X server for the time of the block: to it all untrusted programs are the same. InUseError."""
    path = os.path.join(run_directory(environ, home), f".X{number}.lock")  # which is no sandbox's name
    taken = f"another sandbox has windows on the X server :{number}, and each could see the other's"
    advice = "End that one first, or start this one on Wayland or a server of its own: Xephyr :9; DISPLAY=:9."
    with _claimed(path, taken, advice):
        yield


@contextlib.contextmanager
def _claimed(path: str, taken: str, advice: str) -> Iterator[None]:
    try:
        descriptor = _lock(path, taken, advice)
    except OSError as error:
        raise SetupError("lock a file", error.errno or 0, path) from error
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(descriptor)


def _lock(path: str, taken: str, advice: str) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise InUseError(f"{taken} (pid {holder or 'unknown'})", advice=advice) from None
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # its last holder removed the file after we had opened it: again


def run_directory(environ: Mapping[str, str], home: str) -> str:
    """torbox's directory for what lives as long as a run, mode 0700, made if needed. Raises SetupError."""
    base = environ.get("XDG_RUNTIME_DIR", "")
    if base.startswith("/") and _is_own(base):  # su and sudo leave another user's behind
        path = os.path.join(base, "torbox")
    else:
        state = environ.get("XDG_STATE_HOME", "")
        state = state if state.startswith("/") else os.path.join(home, ".local/state")
        path = os.path.join(state, "torbox", "run")
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise SetupError("use the run directory", 0, f"{path} is not this user's directory")
        os.chmod(path, 0o700)
    except OSError as error:
        raise SetupError("use the run directory", error.errno or 0, path) from error
    return path


def _is_own(path: str) -> bool:
    try:
        return os.stat(path).st_uid == os.geteuid()
    except OSError:
        return False
