# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel calls that Python's standard library has no name for, each as one function.

Every function raises OSError with the kernel's errno and returns nothing or a descriptor. The
numbers of the system calls newer than 2011 are the same on every architecture; the older ones go
through libc. ctypes costs 1.5 ms of start-up, less than any package that would do the same.
"""

from __future__ import annotations

import ctypes
import errno
import os

# linux/sched.h
CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

# linux/mount.h
MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 2
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8

# linux/openat2.h
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_IN_ROOT = 0x10

_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_CLOSE_RANGE = 436
_SYS_OPENAT2 = 437
_SYS_MOUNT_SETATTR = 442
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_SYS_KEYCTL = {"x86_64": 250, "aarch64": 219}
_SYS_ADD_KEY = {"x86_64": 248, "aarch64": 217}

_KEYCTL_JOIN_SESSION_KEYRING = 1
_KEYCTL_UNLINK = 9
_KEY_SPEC_SESSION_KEYRING = -3

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _check(result: int, path: str | None = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result


def _number(table: dict[str, int]) -> ctypes.c_long:
    machine = os.uname().machine
    if machine not in table:
        raise OSError(errno.ENOSYS, f"torbox does not know the system call numbers of {machine}")
    return ctypes.c_long(table[machine])


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_libc.unshare(ctypes.c_int(flags)))


def setdomainname(name: bytes) -> None:
    """setdomainname(2): the NIS domain of the UTS namespace."""
    _check(_libc.setdomainname(name, ctypes.c_size_t(len(name))))


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """mount(2)."""
    result = _libc.mount(
        source.encode(),
        os.fsencode(target),
        None if kind is None else kind.encode(),
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _check(result, target)


def umount(target: str, flags: int) -> None:
    """umount2(2)."""
    _check(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)), target)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2)."""
    _check(_libc.syscall(_number(_SYS_PIVOT_ROOT), os.fsencode(new_root), os.fsencode(put_old)), new_root)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(directory: int, path: str, flags: int, resolve: int) -> int:
    """A descriptor of `path` seen from a directory's descriptor; openat2(2), Linux 5.6. Creates nothing."""
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    call = (ctypes.c_long(_SYS_OPENAT2), ctypes.c_int(directory), os.fsencode(path), ctypes.byref(how))
    return _check(_libc.syscall(*call, ctypes.c_size_t(ctypes.sizeof(how))), path)


def open_tree(place: int) -> int:
    """A descriptor of a detached copy of the mounts at and below an open place; open_tree(2), Linux 5.2."""
    flags = ctypes.c_uint(OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH)
    return _check(_libc.syscall(ctypes.c_long(_SYS_OPEN_TREE), ctypes.c_int(place), b"", flags))


def move_mount(tree: int, place: int) -> None:
    """Attach a detached tree at an open place, whatever its path is by now; move_mount(2), Linux 5.2."""
    number, flags = _SYS_MOVE_MOUNT, MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    source, target = ctypes.c_int(tree), ctypes.c_int(place)
    _check(_libc.syscall(ctypes.c_long(number), source, b"", target, b"", ctypes.c_uint(flags)))


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def mount_setattr(tree: int, attributes: int) -> None:
    """Set MOUNT_ATTR_* on all of a detached tree and make it private; mount_setattr(2), Linux 5.12."""
    attr = _MountAttr(attributes, 0, MS_PRIVATE, 0)
    _check(
        _libc.syscall(
            ctypes.c_long(_SYS_MOUNT_SETATTR),
            ctypes.c_int(tree),
            b"",
            ctypes.c_uint(AT_EMPTY_PATH | AT_RECURSIVE),
            ctypes.byref(attr),
            ctypes.c_size_t(ctypes.sizeof(attr)),
        )
    )


def close_range(first: int, last: int = 0xFFFFFFFF) -> None:
    """Close every descriptor from `first` to `last`; close_range(2), Linux 5.9."""
    call = (ctypes.c_long(_SYS_CLOSE_RANGE), ctypes.c_uint(first), ctypes.c_uint(last), ctypes.c_uint(0))
    _check(_libc.syscall(*call))


def close_all_but(kept: list[int]) -> None:
    """Close every descriptor above 2 that is not in `kept`."""
    first = 3
    for descriptor in sorted(kept):
        if descriptor > first:
            close_range(first, descriptor - 1)
        first = max(first, descriptor + 1)
    close_range(first)


def new_session_keyring() -> None:
    """Leave the inherited session keyring for a new, empty, anonymous one; keyctl(2)."""
    call = (_number(_SYS_KEYCTL), ctypes.c_long(_KEYCTL_JOIN_SESSION_KEYRING), None)
    _check(_libc.syscall(*call))


def add_key(name: str) -> int:
    """A key of this name in the session keyring, which every program of the session can read; add_key(2)."""
    arguments = (b"user\0", name.encode() + b"\0", name.encode(), ctypes.c_size_t(len(name)))
    session = ctypes.c_int(_KEY_SPEC_SESSION_KEYRING)
    return _check(_libc.syscall(_number(_SYS_ADD_KEY), *arguments, session))


def unlink_key(key: int) -> None:
    """Take a key out of the session keyring; keyctl(2), KEYCTL_UNLINK."""
    session = ctypes.c_long(_KEY_SPEC_SESSION_KEYRING)
    _check(_libc.syscall(_number(_SYS_KEYCTL), ctypes.c_long(_KEYCTL_UNLINK), ctypes.c_long(key), session))


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


_CapData = (
    ctypes.c_uint32 * 6
)  # effective, permitted, inheritable of capabilities 0 to 31, then of the others
_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h
# linux/prctl.h
_PR_CAPBSET_DROP = 24
_PR_GET_SECUREBITS = 27
_PR_SET_SECUREBITS = 28


def securebits() -> int:
    """This thread's; PR_GET_SECUREBITS(2const)."""
    return _check(_libc.prctl(_PR_GET_SECUREBITS))


def set_securebits(bits: int) -> None:
    """PR_SET_SECUREBITS(2const): wants CAP_SETPCAP. python-prctl refuses bits newer than itself."""
    zero = ctypes.c_ulong(0)
    _check(_libc.prctl(_PR_SET_SECUREBITS, ctypes.c_ulong(bits), zero, zero, zero))


def empty_bounding_set() -> None:
    """Drop each capability that the kernel knows from the bounding set; PR_CAPBSET_DROP(2const)."""
    zero = ctypes.c_ulong(0)
    for capability in range(64):
        if _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), zero, zero, zero) < 0:
            if ctypes.get_errno() == errno.EINVAL:
                return  # the one behind the last
            _check(-1)


def empty_capabilities() -> None:
    """Give up every capability of this thread; capset(2). The ambient ones go with the permitted."""
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    _check(_libc.capset(ctypes.byref(header), ctypes.byref(_CapData())))


def capabilities() -> list[int]:
    """The words of this thread's sets; capget(2)."""
    header, data = _CapHeader(_CAPABILITY_VERSION_3, 0), _CapData()
    _check(_libc.capget(ctypes.byref(header), ctypes.byref(data)))
    return list(data)


def overwrite_arguments(title: bytes) -> None:
    """Put `title` in the place of this process's arguments, which every process may read in /proc.

    The kernel tells where they lie (proc_pid_stat(5), arg_start and arg_end). prctl.set_proctitle
    guesses it from the environment instead, and crashes once that has been changed.
    """
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # fields 48 and 49, counted behind the name
    if start and end > start:
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, title[: end - start - 1], min(len(title), end - start - 1))
