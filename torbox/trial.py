# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a sandbox's start, tried in processes that are thrown away: what `torbox doctor` believes.

    doctor ── fork ─► the user ── fork ─► namespaces, clocks, tun ── fork ─► file system, privileges, filter
                        ├─ writes the maps
                        └─ fork ─► what confines the network stack

Nothing is looked up that can be tried: the functions are those of sandbox.py, in its order, and the
first that fails ends the trial. No program is started and nothing is sent anywhere.
"""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from torbox import cgroup, landlock, mounts, netns, privileges, seccomp, syscalls, system, userns
from torbox.allowance import NOTHING
from torbox.confinement import Confinement
from torbox.errors import SetupError, TorboxError
from torbox.limits import TO_GET_A_GROUP
from torbox.stack_filter import Reach

STEPS = (
    "user namespaces",
    "time namespace",
    "tun device",
    "file system",
    "privileges",
    "system call filter",
    "confinement",
)

_NO_GROUP = (
    "Without one memory is limited for each process by itself, and processor time (limits.cpu) cannot be:"
    f" a profile that wants that starts nothing. To have one, try\n  {TO_GET_A_GROUP}"
)
_MTU = 65520  # bytes; what the profiles have unless they say otherwise
_DEADLINE_S = 20.0  # 30 to 60 ms are usual
_MESSAGE_LIMIT = 1 << 16


class Outcome(NamedTuple):
    """How one step went: `fault` is empty if it went well."""

    step: str
    detail: str
    fault: str = ""
    advice: str = ""


def attempt(user: pwd.struct_passwd | None) -> list[Outcome]:
    """Try the steps, as `user` if one is given (by root only); as far as they went, in order.

    Forks, so it must be called before threads are made.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _guarded(_Report(theirs), lambda report: _as_user(report, user, parent))
        theirs.close()
        ours.settimeout(_DEADLINE_S)
        outcomes: list[Outcome] = []
        try:
            while packet := ours.recv(_MESSAGE_LIMIT):
                outcomes.append(Outcome(*json.loads(packet)))
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)  # and by it all that it forked
            fault = f"no end within {_DEADLINE_S:g} s"
        else:
            fault = "the process that tried it ended without a word"
        os.waitpid(pid, 0)
    if len(outcomes) < len(STEPS) and not any(outcome.fault for outcome in outcomes):
        outcomes.append(Outcome(STEPS[len(outcomes)], "", fault))
    return outcomes


def overlay(user: pwd.struct_passwd | None) -> Outcome:
    """Whether an overlay can be mounted, which only some homes are made of. Forks, as `attempt` does."""
    return _alone("homes", user, _overlay)


def control_group(user: pwd.struct_passwd | None) -> Outcome:
    """Whether there can be one to limit a whole sandbox by. Makes none; forks, as `attempt` does."""
    return _alone("control groups", user, _control_group)


