# SPDX-License-Identifier: GPL-3.0-or-later
"""The system calls that a process of torbox's own may make once it serves: an allow list of some sixty.

    architecture, x32 ──► not this machine's own: killed
    number ─────────────► makes another process or program, looks into one, mounts, or goes round
                          this filter: killed, and the sandbox ends with it
                      ──► on the list: allowed, of some calls by their arguments alone
                      ──► clone3: ENOSYS                 (so that libc takes clone, whose flags can be seen)
                      ──► everything else: EPERM

Killed is what no fault of torbox's, of Python's or of libc's could make, so it is an attack. The rest is
refused and no more: another version of libc may try calls that this list does not know and live without, and
what is refused is not done. Which calls and arguments depends on what the process is there for (see `Reach`;
of the stack's the upstream says it):

- socket(2) by family, by type and by protocol: TCP alone, to one family, where there is a proxy; without
  that a process that has been taken over could send UDP. MPTCP goes round what Landlock says of TCP.
- no MSG_FASTOPEN and no TCP_FASTOPEN_CONNECT, both of which connect past connect(2) and Landlock.
- no file is opened but by `direct`, whose resolver reads the configuration anew; then read-only.
- no memory becomes executable, but for `direct`, where libc loads name service modules when it needs them.
- nobody is let in but by the desktop's doorman, whose listeners were made before; no process makes any.

Of a program that is not torbox's (the session bus's proxy) nobody can say which calls the next version makes,
so it may make those that are not named here. The killing ones but for execve, signals, and sockets of another
kind than its own it may not.

Only the low words of arguments are compared; see seccomp.py.
"""

from __future__ import annotations

import fcntl
import os
import socket
import termios
from errno import EAFNOSUPPORT, ENOSYS, EPERM
from typing import NamedTuple

from torbox import bpf
from torbox.bpf import (
    ALLOW,
    AND,
    ERRNO,
    JUMP_ANY_SET,
    JUMP_EQUAL,
    KILL,
    LOAD,
    RETURN,
    Instruction,
    Line,
    Numbers,
    argument,
    assemble,
    by_number,
    machine_named,
)


class Reach(NamedTuple):
    """What a process needs of the system. `families` are those of the sockets that it makes.

    `resolves`: it sends datagrams, asks the machine's resolver by threads, and goes to any port.
    `port`: the one that it connects to by TCP, 0 for none or any. `paths`: the Unix sockets that it connects
    to; an abstract name begins with @. `lets_in`: it has listeners, and passes credentials on.
    `program`: it becomes a program of this machine's, that is not torbox's. `directory`: where that one makes
    its socket.
    """

    families: tuple[int, ...] = ()
    resolves: bool = False
    port: int = 0
    paths: tuple[str, ...] = ()
    lets_in: bool = False
    program: bool = False
    directory: str = ""

    @property
    def is_abstract(self) -> bool:
        """Whether it connects to a name that is in the caller's network, and in no directory."""
        return any(path.startswith("@") for path in self.paths)


# What a process does that computes, waits, and moves bytes between descriptors that it has.
PLAIN: dict[str, Numbers] = {
    "read": (0, 63),
    "readv": (19, 65),
    "pread64": (17, 67),
    "write": (1, 64),
    "writev": (20, 66),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "dup": (32, 23),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "restart_syscall": (219, 128),
    "sigaltstack": (131, 132),
    "epoll_wait": (232, None),
    "epoll_pwait": (281, 22),
    "epoll_pwait2": (441, 441),
    "epoll_ctl": (233, 21),
    "poll": (7, None),
    "ppoll": (271, 73),
    "select": (23, None),
    "pselect6": (270, 72),
    "futex": (202, 98),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "getrandom": (318, 278),
    "getpid": (39, 172),
    "getppid": (110, 173),
    "gettid": (186, 178),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getrusage": (98, 165),
    "times": (100, 153),
    "sysinfo": (99, 179),
    "uname": (63, 160),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "connect": (42, 203),
    "getsockname": (51, 204),
    "getpeername": (52, 205),
    "getsockopt": (55, 209),
    "recvfrom": (45, 207),
    "recvmsg": (47, 212),
    "shutdown": (48, 210),
}
# What the resolver's threads do besides, and libc in them.
RESOLVING: dict[str, Numbers] = {
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "stat": (4, None),
    "lstat": (6, None),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getdents64": (217, 61),
    "mmap": (9, 222),
    "mprotect": (10, 226),
}
LETTING_IN: dict[str, Numbers] = {"accept4": (288, 242)}
# What is looked at, with the label of the lines that do.
INSPECTED: tuple[tuple[Numbers, str], ...] = (
    ((41, 198), "socket"),
    ((44, 206), "sendto"),
    ((46, 211), "sendmsg"),
    ((54, 208), "setsockopt"),
    ((16, 29), "ioctl"),
    ((72, 25), "fcntl"),
    ((302, 261), "prlimit64"),
    ((56, 220), "clone"),
)
INSPECTED_RESOLVING: tuple[tuple[Numbers, str], ...] = (
    ((2, None), "open"),
    ((257, 56), "openat"),
    ((307, 269), "sendto"),  # sendmmsg, whose flags are in the same place
)
INSPECTED_ELSE: tuple[tuple[Numbers, str], ...] = (((9, 222), "mmap"), ((10, 226), "mmap"))  # and mprotect
# Of a program that is not torbox's: a socket's family, and threads.
INSPECTED_PROGRAM: tuple[tuple[Numbers, str], ...] = (((41, 198), "socket"), ((56, 220), "clone"))
# What such a program may not do to others: for torbox's own processes it is among all that is refused.
SIGNALLING: dict[str, Numbers] = {
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
}
CLONE3: Numbers = (435, 435)
# Only who has taken the process over would try these.
FATAL: dict[str, Numbers] = {
    "execve": (59, 221),
    "execveat": (322, 281),
    "fork": (57, None),
    "vfork": (58, None),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "mount_setattr": (442, 442),
    "open_by_handle_at": (304, 265),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
}

