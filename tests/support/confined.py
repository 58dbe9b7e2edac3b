# SPDX-License-Identifier: GPL-3.0-or-later
"""Code that runs in the place of a stack that has been taken over: in a process that is confined as its."""

from __future__ import annotations

import errno
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

from torbox.allowance import NOTHING
from torbox.confinement import Confinement
from torbox.errors import SetupError
from torbox.stack_filter import Reach

NOBODY = 65534

# Executed in the process that is taken over right behind its own sealing. OUT was open before.
TAKEN_OVER = """
import os, socket, errno, threading
from torbox import confinement
sealed = confinement.Confinement.seal
def attempt(name, job):
    try:
        job()
        said = "done"
    except OSError as error:
        said = errno.errorcode[error.errno]
    os.write(OUT, f"{name}: {said}\\n".encode())
def connect(port):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.connect(("127.0.0.1", port))
def seal(self):
    global OUT
    who = "doorman" if self._reach.lets_in else "proxy" if self._reach.program else "worker"
    if who != WHOM:
        return sealed(self)
    OUT = os.open(PATH, os.O_WRONLY | os.O_APPEND)
    sealed(self)
    ATTEMPTS
    os.write(OUT, b"end\\n")
confinement.Confinement.seal = seal
"""


def taken_over(path: Path, attempts: str, *, whom: str = "worker", **names: object) -> str:
    """Statements that a torbox is altered by (people.py): its worker, doorman or proxy writes to `path`."""
    head = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    code = TAKEN_OVER.replace("    ATTEMPTS", attempts)
    return f"{head}PATH = {str(path)!r}\nWHOM = {whom!r}\n{code}"


def confined(reach: Reach, job: Callable[[], object], groups: tuple[int, ...] = ()) -> str:
    """What `job` returns as text; the name of its errno; or the name of the signal that ended it.

    Root becomes nobody first, in these groups besides nobody's own.
    """
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(readable)
        said = "bug"
        try:
            if os.geteuid() == 0:
                os.setgroups(groups)
                os.setresgid(NOBODY, NOBODY, NOBODY)
                os.setresuid(NOBODY, NOBODY, NOBODY)
                import prctl

                prctl.set_dumpable(True)
            confinement = Confinement(reach, NOTHING)
            confinement.prepare()
            confinement.seal()
            said = str(job())
        except SetupError as error:
            said = f"not confined: {error}"
        except OSError as error:
            said = errno.errorcode.get(error.errno or 0, "?")
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writable, said.encode())
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as file:
        said = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return signal.Signals(-status).name if status < 0 else said


def world_readable_file() -> str:
    """A file outside of the confined root that everybody may read and write; the caller unlinks it."""
    descriptor, path = tempfile.mkstemp(prefix="torbox-test-", dir="/var/tmp")
    os.fchmod(descriptor, 0o666)
    os.write(descriptor, b"secret")
    os.close(descriptor)
    return path
