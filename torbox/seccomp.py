# SPDX-License-Identifier: GPL-3.0-or-later
"""The payload's system call filter: a BPF assembler of forty lines, and a deny list.

    architecture ──► not this machine's own: ENOSYS         (int 0x80, or a 32-bit program)
    number ────────► of the x32 interface: ENOSYS
                 ──► ioctl: TIOCSTI, TIOCLINUX: EPERM       (typing into the terminal's other programs)
                 ──► socket, socketpair: by family and netlink protocol, others EAFNOSUPPORT
                 ──► on the list: its errno
                 ──► everything else: allowed

A deny list, because browsers must run: what their own sandboxes are made of (clone, unshare, mount,
ptrace, seccomp) stays allowed, and is harmless in a user namespace without a way out. What is denied
is what namespaces do not confine (AF_VSOCK, the session keyring, the kernel's log), what goes round
this very filter (io_uring opens sockets without socket(2)), and parts of the kernel that have no
business with an ordinary program and a long history of holes (bpf, perf, userfaultfd).

Only the low words of arguments are compared, where the kernel itself takes an int or unsigned int
and ignores the rest: comparing 64 bits would let the same call through with rubbish above
(CVE-2019-10063). The kernel remembers for each number whether the answer depends on arguments, so
the length of the list costs a call nothing (Linux 5.11 and later).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from errno import EACCES, EAFNOSUPPORT, EINVAL, ENOSYS, EPERM
from typing import NamedTuple

from torbox.errors import SetupError

STEP = "system call filter"

# linux/bpf_common.h: instruction class | size or operation | mode
LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS: a word of seccomp_data into the accumulator
JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
JUMP_NOT_LESS = 0x35  # BPF_JMP | BPF_JGE | BPF_K
RETURN = 0x06  # BPF_RET | BPF_K

# linux/seccomp.h
ALLOW = 0x7FFF0000  # SECCOMP_RET_ALLOW
ERRNO = 0x00050000  # SECCOMP_RET_ERRNO
MODE_FILTER = 2
PR_GET_SECCOMP, PR_SET_SECCOMP = 21, 22

# struct seccomp_data, in bytes; both machines are little-endian, so the low word comes first
OFFSET_NUMBER, OFFSET_ARCHITECTURE, OFFSET_ARGUMENTS = 0, 4, 16

X32 = 0x40000000  # __X32_SYSCALL_BIT, asm/unistd.h
SKIPPED = 0xFFFFFFFF  # the number a tracer sets to skip a call; not of x32 though the bit is set

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16  # linux/socket.h
NETLINK_ROUTE = 0  # linux/netlink.h; glibc's getaddrinfo and browsers list interfaces with it
TIOCSTI, TIOCLINUX = 0x5412, 0x541C  # asm-generic/ioctls.h


class Machine(NamedTuple):
    """What a kind of machine calls itself, and in which column of the list its numbers are."""

    audit_arch: int  # linux/audit.h
    column: int
    has_x32: bool


MACHINES = {"x86_64": Machine(0xC000003E, 0, True), "aarch64": Machine(0xC00000B7, 1, False)}

# Numbers: x86-64 (asm/unistd_64.h), aarch64 (asm-generic/unistd.h); None: the machine has no such call.
Numbers = tuple[int | None, int | None]
SOCKET: Numbers = (41, 198)
SOCKETPAIR: Numbers = (53, 199)
IOCTL: Numbers = (16, 29)

DENIED: dict[str, tuple[Numbers, int]] = {
    # Opens sockets and files past this filter. ENOSYS: programs fall back to epoll.
    "io_uring_setup": ((425, 425), ENOSYS),
    "io_uring_enter": ((426, 426), ENOSYS),
    "io_uring_register": ((427, 427), ENOSYS),
    # The session keyring is inherited through every namespace.
    "add_key": ((248, 217), EPERM),
    "request_key": ((249, 218), EPERM),
    "keyctl": ((250, 219), EPERM),
    # Programs in the kernel, counters of it, and page faults held open at will.
    "bpf": ((321, 280), EPERM),
    "perf_event_open": ((298, 241), EPERM),
    "userfaultfd": ((323, 282), EPERM),
    # A file by a number that can be guessed, past the mounts (shocker).
    "open_by_handle_at": ((304, 265), EPERM),
    # Another kernel, or more of this one.
    "kexec_load": ((246, 104), EPERM),
    "kexec_file_load": ((320, 294), EPERM),
    "init_module": ((175, 105), EPERM),
    "finit_module": ((313, 273), EPERM),
    "delete_module": ((176, 106), EPERM),
    # The host's log and clock. Reading the clock's corrections would tell one host from another.
    "syslog": ((103, 116), EPERM),
    "settimeofday": ((164, 170), EPERM),
    "adjtimex": ((159, 171), EPERM),
    "clock_settime": ((227, 112), EPERM),
    "clock_adjtime": ((305, 266), EPERM),
    # The machine as a whole; all want capabilities that are gone, and are denied for the day one is not.
    "reboot": ((169, 142), EPERM),
    "swapon": ((167, 224), EPERM),
    "swapoff": ((168, 225), EPERM),
    "acct": ((163, 89), EPERM),
    "quotactl": ((179, 60), EPERM),
    "quotactl_fd": ((443, 443), EPERM),
    "iopl": ((172, None), EPERM),
    "ioperm": ((173, None), EPERM),
}


class Instruction(NamedTuple):
    """struct sock_filter: jumps go `if_true` or `if_false` instructions beyond the next."""

    code: int
    if_true: int
    if_false: int
    k: int


class Line(NamedTuple):
    """An instruction whose jumps go to labels further down; "" is the next line."""

    code: int
    k: int
    if_true: str = ""
    if_false: str = ""


def assemble(lines: Sequence[str | Line]) -> list[Instruction]:
    """Instructions of lines and labels (texts). A label may occur anywhere but before a jump to it."""
    addresses: dict[str, int] = {}
    program: list[Line] = []
    for line in lines:
        if isinstance(line, str):
            addresses[line] = len(program)
        else:
            program.append(line)

    def distance(label: str, here: int) -> int:
        steps = addresses[label] - here - 1 if label else 0
        if not 0 <= steps <= 255:  # struct sock_filter has a byte for it
            raise ValueError(f"a jump of {steps} instructions to {label}")
        return steps

    return [
        Instruction(line.code, distance(line.if_true, here), distance(line.if_false, here), line.k)
        for here, line in enumerate(program)
    ]


def program(machine: str) -> list[Instruction]:
    """The filter for a machine as uname(2) calls it. SetupError if its numbers are not known."""
    if machine not in MACHINES:
        known = " and ".join(MACHINES)
        raise SetupError(
            STEP, 0, f"the numbers of {machine} are not known", advice=f"torbox runs on {known}."
        )
    audit_arch, column, has_x32 = MACHINES[machine]
    lines: list[str | Line] = [
        Line(LOAD, OFFSET_ARCHITECTURE),
        Line(JUMP_EQUAL, audit_arch, if_false="no such call"),
        Line(LOAD, OFFSET_NUMBER),
    ]
    if has_x32:
        lines += [
            Line(JUMP_EQUAL, SKIPPED, if_true="skipped"),
            Line(JUMP_NOT_LESS, X32, if_true="no such call"),
            "skipped",
        ]
    lines += [
        Line(JUMP_EQUAL, _number(SOCKET, column), if_true="socket"),
        Line(JUMP_EQUAL, _number(SOCKETPAIR, column), if_true="socketpair"),
        Line(JUMP_EQUAL, _number(IOCTL, column), if_true="ioctl"),
    ]
    for numbers, errno in DENIED.values():
        number = numbers[column]
        if number is not None:
            lines.append(Line(JUMP_EQUAL, number, if_true="no such call" if errno == ENOSYS else "denied"))
    lines += [
        Line(RETURN, ALLOW),
        "ioctl",
        Line(LOAD, _argument(1)),
        Line(JUMP_EQUAL, TIOCSTI, if_true="denied"),
        Line(JUMP_EQUAL, TIOCLINUX, if_true="denied"),
        Line(RETURN, ALLOW),
        "socket",
        Line(LOAD, _argument(0)),
        Line(JUMP_EQUAL, AF_UNIX, if_true="allowed"),
        Line(JUMP_EQUAL, AF_INET, if_true="allowed"),
        Line(JUMP_EQUAL, AF_INET6, if_true="allowed"),
        Line(JUMP_EQUAL, AF_NETLINK, if_false="no such family"),
        Line(LOAD, _argument(2)),
        Line(JUMP_EQUAL, NETLINK_ROUTE, if_true="allowed", if_false="no such family"),
        "socketpair",
        Line(LOAD, _argument(0)),
        Line(JUMP_EQUAL, AF_UNIX, if_true="allowed", if_false="no such family"),
        "allowed",
        Line(RETURN, ALLOW),
        "denied",
        Line(RETURN, ERRNO | EPERM),
        "no such call",
        Line(RETURN, ERRNO | ENOSYS),
        "no such family",
        Line(RETURN, ERRNO | EAFNOSUPPORT),
    ]
    return assemble(lines)


def _number(numbers: Numbers, column: int) -> int:
    number = numbers[column]
    assert number is not None  # of the three calls that every machine has
    return number


def _argument(index: int) -> int:
    """The offset of the low word of an argument, counted from 0."""
    return OFFSET_ARGUMENTS + 8 * index


class _SockFilter(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("jt", ctypes.c_uint8),
        ("jf", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    )


class _SockFprog(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.POINTER(_SockFilter)))


def install() -> None:
    """Put the filter on this thread and all that it starts, for good. It must be the last step before exec.

    Wants no_new_privs. SetupError if the kernel does not take the filter or does not show it.
    """
    instructions = program(os.uname().machine)
    array = (_SockFilter * len(instructions))(*(_SockFilter(*each) for each in instructions))
    fprog = _SockFprog(len(instructions), array)
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    if libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(MODE_FILTER), ctypes.byref(fprog), zero, zero) != 0:
        errno = ctypes.get_errno()
        raise SetupError(STEP, errno, advice=ADVICE.get(errno, ""))
    if libc.prctl(PR_GET_SECCOMP, zero, zero, zero, zero) != MODE_FILTER:
        raise SetupError(STEP, 0, "the kernel took the filter but does not show it")


ADVICE = {
    EACCES: "The filter needs no_new_privs, which an earlier step sets: this is a fault of torbox.",
    EINVAL: "The kernel was built without CONFIG_SECCOMP_FILTER; torbox starts nothing without it.",
}
