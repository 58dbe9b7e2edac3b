# SPDX-License-Identifier: GPL-3.0-or-later
"""A control group of the sandbox's own, version 2, where this user may make one; cgroups(7).

    /sys/fs/cgroup/…/user@1000.service/app.slice     the nearest one above that is this user's (delegated)
      ├── …terminal….scope                           and gives its children what is to be limited
      └── torbox-PID                                 made, entered by the sandbox's first process, removed

The process enters it before it makes its namespaces, so that its cgroup namespace begins there and shows no
path of the host's. A group that a killed torbox left behind is empty, and removed by the next one beside it.

systemd has it so in a user's session by default (`Delegate=` of user@.service); a login by ssh is in a scope
of root's, and needs `systemd-run --user --scope torbox …`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select

from torbox.errors import SetupError
from torbox.limits import STEP, Limits

_OWN = "/proc/self/cgroup"
_MOUNTS = "/proc/self/mountinfo"
_PREFIX = "torbox-"
_EXTRA_PROCESSES = 2  # the namespaces' holder and init, which are the sandbox's but not the program's
_PERIOD_US = 100_000  # of cpu.max; the kernel's default
_GONE_WITHIN_S = 2.0  # killed processes are gone in milliseconds


class Group:
    """A control group; `path` is its directory. `close` removes it once its processes are gone."""

    def __init__(self, path: str) -> None:
        self.path = path

    def enter(self) -> None:
        """Move this process, which is to have one thread, into it. SetupError."""
        try:
            _write(f"{self.path}/cgroup.procs", "0")
        except OSError as error:
            raise SetupError(STEP, error.errno or 0, self.path) from error

    def close(self) -> None:
        with contextlib.suppress(OSError):
            try:
                os.rmdir(self.path)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                _wait_until_empty(self.path)
                os.rmdir(self.path)


def make(limits: Limits, *, own: str = _OWN, mounts: str = _MOUNTS) -> Group | None:
    """A group that holds to what of these limits it can; None if this user cannot make one here.

    SetupError if one was made that the limits cannot be written to.
    """
    values = _values(limits)
    above = _delegated({name.partition(".")[0] for name in values}, own, mounts)
    if above is None:
        return None
    _sweep(above)
    path = f"{above}/{_PREFIX}{os.getpid()}"
    try:
        os.mkdir(path, 0o755)
    except OSError:  # cgroup.max.descendants, or read-only after all
        return None
    group = Group(path)
    try:
        for name, value in values.items():
            # memory.swap.max is not there without swap, and nothing is needed then
            if name != "memory.swap.max" or os.path.exists(f"{path}/{name}"):
                _write(f"{path}/{name}", value)
    except OSError as error:
        group.close()
        raise SetupError(STEP, error.errno or 0, f"{path}/{name}") from error
    return group


def _values(limits: Limits) -> dict[str, str]:
    """What is written to which file."""
    values = {"pids.max": str(limits.processes + _EXTRA_PROCESSES)} if limits.processes else {}
    if limits.memory:
        values |= {"memory.max": str(limits.memory), "memory.swap.max": "0"}
    if limits.cpu:
        values["cpu.max"] = f"{limits.cpu * _PERIOD_US // 100} {_PERIOD_US}"
    return values


def _delegated(wanted: set[str], own: str, mounts: str) -> str | None:
    """The nearest directory above in which this user can make a group with these controllers."""
    root = _mount_point(mounts)
    place = _own_path(own)
    if root is None or place is None:
        return None
    while True:
        directory = root + place.rstrip("/")
        if _gives(directory, wanted) and os.access(directory, os.W_OK):
            # Processes are moved by whoever may write there: not beyond what was delegated.
            return directory if os.access(f"{directory}/cgroup.procs", os.W_OK) else None
        if place in ("", "/"):
            return None
        place = os.path.dirname(place)


def _gives(directory: str, wanted: set[str]) -> bool:
    try:
        with open(f"{directory}/cgroup.subtree_control") as file:
            return wanted <= set(file.read().split())
    except OSError:
        return False


def _mount_point(mounts: str) -> str | None:
    """Where the whole hierarchy of version 2 is mounted; proc_pid_mountinfo(5)."""
    try:
        with open(mounts) as file:
            for line in file:
                fields, _, kind = line.partition(" - ")
                if kind.startswith("cgroup2 ") and fields.split()[3] == "/":
                    return fields.split()[4]
    except OSError:
        pass
    return None


def _own_path(own: str) -> str | None:
    try:
        with open(own) as file:
            return next((line[3:].rstrip("\n") for line in file if line.startswith("0::/")), None)
    except OSError:
        return None


def _sweep(above: str) -> None:
    """Remove what killed ones left behind: the kernel refuses to remove a group that is in use.

    One that bears this process's number is such a one, too: numbers are given out again.
    """
    with contextlib.suppress(OSError):
        for name in os.listdir(above):
            pid = name.removeprefix(_PREFIX)
            if pid != name and (pid == str(os.getpid()) or not os.path.exists(f"/proc/{pid}")):
                with contextlib.suppress(OSError):
                    os.rmdir(f"{above}/{name}")


def _wait_until_empty(path: str) -> None:
    with open(f"{path}/cgroup.events") as file:
        poll = select.poll()
        poll.register(file, select.POLLPRI)
        while "populated 1" in file.read():
            if not poll.poll(_GONE_WITHIN_S * 1000):
                return
            file.seek(0)


def _write(path: str, value: str) -> None:
    with open(path, "w") as file:
        file.write(value)
