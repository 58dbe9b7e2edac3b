# SPDX-License-Identifier: GPL-3.0-or-later
"""What the program may ask of the kernel."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator

from torbox.verify.probes.frame import Facts, call, libc, probe, text_of

CONFINED = {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}
TIOCSTI, TIOCLINUX = 0x5412, 0x541C


@probe("privileges", "no capability, no way to one, a filter of system calls")
def privileges(facts: Facts) -> Iterator[str]:
    status = dict(line.split(":\t", 1) for line in text_of("/proc/self/status").splitlines() if ":\t" in line)
    yield from (name for name in sorted(CONFINED) if int(status[name], 16))
    if status["NoNewPrivs"].strip() != "1":
        yield "no_new_privs is not set"
    if status["Seccomp"].strip() != "2":
        yield "there is no filter of system calls"
    try:
        os.setuid(0)
    except OSError:
        pass
    else:
        yield "setuid(0) worked"
    if call("umount2", b"/usr/bin\0", 0) != -errno.EPERM:  # nothing is mounted there: EINVAL to whoever may
        yield "umount2(2) is allowed"


@probe("privileges", "system calls that have opened sandboxes before")
def system_calls(facts: Facts) -> Iterator[str]:
    attempts: dict[str, tuple[object, ...]] = {
        "io_uring_setup": (1, ctypes.create_string_buffer(120)),
        "bpf": (0, ctypes.create_string_buffer(128), 128),
        "perf_event_open": (
            ctypes.create_string_buffer(struct.pack("=II", 1, 112) + bytes(104)),
            0,
            -1,
            -1,
            0,
        ),
        "userfaultfd": (1,),
        "syslog": (3, ctypes.create_string_buffer(64), 64),
        "add_key": (b"user\0", b"torbox-verify\0", b"x", 1, -2),
        "open_by_handle_at": (-100, ctypes.create_string_buffer(128), 0),
        "clock_settime": (0, None),
        "kexec_load": (0, 0, None, 0),
        "init_module": (None, 0, b"\0"),
    }
    for name, arguments in attempts.items():
        result = call(name, *arguments)
        if result not in (-errno.EPERM, -errno.ENOSYS):
            yield name


@probe("privileges", "no way to the machine's control groups")
def control_groups(facts: Facts) -> Iterator[str]:
    pid = os.fork()
    if pid == 0:
        os._exit(libc.unshare(0x10000000 | 0x02000000) == 0)  # CLONE_NEWUSER, CLONE_NEWCGROUP
    if os.waitpid(pid, 0)[1]:
        yield "a namespace of control groups can be made, by which they can be mounted and written to"


@probe("terminal", "nothing can be typed for other programs")
def terminal(facts: Facts) -> Iterator[str]:
    """Denied before it is looked at what the descriptor is: the null device is no terminal (else ENOTTY)."""
    for name, request in (("TIOCSTI", TIOCSTI), ("TIOCLINUX", TIOCLINUX)):
        for number in (request, request | 1 << 32):  # the kernel ignores the upper half
            null = os.open("/dev/null", os.O_RDONLY)
            if libc.ioctl(null, ctypes.c_ulong(number), b" ") == 0 or ctypes.get_errno() != errno.EPERM:
                yield f"{name} is not denied"
            os.close(null)
