# SPDX-License-Identifier: GPL-3.0-or-later
"""How probes are registered and made, and what all of them use."""

from __future__ import annotations

import ctypes
import json
import platform
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

NUMBERS = {  # system calls by machine: asm/unistd_64.h, asm-generic/unistd.h
    "x86_64": {"keyctl": 250, "add_key": 248, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323}
    | {"io_uring_setup": 425, "syslog": 103, "clock_settime": 227, "kexec_load": 246, "init_module": 175}
    | {"open_by_handle_at": 304, "shmat": 30, "umount2": 166, "ptrace": 101}
    | {"inotify_init1": 294, "inotify_add_watch": 254},
    "aarch64": {"keyctl": 219, "add_key": 217, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282}
    | {"io_uring_setup": 425, "syslog": 116, "clock_settime": 112, "kexec_load": 104, "init_module": 105}
    | {"open_by_handle_at": 265, "shmat": 196, "umount2": 39, "ptrace": 117}
    | {"inotify_init1": 26, "inotify_add_watch": 27},
}[platform.machine()]

Facts = dict[str, Any]
Probe = Callable[[Facts], Iterator[str]]
PROBES: list[tuple[str, str, Probe]] = []
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long  # an address does not fit into an int


def probe(area: str, what: str) -> Callable[[Probe], Probe]:
    """Register a generator of leaks; nothing yielded means that it held."""

    def register(function: Probe) -> Probe:
        PROBES.append((area, what, function))
        return function

    return register


def call(name: str, *arguments: object) -> int:
    """A bare system call; the negated errno if it fails."""
    result: int = libc.syscall(
        NUMBERS[name], *(ctypes.c_long(each) if isinstance(each, int) else each for each in arguments)
    )
    return result if result != -1 else -ctypes.get_errno()


def text_of(path: str) -> str:
    with open(path, "rb") as file:
        return file.read(1 << 20).decode("utf-8", "replace")


def seen(facts: Facts, text: str) -> Iterator[str]:
    """The host's secrets that a text contains."""
    for name, secret in facts["secrets"].items():
        if secret and secret in text:
            yield name


def main() -> None:
    signal.alarm(60)
    facts = json.loads(sys.stdin.readline())  # its end is not waited for: what leaks may hold it open
    rows = []
    for area, what, function in PROBES:
        if facts["areas"] and area not in facts["areas"]:
            continue
        leaks, untold = [], ""
        try:
            leaks = list(function(facts))
        except Exception as error:
            untold = f"{type(error).__name__}: {error}"
        rows.append({"area": area, "what": what, "leaks": leaks, "untold": untold})
    json.dump(rows, sys.stdout)