_TYPE_MASK = 0xF  # SOCK_TYPE_MASK, linux/net.h; the rest is SOCK_CLOEXEC and SOCK_NONBLOCK
_MSG_FASTOPEN = 0x20000000  # linux/socket.h
_IP, _TCP, _UDP, _IPV6 = socket.IPPROTO_IP, socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_IPV6
# linux/in.h, linux/in6.h, linux/tcp.h. TCP_FASTOPEN_CONNECT is not among them, nor are filters and devices.
_OPTIONS: dict[int, tuple[int, ...]] = {
    socket.SOL_SOCKET: (socket.SO_LINGER, socket.SO_KEEPALIVE, socket.SO_OOBINLINE),
    _TCP: (
        socket.TCP_NODELAY,
        socket.TCP_KEEPIDLE,
        socket.TCP_KEEPINTVL,
        socket.TCP_KEEPCNT,
        socket.TCP_QUICKACK,
        socket.TCP_USER_TIMEOUT,
    ),
}
_OPTIONS_LETTING_IN: dict[int, tuple[int, ...]] = {socket.SOL_SOCKET: (socket.SO_PASSCRED,)}
_DATAGRAM_OPTIONS: dict[int, tuple[int, ...]] = {_IP: (10, 11), _IPV6: (23, 25, socket.IPV6_V6ONLY)}
_IOCTLS = (termios.FIONBIO, termios.TIOCOUTQ, termios.FIONREAD, termios.FIOCLEX)
_FCNTLS = (fcntl.F_GETFD, fcntl.F_SETFD, fcntl.F_GETFL, fcntl.F_SETFL, fcntl.F_DUPFD_CLOEXEC)
_THREAD = 0x00010000  # CLONE_THREAD, linux/sched.h
_WRITING = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC | os.O_APPEND  # any of them, for O_RDONLY is 0
_PROT_EXEC = 4


def program(machine: str, reach: Reach, step: str = "") -> list[Instruction]:
    """The filter for a machine as uname(2) calls it. SetupError by `step` if its numbers are not known."""
    calls = [
        *(_of_a_program() if reach.program else _of_torbox(reach)),
        (CLONE3, "no such call"),
        *((numbers, "kill") for numbers in FATAL.values()),
    ]
    lines = by_number(machine_named(machine, step), "kill", calls)
    lines += [Line(RETURN, ALLOW if reach.program else ERRNO | EPERM), *_inspections(reach)]
    lines += [
        "allow",
        Line(RETURN, ALLOW),
        "deny",
        Line(RETURN, ERRNO | EPERM),
        "no such call",
        Line(RETURN, ERRNO | ENOSYS),
        "no such family",
        Line(RETURN, ERRNO | EAFNOSUPPORT),
        "kill",
        Line(RETURN, KILL),
    ]
    return assemble(lines)


def _of_torbox(reach: Reach) -> list[tuple[Numbers, str]]:
    allowed = (PLAIN, *((RESOLVING,) if reach.resolves else ()), *((LETTING_IN,) if reach.lets_in else ()))
    return [
        *INSPECTED,
        *(INSPECTED_RESOLVING if reach.resolves else INSPECTED_ELSE),
        *((numbers, "allow") for named in allowed for numbers in named.values()),
    ]


def _of_a_program() -> list[tuple[Numbers, str]]:
    return [
        *INSPECTED_PROGRAM,
        (FATAL["execve"], "allow"),  # by which it becomes that program
        *((numbers, "deny") for numbers in SIGNALLING.values()),
    ]


