# SPDX-License-Identifier: GPL-3.0-or-later
"""Pid 1 of the sandbox: reaps what the program leaves, passes signals on, tells how it ended.

It is the leader of the sandbox's session and never in the foreground of its terminal, so the
program has a parent in its session and can be stopped like any shell's job (POSIX: an orphaned
process group cannot). The kernel kills everything in the PID namespace when it exits, and it exits
when the program does, when the supervisor is gone, or by SIGKILL when its own parent dies.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from typing import NoReturn

from torbox import handshake
from torbox.handshake import Kind

# These come from a terminal and mean the whole job; any other is meant for the program alone.
_JOB_SIGNALS = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGHUP})


def prepare() -> int:
    """Before the program is forked: a descriptor that becomes readable when a child changes state."""
    readable, writable = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    for number in (signal.SIGINT, signal.SIGTTOU, signal.SIGTTIN, signal.SIGTSTP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    return readable


def run(program: int, control: socket.socket, child_changed: int, terminal: int | None) -> NoReturn:
    """Live until the program, given by its pid, has ended. `terminal` is its pty's slave."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(child_changed, select.POLLIN)
    while True:
        for descriptor, _events in poll.poll():
            if descriptor == child_changed:
                with contextlib.suppress(BlockingIOError):
                    os.read(child_changed, 512)
                _reap(program, control)
            else:
                _obey(control, program, terminal)


def _reap(program: int, control: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid != program:
            continue
        if os.WIFSTOPPED(status):
            _tell(control, Kind.STOPPED, os.WSTOPSIG(status))
            continue
        _tell(control, Kind.EXITED, os.waitstatus_to_exitcode(status))
        os._exit(0)


def _tell(control: socket.socket, kind: Kind, number: int) -> None:
    try:
        handshake.send(control, kind, number)
    except OSError:
        os._exit(1)  # nobody is left to tell


def _obey(control: socket.socket, program: int, terminal: int | None) -> None:
    message = handshake.receive(control)
    if message is None:
        os._exit(1)  # torbox died: the program dies
    number = int(message.fields[0])
    with contextlib.suppress(ProcessLookupError):
        if message.kind is Kind.SIGNAL:
            if number in _JOB_SIGNALS:
                os.killpg(program, number)
            else:
                os.kill(program, number)
        elif message.kind is Kind.CONTINUE:
            if terminal is not None:
                set_foreground(terminal, program if number else os.getpgrp())
            os.killpg(program, signal.SIGCONT)


def set_foreground(terminal: int, group: int) -> None:
    """Give the terminal's foreground to a process group, which may just have gone."""
    with contextlib.suppress(OSError):
        os.tcsetpgrp(terminal, group)
