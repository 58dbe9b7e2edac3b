# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of system calls as data: what one returns for a call, and the kernel's own numbers.

As a program it starts another one for which some system calls fail, as on a kernel or in a container that
has them not:

    python -m tests.support.filters NUMBER[:FIRST ARGUMENT]=ERRNO… -- COMMAND…
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import prctl

from torbox import bpf
from torbox.bpf import Instruction, Line

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


def run(filter: Sequence[Instruction], number: int, arguments: Sequence[int] = (), arch: int = 0) -> int:
    """What a filter returns for a call, by the rules of linux/filter.h."""
    arguments = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = number.to_bytes(4, "little") + arch.to_bytes(4, "little") + bytes(8)
    data += b"".join(argument.to_bytes(8, "little") for argument in arguments)
    accumulator, at = 0, 0
    while True:
        code, if_true, if_false, k = filter[at]
        at += 1
        if code == bpf.LOAD:
            accumulator = int.from_bytes(data[k : k + 4], "little")
        elif code == bpf.AND:
            accumulator &= k
        elif code == bpf.JUMP_EQUAL:
            at += if_true if accumulator == k else if_false
        elif code == bpf.JUMP_NOT_LESS:
            at += if_true if accumulator >= k else if_false
        elif code == bpf.JUMP_ANY_SET:
            at += if_true if accumulator & k else if_false
        else:
            assert code == bpf.RETURN
            return k


def kernels_numbers(machine: str) -> dict[str, int] | None:
    """Every system call of this machine by name, as the installed headers have it; None: they are not."""
    header = HEADERS[machine]
    if not header.exists():
        return None
    text = header.read_text()
    found = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)}
    for name, other in re.findall(r"#define __NR_(\w+) __NR3264_(\w+)", text):
        if other in found:  # else it is another machine's
            found[name] = found[other]
    return found


def failing(faults: Sequence[str]) -> list[Instruction]:
    """The filter in which each of these calls fails."""
    lines: list[str | Line] = []
    for index, fault in enumerate(faults):
        call, _, errno = fault.partition("=")
        number, _, first = call.partition(":")
        lines += [
            Line(bpf.LOAD, bpf.OFFSET_NUMBER),
            Line(bpf.JUMP_EQUAL, int(number), if_false=f"next {index}"),
        ]
        if first:
            lines += [
                Line(bpf.LOAD, bpf.argument(0)),
                Line(bpf.JUMP_EQUAL, int(first), if_false=f"next {index}"),
            ]
        lines += [Line(bpf.RETURN, bpf.ERRNO | int(errno)), f"next {index}"]
    return bpf.assemble([*lines, Line(bpf.RETURN, bpf.ALLOW)])


if __name__ == "__main__":
    end = sys.argv.index("--")
    prctl.set_no_new_privs(1)
    bpf.install(failing(sys.argv[1:end]), "test")
    os.execvp(sys.argv[end + 1], sys.argv[end + 1 :])