def _inspections(reach: Reach) -> list[str | Line]:
    """What is asked of the arguments of each call that may be made in some ways only."""
    any_of = [Line(JUMP_EQUAL, cmd, if_true="allow") for cmd in _IOCTLS]
    commands = [Line(JUMP_EQUAL, cmd, if_true="allow") for cmd in _FCNTLS]
    lines: list[str | Line] = [
        *_socket(reach),
        "sendto",
        Line(LOAD, argument(3)),
        Line(JUMP_ANY_SET, _MSG_FASTOPEN, if_true="deny", if_false="allow"),
        "sendmsg",
        Line(LOAD, argument(2)),
        Line(JUMP_ANY_SET, _MSG_FASTOPEN, if_true="deny", if_false="allow"),
        *_setsockopt(_options(reach)),
        "ioctl",
        Line(LOAD, argument(1)),
        *any_of,
        Line(RETURN, ERRNO | EPERM),
        "fcntl",
        Line(LOAD, argument(1)),
        *commands,
        Line(RETURN, ERRNO | EPERM),
        "prlimit64",  # its own alone
        Line(LOAD, argument(0)),
        Line(JUMP_EQUAL, 0, if_true="allow", if_false="deny"),
        "clone",  # a thread is no process; and who needs none is not to have one
    ]
    if not reach.resolves and not reach.program:
        return [
            *lines,
            Line(RETURN, KILL),
            "mmap",
            Line(LOAD, argument(2)),
            Line(JUMP_ANY_SET, _PROT_EXEC, if_true="deny", if_false="allow"),
        ]
    return [
        *lines,
        Line(LOAD, argument(0)),
        Line(JUMP_ANY_SET, _THREAD, if_true="allow", if_false="kill"),
        "open",
        Line(LOAD, argument(1)),
        Line(JUMP_ANY_SET, _WRITING, if_true="deny", if_false="allow"),
        "openat",
        Line(LOAD, argument(2)),
        Line(JUMP_ANY_SET, _WRITING, if_true="deny", if_false="allow"),
    ]


def _socket(reach: Reach) -> list[str | Line]:
    lines: list[str | Line] = ["socket", Line(LOAD, argument(0))]
    inet = [family for family in reach.families if family in (socket.AF_INET, socket.AF_INET6)]
    lines += [Line(JUMP_EQUAL, family, if_true="inet") for family in inet]
    if socket.AF_UNIX in reach.families:
        lines.append(Line(JUMP_EQUAL, socket.AF_UNIX, if_true="unix"))
    if reach.resolves:  # routes and addresses, which the resolver orders its answers by
        lines.append(Line(JUMP_EQUAL, socket.AF_NETLINK, if_true="default"))
    lines.append(Line(RETURN, ERRNO | EAFNOSUPPORT))
    types = [socket.SOCK_STREAM, *((socket.SOCK_DGRAM,) if reach.resolves else ())]
    protocols = [0, _TCP, *((_UDP,) if reach.resolves else ())]
    if inet:
        lines += ["inet", Line(LOAD, argument(1)), Line(AND, _TYPE_MASK)]
        lines += [Line(JUMP_EQUAL, kind, if_true="protocol") for kind in types]
        lines += [Line(RETURN, ERRNO | EPERM), "protocol", Line(LOAD, argument(2))]
        lines += [Line(JUMP_EQUAL, protocol, if_true="allow") for protocol in protocols]
        lines.append(Line(RETURN, ERRNO | EPERM))
    if socket.AF_UNIX in reach.families:
        lines += ["unix", Line(LOAD, argument(1)), Line(AND, _TYPE_MASK)]
        lines.append(Line(JUMP_EQUAL, socket.SOCK_STREAM, if_true="default", if_false="deny"))
    lines += ["default", Line(LOAD, argument(2)), Line(JUMP_EQUAL, 0, if_true="allow", if_false="deny")]
    return lines


def _options(reach: Reach) -> dict[int, tuple[int, ...]]:
    if reach.lets_in:
        return _OPTIONS_LETTING_IN
    return _OPTIONS | _DATAGRAM_OPTIONS if reach.resolves else _OPTIONS


def _setsockopt(options: dict[int, tuple[int, ...]]) -> list[str | Line]:
    lines: list[str | Line] = ["setsockopt", Line(LOAD, argument(1))]
    lines += [Line(JUMP_EQUAL, level, if_true=f"level {level}") for level in options]
    lines.append(Line(RETURN, ERRNO | EPERM))
    for level, names in options.items():
        lines += [f"level {level}", Line(LOAD, argument(2))]
        lines += [Line(JUMP_EQUAL, name, if_true="allow") for name in names]
        lines.append(Line(RETURN, ERRNO | EPERM))
    return lines


def install(reach: Reach, step: str) -> None:
    """Put the filter on this process, for good. Wants no_new_privs. SetupError by `step`."""
    bpf.install(program(os.uname().machine, reach, step), step)
