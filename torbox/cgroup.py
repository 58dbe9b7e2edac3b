# SPDX-License-Identifier: GPL-3.0-or-later
"""A control group of the sandbox's own, version 2, where this user may make one; cgroups(7).

    …/app.slice/run-….scope      delegated: `systemd-run --user --scope -p Delegate=yes torbox …`
      ├── outside                where its processes go, for one that has any gives its children nothing
      └── torbox-PID             made, entered by the sandbox's first process, removed

Only in what is delegated: every group has one writer (Linux, cgroup-v2.rst, "Delegation"), and a session's is
systemd's own although its directories are the user's: it may take away again what it did not write. A group
is delegated if systemd has marked it so (`user.delegate`, systemd 251), or where this user may write and no
systemd is in charge.

The process enters it before it makes its namespaces, so that its cgroup namespace begins there and shows no
path of the host's. A group that a killed torbox left behind is empty, and removed by the next one beside it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select

from torbox import hierarchies
from torbox.errors import SetupError
from torbox.hierarchies import MOUNTS, OWN
from torbox.limits import STEP, Limits

CONTROLLERS = ("memory", "pids", "cpu")  # all that limits.py has a group for
_PREFIX = "torbox-"
_LEAF = "outside"
_MARK, _MARKED = "user.delegate", b"1"  # systemd.resource-control(5), Delegate=
_MANAGER = "init.scope"  # every systemd, a session's and a container's too, puts itself there
_ATTEMPTS = 8  # to empty a group in which a process may just be starting another
_EXTRA_PROCESSES = 2  # the namespaces' holder and init, which are the sandbox's but not the program's
_PERIOD_US = 100_000  # of cpu.max; the kernel's default
_GONE_WITHIN_S = 2.0  # killed processes are gone in milliseconds


class NoGroup(Exception):
    """This user can make no such group here; the text says why."""


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


def make(limits: Limits, *, own: str = OWN, mounts: str = MOUNTS) -> Group:
    """A group that holds to what of these limits it can. NoGroup if this user cannot make one here.

    SetupError if one was made that the limits cannot be written to.
    """
    values = _values(limits)
    above = _above({name.partition(".")[0] for name in values}, own, mounts)
    _sweep(above)
    path = f"{above}/{_PREFIX}{os.getpid()}"
    try:
        os.mkdir(path, 0o755)
    except OSError as error:  # cgroup.max.descendants, or read-only after all
        raise NoGroup(f"{path}: {os.strerror(error.errno or 0)}") from error
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


def available(*, own: str = OWN, mounts: str = MOUNTS) -> set[str]:
    """Of CONTROLLERS those that a group of this user's could have here. NoGroup if none; changes nothing."""
    wanted = set(CONTROLLERS)
    delegated = _delegated(*_own_group(own, mounts))
    found = [_named_in(f"{directory}/cgroup.subtree_control") & wanted for directory in delegated]
    if _can_be_made_to_give(delegated):
        found.append(_named_in(f"{delegated[0]}/cgroup.controllers") & wanted)
    most = max(found, key=len)
    if not most:
        raise NoGroup(f"{delegated[-1]} does not give {', '.join(CONTROLLERS)}")
    return most


def _values(limits: Limits) -> dict[str, str]:
    """What is written to which file."""
    values = {"pids.max": str(limits.processes + _EXTRA_PROCESSES)} if limits.processes else {}
    if limits.memory:
        values |= {"memory.max": str(limits.memory), "memory.swap.max": "0"}
    if limits.cpu:
        values["cpu.max"] = f"{limits.cpu * _PERIOD_US // 100} {_PERIOD_US}"
    return values


def _above(wanted: set[str], own: str, mounts: str) -> str:
    """The nearest directory above in which this user can make a group with these controllers. NoGroup."""
    delegated = _delegated(*_own_group(own, mounts))
    for directory in delegated:
        if wanted <= _named_in(f"{directory}/cgroup.subtree_control"):
            return directory
    if _can_be_made_to_give(delegated) and wanted <= _named_in(f"{delegated[0]}/cgroup.controllers"):
        _make_give(delegated[0], wanted)
        return delegated[0]
    raise NoGroup(f"{delegated[-1]} does not give {', '.join(sorted(wanted))}")


def _delegated(root: str, place: str) -> list[str]:
    """The directories from this process's own up to the one that was delegated. NoGroup.

    In the leaf into which another torbox has moved this process it is where it was before.
    """
    above, _, name = place.rpartition("/")
    if name == _LEAF and _is_marked(root + above):
        place = above
    found: list[str] = []
    while True:
        directory = root + place.rstrip("/")
        # Processes are moved by whoever may write there: not beyond what was delegated.
        if not all(os.access(path, os.W_OK) for path in (directory, f"{directory}/cgroup.procs")):
            break
        if os.path.exists(f"{directory}/{_MANAGER}"):
            raise NoGroup(f"{directory} is systemd's, which has delegated nothing to this process")
        found.append(directory)
        if _is_marked(directory) or place in ("", "/"):
            break
        place = os.path.dirname(place)
    if not found:
        raise NoGroup(f"{directory} is not this user's")
    return found


def _can_be_made_to_give(delegated: list[str]) -> bool:
    """Whether this process's own group is what was delegated: its processes may be moved."""
    return len(delegated) == 1 and _is_marked(delegated[0])


def _is_marked(directory: str) -> bool:
    try:
        return os.getxattr(directory, _MARK) == _MARKED
    except OSError:  # not marked, or by a systemd that does not mark for users
        return False


def _make_give(directory: str, wanted: set[str]) -> None:
    """Have its children limited, and its processes in one of them first, as the kernel wants it. NoGroup."""
    leaf = f"{directory}/{_LEAF}"
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(leaf, 0o755)
        for attempt in range(1, _ATTEMPTS + 1):
            with open(f"{directory}/cgroup.procs") as file:
                pids = file.read().split()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    _write(f"{leaf}/cgroup.procs", pid)
            try:
                _write(f"{directory}/cgroup.subtree_control", " ".join(f"+{name}" for name in sorted(wanted)))
                return
            except OSError as error:
                if error.errno != errno.EBUSY or attempt == _ATTEMPTS:
                    raise
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise NoGroup(f"{directory} cannot be made to give {', '.join(sorted(wanted))}: {why}") from error


def _named_in(path: str) -> set[str]:
    """The controllers that a file of a group's lists; none if it cannot be read."""
    try:
        with open(path) as file:
            return set(file.read().split())
    except OSError:
        return set()


def _own_group(own: str, mounts: str) -> tuple[str, str]:
    """Where the hierarchy is mounted, and this process's place in it. NoGroup."""
    root = mount_point(mounts)
    place = next((place for controllers, place in hierarchies.places(own) if not controllers), None)
    if root is None or place is None:
        raise NoGroup("this machine has no control groups of version 2")
    return root, place


def mount_point(mounts: str = MOUNTS) -> str | None:
    """Where the whole hierarchy of version 2 is mounted."""
    found = (each for each in hierarchies.mounted(mounts) if each.type == "cgroup2" and each.root == "/")
    return next((each.point for each in found), None)


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
