# SPDX-License-Identifier: GPL-3.0-or-later
"""THE sequence: how a sandbox comes to be, the parent's column and the child's, in order.

    parent                                   child
    socketpair, fork                         die with the parent; close what was inherited
                                             unshare user|net|uts|mount|ipc|pid|cgroup|time
    uid and gid maps              ◄─ UNSHARED ─
                                  ─ MAPPED ─►   clocks; tun queues; lo, addresses, routes
    start the stack on the tun    ◄─ TUN ──────  fork pid 1
       ┊                                     pid 1: hostname; file system; terminal; user; capabilities
    it serves                     ─ PROCEED ─►
    carry the terminal            ◄─ PTY ──────  fork the program
                                             program: terminal; seccomp; execute
    end of file: it runs

The stack starts while pid 1 builds the room, since neither needs the other; but no program is forked
before both are done.

The three processes of the child's column: one that made the namespaces and waits, pid 1 of the
PID namespace, and the program. Any step that fails sends FAILED and nothing starts; nothing ever
runs half protected. There are no sleeps and nothing is polled: each side waits for the other's
message. This file knows the order; how each step is done is the business of the module it calls.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from torbox import handshake, init, limits, mounts, netns, privileges, seccomp, syscalls, tty, userns
from torbox.allowance import Allowance
from torbox.errors import EXIT_TORBOX, CommandError, SetupError
from torbox.handshake import Kind, Message
from torbox.netns import Tun
from torbox.plan import SandboxPlan
from torbox.streams import Streams

if TYPE_CHECKING:
    from torbox.cgroup import Group  # only for who has said how much it may use

_EXECUTE = "execute"

# Signals whose being ignored an exec keeps, as nohup(1) would have it. Python itself ignores SIGPIPE and
# SIGXFSZ from its start, and what its caller had set cannot be known any more.
_DISPOSABLE = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}


class _Signals(NamedTuple):
    """What the caller had set for torbox, and the program is to find."""

    ignored: frozenset[int]
    blocked: frozenset[int]


class Sandbox(NamedTuple):
    """A running program: its namespaces' first process, the socket to pid 1, the master of its pty.

    `in_foreground`: it was started with the caller's keys.
    """

    pid: int
    control: socket.socket
    master: int | None
    in_foreground: bool


def start(
    plan: SandboxPlan,
    streams: Streams,
    terminal: tty.Terminal | None,
    start_network: Callable[[Tun], None],
    tell: Callable[[str, str], None] = lambda *_: None,
    group: Group | None = None,
) -> Sandbox:
    """Build the sandbox and execute the program in it; return once it runs.

    `start_network` is given the tun (its descriptors stay the caller's to close) and must return
    only when the stack is serving it. `tell(name, why)` hears of each protection that is missing because
    the plan allows it. All of it runs in `group`, if there is one. Raises SetupError or CommandError; then
    nothing is left.
    """
    # A program alone on the terminal has its keys at once; one in a pipeline when it first reads.
    in_foreground = terminal is not None and terminal.in_foreground() and len(streams.terminals) == 3
    ours, theirs = handshake.pair()
    control, init_control = handshake.pair()
    parent = os.getpid()
    caller = _Signals(
        frozenset(each for each in _DISPOSABLE if signal.getsignal(each) is signal.SIG_IGN),
        frozenset(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    )
    pid = os.fork()
    if pid == 0:
        column = _Column(plan, streams, theirs, init_control, terminal, in_foreground, caller, group)
        _child(column, parent)
    theirs.close()
    init_control.close()
    streams.leave_to_the_program()
    try:
        _expect(ours, Kind.UNSHARED, tell)
        userns.write_maps(pid, os.getuid(), os.getgid())
        _send(ours, Kind.MAPPED)
        tun_message = _expect(ours, Kind.TUN, tell)
        mtu, gso = (int(field) for field in tun_message.fields)
        if len(tun_message.descriptors) != plan.queues:
            raise SetupError("open the tun", 0, "its descriptors did not arrive")
        try:
            start_network(Tun(tun_message.descriptors, mtu, bool(gso)))
        finally:
            for descriptor in tun_message.descriptors:
                os.close(descriptor)
        _send(ours, Kind.PROCEED)
        master = None
        while (message := _receive(ours, tell)) is not None:
            if message.kind is Kind.PTY:
                master = message.descriptors[0]
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        control.close()
        raise
    finally:
        ours.close()
    return Sandbox(pid, control, master, in_foreground)


def _send(end: socket.socket, kind: Kind) -> None:
    try:
        handshake.send(end, kind)
    except BrokenPipeError:
        pass  # it has ended: what it said last, or that it said nothing, is heard next


def _receive(end: socket.socket, tell: Callable[[str, str], None]) -> Message | None:
    while (message := handshake.receive(end)) is not None and message.kind is Kind.MISSING:
        tell(*message.fields)
    if message is not None and message.kind is Kind.FAILED:
        step, number, detail, advice = message.fields
        if step == _EXECUTE:
            raise CommandError(detail, int(number))
        raise SetupError(step, int(number), detail, advice=advice)
    return message


def _expect(end: socket.socket, kind: Kind, tell: Callable[[str, str], None] = lambda *_: None) -> Message:
    message = _receive(end, tell)
    if message is None:
        raise SetupError("build the sandbox", 0, f"its process ended before it was {kind.value}")
    if message.kind is not kind:
        raise SetupError("build the sandbox", 0, f"{message.kind.value} came where {kind.value} was due")
    return message


# The child's column. Nothing in it returns: each process ends in _exit or in the program.


class _Column(NamedTuple):
    plan: SandboxPlan
    streams: Streams
    handshake: socket.socket
    control: socket.socket
    terminal: tty.Terminal | None
    in_foreground: bool
    caller: _Signals
    group: Group | None

    def allowance(self) -> Allowance:
        """What the user allows to be missing; the parent is told."""
        tell = partial(handshake.send, self.handshake, Kind.MISSING)
        return Allowance(self.plan.allow_missing, tell)


def _child(column: _Column, parent: int) -> NoReturn:
    """The first process: makes the namespaces and the tun, forks pid 1, and waits for it."""
    try:
        privileges.die_with_parent(parent)
        os.setsid()  # signals from the caller's terminal are the supervisor's to pass on
        _drop_inherited_signals()
        _close_inherited(column)
        if column.group is not None:
            column.group.enter()
        limits.go_first_when_memory_is_short()
        userns.enter_namespaces()
        handshake.send(column.handshake, Kind.UNSHARED)
        _expect(column.handshake, Kind.MAPPED)
        with column.allowance().of("time-namespace"):
            userns.start_clocks_anew()
        plan = column.plan
        tun = netns.open_tun(plan.queues, plan.mtu)
        netns.configure(tun, ipv6=plan.ipv6)
        handshake.send(column.handshake, Kind.TUN, tun.mtu, int(tun.gso), descriptors=tun.queues)
        for descriptor in tun.queues:
            os.close(descriptor)
        pid = os.fork()
        if pid == 0:
            _pid1(column)
    except BaseException as error:
        _fail(column, error)
    column.handshake.close()
    column.control.close()
    _let_go_of_streams()
    os.waitpid(pid, 0)
    os._exit(0)


def _pid1(column: _Column) -> NoReturn:
    """The first process of the PID namespace: builds what the program will see, then stays as init."""
    plan = column.plan
    slave = None
    try:
        privileges.die_with_parent(parent=0)
        os.setsid()
        socket.sethostname(plan.hostname)
        syscalls.setdomainname(b"(none)")
        if plan.processors:
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: plan.processors])
        mounts.build(plan.mounts)
        if column.terminal is not None:
            master, slave = tty.open_pty("/dev/pts", column.terminal)
            os.close(column.terminal.descriptor)
            tty.make_controlling(slave)
            handshake.send(column.handshake, Kind.PTY, descriptors=(master,))
            os.close(master)
            for stream in column.streams.terminals:
                os.dup2(slave, stream)
        userns.enter_everybodys_map()
        userns.share_what_is_counted()
        limits.set_rlimits(plan.limits, in_group=column.group is not None)
        privileges.hide_this_process("init")
        privileges.give_up(column.allowance())
        child_changed = init.prepare()
        _expect(column.handshake, Kind.PROCEED)
        program = os.fork()
        if program == 0:
            _program(column, slave)
        _set_group(program)
    except BaseException as error:
        _fail(column, error)
    column.handshake.close()
    _let_go_of_streams()
    init.run(program, column.control, child_changed, slave)


def _program(column: _Column, slave: int | None) -> NoReturn:
    """The last process: gets its terminal and its filter, and becomes the program."""
    plan = column.plan
    try:
        _set_group(0)
        if slave is not None and column.in_foreground:
            init.set_foreground(slave, os.getpgrp())
        _restore_signals(column.caller)
        syscalls.close_all_but([column.handshake.fileno()])
        _enter_working_directory(plan)
        os.umask(0o022)
        with column.allowance().of("seccomp"):
            seccomp.install()
        for stream in column.streams.closed:  # last: nothing of ours may be opened on their numbers
            os.close(stream)
        _execute(plan)
    except BaseException as error:
        _fail(column, error)


def _close_inherited(column: _Column) -> None:
    kept = [column.handshake.fileno(), column.control.fileno()]
    if column.terminal is not None:
        kept.append(column.terminal.descriptor)
    # From here on the caller's own streams are nowhere in the sandbox.
    null = os.open(os.devnull, os.O_RDWR)
    for stream, inside in enumerate(column.streams.inside):
        if inside != stream:
            os.dup2(null if inside is None else inside, stream)
    syscalls.close_all_but(kept)


def _let_go_of_streams() -> None:
    """The program's relays end when it has closed its streams, whoever waits for it."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.close(null)


def _drop_inherited_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _restore_signals(caller: _Signals) -> None:
    """Every disposition as the caller's was: Python's own handlers and torbox's must not show."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN if number in caller.ignored else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, caller.blocked)


def _set_group(pid: int) -> None:
    """A process group of the program's own, set from both sides so that neither need wait for the other."""
    try:
        os.setpgid(pid, pid)
    except (PermissionError, ProcessLookupError):
        pass  # it has executed already, and so has set it itself


def _enter_working_directory(plan: SandboxPlan) -> None:
    try:
        os.chdir(plan.directory)
    except OSError as error:
        raise SetupError("enter the working directory", error.errno or 0, plan.directory) from error
    if not os.getcwd().startswith("/"):  # "(unreachable)": outside the root, CVE-2024-21626
        raise SetupError("enter the working directory", 0, "it lies outside the sandbox")


def _execute(plan: SandboxPlan) -> NoReturn:
    """Find the program as execvp(3) does, in the sandbox's PATH, and become it."""
    name = plan.argv[0]
    if "/" in name:
        candidates = [name]
    else:
        candidates = [f"{directory}/{name}" for directory in plan.environment["PATH"].split(":") if directory]
    number = errno.ENOENT  # of several candidates, one that is there but cannot run says more
    for candidate in candidates:
        try:
            os.execve(candidate, plan.argv, plan.environment)
        except OSError as error:
            if error.errno == errno.ENOEXEC:
                _execute_script(candidate, plan)
            if "/" in name or error.errno not in (errno.ENOENT, errno.ENOTDIR):
                number = error.errno or number
    raise CommandError(name, number)


def _execute_script(path: str, plan: SandboxPlan) -> NoReturn:
    """A script without a first line is sh's, as execvp(3) has it."""
    try:
        os.execve("/bin/sh", ["sh", path, *plan.argv[1:]], plan.environment)
    except OSError as error:
        raise CommandError("/bin/sh", error.errno or errno.ENOEXEC) from error


def _fail(column: _Column, error: BaseException) -> NoReturn:
    """Tell the parent which step failed and end; the last resort for errors nobody foresaw, too."""
    match error:
        case CommandError():
            fields = (_EXECUTE, error.errno, error.command, "")
        case SetupError():
            fields = (error.step, error.errno, error.detail, error.advice)
        case OSError():
            fields = ("build the sandbox", error.errno or 0, error.filename or "", "")
        case _:
            fields = ("build the sandbox", 0, f"{type(error).__name__}: {error}", "This is a bug in torbox.")
    try:
        handshake.send(column.handshake, Kind.FAILED, *fields)
    finally:
        os._exit(EXIT_TORBOX)  # all that is seen of a program's last step where the message had no way out
