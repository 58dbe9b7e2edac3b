# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of system calls as the kernel takes them: an assembler of forty lines, and their installation.

    lines (instructions that jump to labels) ─► assemble ─► instructions ─► install

What is filtered is other modules' business: seccomp.py has the program's filter, stack_filter.py the one of
the stack's own process. Jumps go forward only, seccomp(2) and Documentation/networking/filter.rst.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from errno import EACCES, EFAULT, EINVAL
from typing import NamedTuple

from torbox.errors import SetupError

# linux/bpf_common.h: instruction class | size or operation | mode
LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS: a word of seccomp_data into the accumulator
AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
JUMP_NOT_LESS = 0x35  # BPF_JMP | BPF_JGE | BPF_K
JUMP_ANY_SET = 0x45  # BPF_JMP | BPF_JSET | BPF_K: any of these bits
RETURN = 0x06  # BPF_RET | BPF_K

# linux/seccomp.h
ALLOW = 0x7FFF0000  # SECCOMP_RET_ALLOW
ERRNO = 0x00050000  # SECCOMP_RET_ERRNO
KILL = 0x80000000  # SECCOMP_RET_KILL_PROCESS
MODE_DISABLED, MODE_FILTER = 0, 2
PR_GET_SECCOMP, PR_SET_SECCOMP = 21, 22

# struct seccomp_data, in bytes; both machines are little-endian, so the low word comes first
OFFSET_NUMBER, OFFSET_ARCHITECTURE, OFFSET_ARGUMENTS = 0, 4, 16

X32 = 0x40000000  # __X32_SYSCALL_BIT, asm/unistd.h
SKIPPED = 0xFFFFFFFF  # the number a tracer sets to skip a call; not of x32 though the bit is set


class Machine(NamedTuple):
    """What a kind of machine calls itself, and in which column of the lists its numbers are."""

    audit_arch: int  # linux/audit.h
    column: int
    has_x32: bool


MACHINES = {"x86_64": Machine(0xC000003E, 0, True), "aarch64": Machine(0xC00000B7, 1, False)}

# Numbers: x86-64 (asm/unistd_64.h), aarch64 (asm-generic/unistd.h); None: the machine has no such call.
Numbers = tuple[int | None, int | None]


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


def machine_named(name: str, step: str) -> Machine:
    """The machine that uname(2) calls so. SetupError if its numbers are not known."""
    if name not in MACHINES:
        known = " and ".join(MACHINES)
        raise SetupError(step, 0, f"the numbers of {name} are not known", advice=f"torbox runs on {known}.")
    return MACHINES[name]


def by_number(machine: Machine, foreign: str, calls: Iterable[tuple[Numbers, str]]) -> list[str | Line]:
    """The lines that a filter begins with: to a label for each call that this machine has, or on behind them.

    Calls of another interface than the machine's own (int 0x80, 32 bits, x32) go to the label `foreign`.
    """
    lines: list[str | Line] = [
        Line(LOAD, OFFSET_ARCHITECTURE),
        Line(JUMP_EQUAL, machine.audit_arch, if_false=foreign),
        Line(LOAD, OFFSET_NUMBER),
    ]
    if machine.has_x32:
        lines += [
            Line(JUMP_EQUAL, SKIPPED, if_true="skipped"),
            Line(JUMP_NOT_LESS, X32, if_true=foreign),
            "skipped",
        ]
    numbered = ((numbers[machine.column], label) for numbers, label in calls)
    lines += [Line(JUMP_EQUAL, number, if_true=label) for number, label in numbered if number is not None]
    return lines


def argument(index: int) -> int:
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


def see_whether_there(step: str) -> None:
    """SetupError if this kernel takes no filter: prctl(2) faults on none, where it would look at one."""
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(MODE_FILTER), None, zero, zero)
    if ctypes.get_errno() != EFAULT:
        raise SetupError(step, ctypes.get_errno(), advice=ADVICE.get(ctypes.get_errno(), ""))


def install(instructions: Sequence[Instruction], step: str) -> None:
    """Put a filter on this thread and all that it starts, for good.

    Wants no_new_privs. SetupError, in the name of `step`, if the kernel does not take it or does not show it.
    """
    array = (_SockFilter * len(instructions))(*(_SockFilter(*each) for each in instructions))
    fprog = _SockFprog(len(instructions), array)
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    if libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(MODE_FILTER), ctypes.byref(fprog), zero, zero) != 0:
        errno = ctypes.get_errno()
        raise SetupError(step, errno, advice=ADVICE.get(errno, ""))
    # MODE_FILTER it says, or nothing because the filter is there and forbids to ask.
    if libc.prctl(PR_GET_SECCOMP, zero, zero, zero, zero) == MODE_DISABLED:
        raise SetupError(step, 0, "the kernel took the filter but does not show it")


ADVICE = {
    EACCES: "The filter needs no_new_privs, which an earlier step sets: this is a fault of torbox.",
    EINVAL: "The kernel was built without CONFIG_SECCOMP_FILTER; torbox starts nothing without it.",
}
