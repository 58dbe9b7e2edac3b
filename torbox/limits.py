# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of the machine a sandbox may use, and by what that is held to: a control group, or rlimits.

    what                     by a control group (cgroup.py)         else
    memory                   of all programs together               private, of each process: RLIMIT_DATA
    processes and threads    of the sandbox                         of the sandbox: RLIMIT_NPROC
    processor time           of all programs together               nothing can: the start is refused
    open files, file size    of each process: RLIMIT_NOFILE, RLIMIT_FSIZE
    signals and messages     of the sandbox, half of what the user has: RLIMIT_SIGPENDING, RLIMIT_MSGQUEUE
    files in memory          of the sandbox: the sizes of its file systems (system.py)

A control group is made where the profile says how much and the machine lets this user make one; it may take
the kernel 10 ms and more to move a process into one, which a start that asks for nothing does not wait for.
RLIMIT_DATA counts private memory; what can be shared (memfd_create(2), MAP_SHARED, shmget(2)) no rlimit does:
where there is no control group, the kernel's killing is the bound of that.
RLIMIT_NPROC counts those of the sandbox alone, since it has a user namespace of its own (Linux 5.14).

Whatever limits there are, the sandbox's programs are the first that the kernel ends when memory is short.
"""

from __future__ import annotations

import resource
from typing import NamedTuple

from torbox import memory as memory_here
from torbox.errors import SetupError

STEP = "set limits"
TO_GET_A_GROUP = "systemd-run --user --scope -p Delegate=yes torbox run …"
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
# Of each process, unless the profile says otherwise: less than the machine has, and more than any tab needs.
# Chromium gives its own renderers 4 to 16 GiB by the same rlimit (sandbox_linux.cc).
_MEMORY_SHARE, _MEMORY_LEAST = 75, 4 << 30  # percent of the machine's; bytes
# /proc/PID/oom_score_adj: as if half of the machine's memory had been taken; proc_pid_oom_score_adj(5).
_OOM_SCORE = 500
_OOM_SCORE_FILE = "/proc/self/oom_score_adj"


class Limits(NamedTuple):
    """In bytes, processes, percent of one processor; 0: none but the machine's. `memory_of_each` is in force
    where there is no control group. `wants_group`: the profile says how much of what one can limit."""

    memory: int = 0
    memory_of_each: int = 0
    processes: int = 0
    cpu: int = 0
    open_files: int = 0
    file_size: int = 0
    wants_group: bool = False

    def lines(self) -> list[str]:
        """What is known of them before it is tried whether there can be a control group."""
        if not self.wants_group:
            return [describe(self, "")]
        whole = [f"{_size(self.memory)} of memory"] if self.memory else []
        whole += [f"{self.cpu} % of a processor"] if self.cpu else []
        first = f"{', '.join(whole + _others(self))}; by a control group, where this user may make one"
        return [first, f"else {_size(self.memory_of_each)} of memory for each process; by rlimits"]


def bytes_of(size: str, whole: int) -> int:
    """What a size of a profile means: "512M", or "25%" of `whole`; 0 of the empty text."""
    if not size:
        return 0
    number, unit = int(size[:-1]), size[-1].upper()
    return whole * number // 100 if unit == "%" else number * _UNITS[unit]


def of_profile(
    *,
    memory: str,
    processes: int,
    cpu: int,
    open_files: int,
    file_size: str,
    is_said: bool,
    whole: int | None = None,
) -> Limits:
    """The limits that a profile's values mean where there are `whole` bytes of memory, as here if None.

    `is_said`: one that a control group can hold is not the default.
    """
    whole = memory_here.total() if whole is None else whole
    wanted = bytes_of(memory, whole)
    return Limits(
        memory=wanted,
        memory_of_each=wanted or max(whole * _MEMORY_SHARE // 100, _MEMORY_LEAST),
        processes=processes,
        cpu=cpu,
        open_files=open_files,
        file_size=bytes_of(file_size, whole),
        wants_group=is_said,
    )


def set_rlimits(limits: Limits, *, in_group: bool) -> None:
    """For this process and all that it starts; never more than there is already. SetupError."""
    wanted = {
        resource.RLIMIT_NPROC: limits.processes,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_FSIZE: limits.file_size,
        resource.RLIMIT_DATA: 0 if in_group and limits.memory else limits.memory_of_each,
    }
    for which in (
        resource.RLIMIT_SIGPENDING,
        resource.RLIMIT_MSGQUEUE,
    ):  # all of the user's programs share it
        hard = resource.getrlimit(which)[1]
        wanted[which] = 0 if hard == resource.RLIM_INFINITY else hard // 2
    try:
        for which, most in wanted.items():
            if most:
                _lower(which, most)
    except OSError as error:
        raise SetupError(STEP, error.errno or 0, "rlimits") from error


def _lower(which: int, most: int) -> None:
    soft, hard = (
        most if each == resource.RLIM_INFINITY else min(each, most) for each in resource.getrlimit(which)
    )
    resource.setrlimit(which, (soft, hard))
    if resource.getrlimit(which) != (soft, hard):
        raise SetupError(STEP, 0, "an rlimit is not what it was set to")


def see_whether_rlimits_do(limits: Limits, why: str) -> None:
    """SetupError if it takes a control group to hold to these; `why` there is none."""
    if limits.cpu:
        what = f"nothing here can limit processor time (limits.cpu), for there is no control group: {why}"
        raise SetupError(STEP, 0, what, advice=f"Try\n  {TO_GET_A_GROUP}")


def shortfall(limits: Limits, why: str) -> str:
    """What rlimits hold to only in part, in words for the user; "" if nothing. `why` there is no group."""
    if not limits.memory:
        return ""
    return (
        "limits.memory holds for the private memory of each process by itself, and not for what processes"
        f" share: a control group would hold for all of it, and none can be made here ({why}); try"
        f" {TO_GET_A_GROUP}"
    )


def go_first_when_memory_is_short() -> None:
    """For this process and all that it starts. A program can undo it for itself. SetupError."""
    try:
        with open(_OOM_SCORE_FILE, "r+") as file:
            if int(file.read()) < _OOM_SCORE:
                file.seek(0)
                file.write(str(_OOM_SCORE))
    except OSError as error:
        raise SetupError(STEP, error.errno or 0, _OOM_SCORE_FILE) from error


def describe(limits: Limits, group: str) -> str:
    """One line of what is in force; `group` is the control group's directory, "" if there is none."""
    memory = limits.memory if group and limits.memory else limits.memory_of_each
    parts = [f"{_size(memory)} of memory{'' if group and limits.memory else ' for each process'}"]
    if limits.cpu and group:
        parts.append(f"{limits.cpu} % of a processor")
    return f"{', '.join(parts + _others(limits))}; by {f'the control group {group}' if group else 'rlimits'}"


def _others(limits: Limits) -> list[str]:
    """What is in force by either."""
    parts = [f"{limits.processes} processes", f"{limits.open_files} open files for each"]
    return [*parts, f"files of {_size(limits.file_size)}"] if limits.file_size else parts


def _size(number: int) -> str:
    for unit in ("T", "G", "M"):
        if number >= _UNITS[unit]:
            return f"{number / _UNITS[unit]:.3g} {unit}iB"
    return f"{number} bytes"
