# SPDX-License-Identifier: GPL-3.0-or-later
"""What a process of the sandbox gives up before the program runs, each thing read back afterwards.

python-prctl has names for all of these but the keyring. A protection that the kernel accepted and
does not show is treated as missing: the program does not start.
"""

from __future__ import annotations

import os
import resource
import signal

import prctl

from torbox import syscalls
from torbox.errors import SetupError


def die_with_parent(parent: int) -> None:
    """Be killed as soon as the parent dies, also if it already has; prctl(2), PR_SET_PDEATHSIG.

    `parent` is its pid as seen here: 0 for the first process of a PID namespace, whose parent is
    outside and cannot be asked about.
    """
    prctl.set_pdeathsig(signal.SIGKILL)
    if parent and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def hide_this_process(title: str) -> None:
    """Keep the program from reading torbox's memory, environment and arguments in its own /proc."""
    syscalls.overwrite_arguments(title.encode())
    prctl.set_name(title)  # 15 bytes at most
    prctl.set_dumpable(False)


def give_up() -> None:
    """Capabilities in every set, the way to regain them, core dumps and the caller's keyring.

    Raises SetupError unless all of it shows in /proc/self/status.
    """
    try:
        syscalls.new_session_keyring()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for capability in range(_last_capability() + 1):
            if prctl.capbset_read(capability):
                prctl.capbset_drop(capability)
        prctl.set_no_new_privs(1)
        prctl.set_keepcaps(False)
        prctl.cap_effective.limit()
        prctl.cap_permitted.limit()
        prctl.cap_inheritable.limit()
    except OSError as error:
        raise SetupError("give up privileges", error.errno or 0) from error
    _verify()


def _last_capability() -> int:
    with open("/proc/sys/kernel/cap_last_cap") as file:
        return int(file.read())


def _verify() -> None:
    with open("/proc/self/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    kept = [name for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if int(status[name], 16)]
    if kept:
        raise SetupError("give up privileges", 0, f"{', '.join(kept)} not empty in /proc/self/status")
    if status["NoNewPrivs"].strip() != "1":
        raise SetupError("give up privileges", 0, "no_new_privs is not set in /proc/self/status")
    if resource.getrlimit(resource.RLIMIT_CORE) != (0, 0):
        raise SetupError("give up privileges", 0, "core dumps are not limited")
