# SPDX-License-Identifier: GPL-3.0-or-later
"""The payload's system call filter: a deny list.

    architecture ──► not this machine's own: ENOSYS         (int 0x80, or a 32-bit program)
    number ────────► of the x32 interface: ENOSYS
                 ──► ioctl: TIOCSTI, TIOCLINUX: EPERM       (typing into the terminal's other programs)
                            names of file systems: EPERM
                 ──► socket, socketpair: by family and netlink protocol, others EAFNOSUPPORT
                 ──► inotify_add_watch, for openings or reading; fcntl: F_NOTIFY: EPERM
                                                            (what others do with the host's programs)
                 ──► setrlimit, prlimit64 of core dumps: done, says the kernel, and is not
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

import os
from errno import EAFNOSUPPORT, ENOSYS, EPERM

from torbox import bpf
from torbox.bpf import (
    ALLOW,
    ERRNO,
    JUMP_ANY_SET,
    JUMP_EQUAL,
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

STEP = "system call filter"

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16  # linux/socket.h
NETLINK_ROUTE = 0  # linux/netlink.h; glibc's getaddrinfo and browsers list interfaces with it
TIOCSTI, TIOCLINUX = 0x5412, 0x541C  # asm-generic/ioctls.h

# What a file system is called and which it is, by any file of it; linux/fs.h, ext4.h, btrfs.h.
NAMES_OF_FILE_SYSTEMS = {
    "FS_IOC_GETFSUUID": 0x80111500,
    "FS_IOC_GETFSSYSFSPATH": 0x80811501,
    "FS_IOC_GETFSLABEL": 0x81009431,
    "EXT4_IOC_GETFSUUID": 0x8008662C,
    "BTRFS_IOC_FS_INFO": 0x8400941F,
}

SOCKET: Numbers = (41, 198)
SOCKETPAIR: Numbers = (53, 199)
IOCTL: Numbers = (16, 29)
INOTIFY_ADD_WATCH: Numbers = (254, 27)
FCNTL: Numbers = (72, 25)
SETRLIMIT: Numbers = (160, 164)
PRLIMIT64: Numbers = (302, 261)

# A watch is on the file itself and not on a mount of it: on /usr/bin, one for openings tells in here which
# programs are started out there, and carries messages between sandboxes. Watches for changes are left to
# programs that wait for files; dnotify, of which inotify took the place in 2005, nobody has use for.
WATCHES_OF_OTHERS = 0x1 | 0x10 | 0x20  # IN_ACCESS, IN_CLOSE_NOWRITE, IN_OPEN: linux/inotify.h
# With a limit of 0 for core dumps core_pattern's program is started outside, with that of privileges.py it is
# not. Agents that keep keys (ssh, GnuPG) end if they cannot have 0, so they are told that they have.
RLIMIT_CORE = 4  # asm-generic/resource.h
F_NOTIFY = 1026  # linux/fcntl.h

DENIED: dict[str, tuple[Numbers, int]] = {
    # Opens sockets and files past this filter. ENOSYS: programs fall back to epoll.
    "io_uring_setup": ((425, 425), ENOSYS),
    "io_uring_enter": ((426, 426), ENOSYS),
    "io_uring_register": ((427, 427), ENOSYS),
    # Of its requests the whole machine has a number (fs.aio-max-nr), for databases. ENOSYS: they do without.
    "io_setup": ((206, 0), ENOSYS),
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
    # Who opens which file of those that are bound, the host's programs among them.
    "fanotify_init": ((300, 262), EPERM),
    # Pages moved about between processes and NUMA nodes: known for holes, and wanted by no desktop.
    "move_pages": ((279, 239), EPERM),
    "migrate_pages": ((256, 238), EPERM),
    # Relics that the kernel may still have been built with.
    "uselib": ((134, None), EPERM),
    "ustat": ((136, None), EPERM),
    "sysfs": ((139, None), EPERM),
    "lookup_dcookie": ((212, 18), EPERM),
    "nfsservctl": ((180, 42), EPERM),
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
    "vhangup": ((153, 58), EPERM),
    "iopl": ((172, None), EPERM),
    "ioperm": ((173, None), EPERM),
}

# What is looked at, with the label of the lines that do.
_INSPECTED: tuple[tuple[Numbers, str], ...] = (
    (SOCKET, "socket"),
    (SOCKETPAIR, "socketpair"),
    (IOCTL, "ioctl"),
    (INOTIFY_ADD_WATCH, "watch"),
    (FCNTL, "fcntl"),
    (SETRLIMIT, "setrlimit"),
    (PRLIMIT64, "prlimit64"),
)


def program(machine: str) -> list[Instruction]:
    """The filter for a machine as uname(2) calls it. SetupError if its numbers are not known."""
    denied = (
        (numbers, "no such call" if errno == ENOSYS else "denied") for numbers, errno in DENIED.values()
    )
    lines = by_number(machine_named(machine, STEP), "no such call", (*_INSPECTED, *denied))
    lines += [
        Line(RETURN, ALLOW),
        "ioctl",
        Line(LOAD, argument(1)),
        Line(JUMP_EQUAL, TIOCSTI, if_true="denied"),
        Line(JUMP_EQUAL, TIOCLINUX, if_true="denied"),
        *(Line(JUMP_EQUAL, request, if_true="denied") for request in NAMES_OF_FILE_SYSTEMS.values()),
        Line(RETURN, ALLOW),
        "watch",
        Line(LOAD, argument(2)),
        Line(JUMP_ANY_SET, WATCHES_OF_OTHERS, if_true="denied", if_false="allowed"),
        "fcntl",
        Line(LOAD, argument(1)),
        Line(JUMP_EQUAL, F_NOTIFY, if_true="denied", if_false="allowed"),
        "setrlimit",
        Line(LOAD, argument(0)),
        Line(JUMP_EQUAL, RLIMIT_CORE, if_true="not done", if_false="allowed"),
        "prlimit64",
        Line(LOAD, argument(1)),
        Line(JUMP_EQUAL, RLIMIT_CORE, if_false="allowed"),
        Line(LOAD, argument(2)),  # the new limit's address, both words of it: without one it only asks
        Line(JUMP_EQUAL, 0, if_false="not done"),
        Line(LOAD, argument(2) + 4),
        Line(JUMP_EQUAL, 0, if_true="allowed", if_false="not done"),
        "socket",
        Line(LOAD, argument(0)),
        Line(JUMP_EQUAL, AF_UNIX, if_true="allowed"),
        Line(JUMP_EQUAL, AF_INET, if_true="allowed"),
        Line(JUMP_EQUAL, AF_INET6, if_true="allowed"),
        Line(JUMP_EQUAL, AF_NETLINK, if_false="no such family"),
        Line(LOAD, argument(2)),
        Line(JUMP_EQUAL, NETLINK_ROUTE, if_true="allowed", if_false="no such family"),
        "socketpair",
        Line(LOAD, argument(0)),
        Line(JUMP_EQUAL, AF_UNIX, if_true="allowed", if_false="no such family"),
        "allowed",
        Line(RETURN, ALLOW),
        "not done",
        Line(RETURN, ERRNO | 0),
        "denied",
        Line(RETURN, ERRNO | EPERM),
        "no such call",
        Line(RETURN, ERRNO | ENOSYS),
        "no such family",
        Line(RETURN, ERRNO | EAFNOSUPPORT),
    ]
    return assemble(lines)


def install() -> None:
    """Put the filter on this process and what it starts. It must be the last step before exec. SetupError."""
    bpf.install(program(os.uname().machine), STEP)