def _alone(step: str, user: pwd.struct_passwd | None, column: Callable[[_Report], None]) -> Outcome:
    """One step by itself, in a process that is thrown away and has become the user."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _guarded(_Report(theirs, step), lambda report: _as(user, parent, column, report))
        theirs.close()
        packet = ours.recv(_MESSAGE_LIMIT)
        os.waitpid(pid, 0)
    return Outcome(*json.loads(packet)) if packet else Outcome(step, "", "it ended without a word")


def _as(
    user: pwd.struct_passwd | None, parent: int, column: Callable[[_Report], None], report: _Report
) -> None:
    privileges.die_with_parent(parent)
    if user is not None:
        userns.become(user)
    column(report)


def _control_group(report: _Report) -> None:
    wanted = cgroup.CONTROLLERS
    try:
        given = cgroup.available()
    except cgroup.NoGroup as error:
        raise SetupError("", 0, str(error), advice=_NO_GROUP) from error
    if missing := [name for name in wanted if name not in given]:
        raise SetupError("", 0, f"none with {', '.join(missing)} can be made here", advice=_NO_GROUP)
    report.done("memory, processes and processor time of a whole sandbox can be limited")


def _overlay(report: _Report) -> None:
    uid, gid = os.getuid(), os.getgid()
    syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
    userns.write_maps(os.getpid(), uid, gid)
    lower = os.path.realpath("/usr/bin")
    mounts.build([mounts.Directory("/run"), mounts.Overlay("/home", lower, size="64k")])
    report.done("can be kept, and be overlays of one's own")


class _Report:
    """What the processes of the trial have to say, in the order of the steps."""

    def __init__(self, end: socket.socket, step: str = STEPS[0]) -> None:
        self._end = end
        self.step = step

    def done(self, detail: str) -> None:
        """The step went well; the next one begins."""
        self._send(Outcome(self.step, detail))
        if self.step in STEPS:
            self.step = STEPS[min(STEPS.index(self.step) + 1, len(STEPS) - 1)]

    def failed(self, error: BaseException) -> None:
        if isinstance(error, TorboxError):
            self._send(Outcome(self.step, "", error.message, error.advice))
        else:
            self._send(Outcome(self.step, "", f"{type(error).__name__}: {error}"))

    def _send(self, outcome: Outcome) -> None:
        self._end.send(json.dumps(outcome).encode())


def _guarded(report: _Report, column: Callable[[_Report], None]) -> NoReturn:
    """A forked process: whatever happens in it is reported, and it never returns into its caller's code."""
    try:
        column(report)
    except BaseException as error:
        try:
            report.failed(error)
        except OSError:
            pass  # nobody listens any more
        os._exit(1)
    os._exit(0)


def _as_user(report: _Report, user: pwd.struct_passwd | None, parent: int) -> None:
    privileges.die_with_parent(parent)
    if user is not None:
        userns.become(user)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        this = os.getpid()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _guarded(report, lambda report: _inside(report, theirs, this))
        theirs.close()
        if ours.recv(1):  # else it failed, and has said so
            userns.write_maps(pid, os.getuid(), os.getgid())
            ours.send(b"m")
    if os.waitpid(pid, 0)[1]:
        return
    pid = os.fork()
    if pid == 0:
        _guarded(report, _network_stack)
    os.waitpid(pid, 0)


def _inside(report: _Report, outside: socket.socket, parent: int) -> None:
    privileges.die_with_parent(parent)
    userns.enter_namespaces()
    outside.send(b"u")
    if not outside.recv(1):
        return  # the maps could not be written, which was said outside
    report.done("every kind can be made, and the user mapped")
    userns.start_clocks_anew()
    report.done("the sandbox's clocks start anew")
    tun = netns.open_tun(1, _MTU)
    netns.configure(tun, ipv6=os.path.exists("/proc/sys/net/ipv6"))
    report.done("super-packets pass (GSO)" if tun.gso else "packets of one MTU at most")
    pid = os.fork()
    if pid == 0:
        _guarded(report, _first_process)
    if os.waitpid(pid, 0)[1]:
        os._exit(1)  # which has said why


def _first_process(report: _Report) -> None:
    report.step = "file system"
    privileges.die_with_parent(parent=0)
    mounts.build(system.parts())
    report.done("a root of the sandbox's own")
    userns.enter_everybodys_map()
    userns.share_what_is_counted()
    privileges.give_up()
    report.done("no capabilities, no new privileges")
    seccomp.install()
    report.done(f"the kernel takes it, for {os.uname().machine}")


def _network_stack(report: _Report) -> None:
    """Confined as for `block`, which needs nothing; it can still say so."""
    report.step = "confinement"
    confinement = Confinement(Reach(), NOTHING)
    confinement.prepare()
    version = landlock.abi()
    confinement.seal()
    report.done("the network stack's own" + (f", Landlock {version}" if version else "; no Landlock here"))
