# SPDX-License-Identifier: GPL-3.0-or-later
"""What a process of the sandbox gives up before the program runs, each thing read back afterwards.

A protection that the kernel accepted and does not show is treated as missing: the program does not start.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Sequence

import prctl

from torbox import syscalls
from torbox.allowance import NOTHING, Allowance
from torbox.errors import SetupError

_STEP = "give up privileges"
# linux/securebits.h: NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE, each locked. KEEP_CAPS is left free:
# there is nothing to keep, and ping(8) ends where it may not set it.
SECUREBITS = 0b11_00_11_11
# A core dump of one byte is none, for no file of that size is made. With 0 the kernel would still start the
# program that core_pattern names, outside and as root, and give it all that a crashed one had (core(5)); at 1
# it stops. The filter keeps programs from making it 0 (seccomp.py).
_MOST_OF_A_CORE = 1
# What a desktop's user may have, and with it a program could keep the machine from everybody else.
_LIMITED = {
    resource.RLIMIT_CORE: "core dumps are",
    resource.RLIMIT_RTPRIO: "real-time priority is",
    resource.RLIMIT_NICE: "priority is",
}


def die_with_parent(parent: int) -> None:
    """Be killed as soon as the parent dies, also if it already has; prctl(2), PR_SET_PDEATHSIG.

    `parent` is its pid as seen here: 0 for the first process of a PID namespace, whose parent is
    outside and cannot be asked about.
    """
    prctl.set_pdeathsig(signal.SIGKILL)
    if parent and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def detach(parent: int, kept: Sequence[int]) -> None:
    """For a process that torbox has forked to stand beside the sandbox.

    It dies with torbox, hears no signal of the caller's terminal, and has no descriptors but those `kept`.
    """
    die_with_parent(parent)
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for stream in (0, 1, 2):
        os.dup2(null, stream)  # held open, the caller's pipe would not end with the program
    syscalls.close_all_but(list(kept))
    os.chdir("/")


def hide_this_process(title: str) -> None:
    """Keep the program from reading torbox's memory, environment and arguments in its own /proc."""
    syscalls.overwrite_arguments(title.encode())
    prctl.set_name(title)  # 15 bytes at most
    prctl.set_dumpable(False)


def no_core_dumps() -> None:
    """For a process of torbox's own, of whose memory nothing is to be kept. OSError."""
    resource.setrlimit(resource.RLIMIT_CORE, (_most(resource.RLIMIT_CORE),) * 2)


def settle() -> None:
    """For the supervisor and what stands beside it, among the user's other programs; it starts none.

    Nobody traces it or reads its memory, where the caller's terminal passes, and it gains no privileges. The
    supervisor calls it when the sandbox has its maps, which are written by way of its /proc. SetupError.
    """
    try:
        no_core_dumps()
        prctl.set_no_new_privs(1)
        prctl.set_dumpable(False)
    except OSError as error:
        raise SetupError("settle down", error.errno or 0) from error


def drop_capabilities() -> None:
    """Every capability, and what could fill the sets again; no /proc is needed. OSError unless it shows."""
    _empty_sets()
    if any(syscalls.capabilities()) or prctl.get_no_new_privs() != 1:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), "capabilities")


def _empty_sets() -> None:
    """Whoever has no capability may not empty the bounding set, and no_new_privs keeps it from giving any."""
    if any(syscalls.capabilities()):
        syscalls.empty_bounding_set()
    syscalls.empty_capabilities()


def give_up(allowance: Allowance = NOTHING) -> None:
    """Capabilities in every set, the way to regain them, core dumps, real-time and the caller's keyring.

    Raises SetupError unless all of it shows in /proc/self/status and where else it can be read.
    """
    with allowance.of("keyring"):
        _leave_keyring()
    prctl.set_keepcaps(False)
    with allowance.of("securebits"):
        _lock_securebits()
    try:
        for limit in _LIMITED:
            resource.setrlimit(limit, (_most(limit),) * 2)
        prctl.set_no_new_privs(1)
        _empty_sets()
    except OSError as error:
        raise SetupError(_STEP, error.errno or 0) from error
    _verify()


def _most(limit: int) -> int:
    """What a program inside has of this; where the user has no core dumps at all, it stays so."""
    return min(_MOST_OF_A_CORE, resource.getrlimit(limit)[1] % 2**64) if limit == resource.RLIMIT_CORE else 0


def _leave_keyring() -> None:
    try:
        syscalls.new_session_keyring()
    except OSError as error:
        if error.errno != errno.ENOSYS:  # a kernel without keys (CONFIG_KEYS) has none to inherit either
            raise SetupError(_STEP, error.errno or 0, "a new session keyring") from error


def _lock_securebits() -> None:
    """User 0 of this namespace is nobody special; capabilities(7). One made inside has its own securebits."""
    try:
        syscalls.set_securebits(SECUREBITS)
    except OSError as error:
        raise SetupError(_STEP, error.errno or 0, "securebits") from error
    if syscalls.securebits() != SECUREBITS:
        raise SetupError(_STEP, 0, "securebits are not what they were set to")


def _verify() -> None:
    with open("/proc/self/status") as file:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    kept = [name for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if int(status[name], 16)]
    if kept:
        raise SetupError(_STEP, 0, f"{', '.join(kept)} not empty in /proc/self/status")
    if status["NoNewPrivs"].strip() != "1":
        raise SetupError(_STEP, 0, "no_new_privs is not set in /proc/self/status")
    for limit, what in _LIMITED.items():
        if resource.getrlimit(limit) not in ((0, 0), (_most(limit),) * 2):
            raise SetupError(_STEP, 0, f"{what} not limited")
