# SPDX-License-Identifier: GPL-3.0-or-later
"""Landlock for a process of torbox's own: what it may still do with files, TCP and other programs.

Landlock is optional in a kernel and grows with it (landlock(7), Documentation/userspace-api/landlock.rst), so
each right is asked for as far as this kernel's version of it, the ABI, knows it:

    ABI 1, Linux 5.13     files                          all rights taken away, or all but reading
    ABI 4, Linux 6.7      TCP                            no bind, connect to one port or none
    ABI 6, Linux 6.12     abstract Unix sockets, signals none outside

It knows neither UDP nor Unix sockets that have a path: those are left to the filter and to the empty root.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence

# linux/landlock.h
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every machine
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH, _RULE_NET_PORT = 1, 2
_EXECUTE, _READ_FILE, _READ_DIR, _REMOVE_FILE, _MAKE_SOCK = 1 << 0, 1 << 2, 1 << 3, 1 << 5, 1 << 9
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many there are: the lowest bits, by ABI; no more since
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1
_SCOPE_ABSTRACT_UNIX_SOCKET, _SCOPE_SIGNAL = 1 << 0, 1 << 1
FS_ABI, NET_ABI, SCOPE_ABI = 1, 4, 6

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _RulesetAttr(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


class _NetPortAttr(ctypes.Structure):
    _fields_ = (("allowed_access", ctypes.c_uint64), ("port", ctypes.c_uint64))


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def abi() -> int:
    """This kernel's version of Landlock; 0: it has none, or was started without. OSError: it is forbidden."""
    try:
        return _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_CREATE_RULESET_VERSION))
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
            return 0
        raise


def restrict(
    version: int,
    *,
    readable: Sequence[str] = (),
    executable: bool = False,
    directory: str = "",
    port: int | None = None,
    abstract: bool = False,
) -> None:
    """Take from this process, for good, what an ABI of `version` knows. Wants no_new_privs. OSError.

    `readable`: the directories below which files can be read, and executed if they are `executable`;
    `directory`: where sockets can be made. `port`: the one that TCP may connect to; 0: none; None: any.
    `abstract`: whether it may connect to abstract Unix sockets of others.
    """
    files = (1 << _FS_RIGHTS[min(version, max(_FS_RIGHTS))]) - 1
    net = 0
    if version >= NET_ABI:
        net = _BIND_TCP if port is None else _BIND_TCP | _CONNECT_TCP
    scoped = 0
    if version >= SCOPE_ABI:
        scoped = _SCOPE_SIGNAL if abstract else _SCOPE_SIGNAL | _SCOPE_ABSTRACT_UNIX_SOCKET
    attr = _RulesetAttr(files, net, scoped)
    # An older kernel takes a longer structure if what it does not know in it is zero.
    ruleset = _call(
        _CREATE_RULESET, ctypes.byref(attr), ctypes.c_size_t(ctypes.sizeof(attr)), ctypes.c_uint32(0)
    )
    try:
        reading = _READ_FILE | _READ_DIR | (_EXECUTE if executable else 0)
        for path, rights in [(path, reading) for path in readable] + [(directory, _MAKE_SOCK | _REMOVE_FILE)]:
            if path:
                place = os.open(path, os.O_PATH | os.O_CLOEXEC)
                try:
                    _add(ruleset, _RULE_PATH_BENEATH, _PathBeneathAttr(rights, place))
                finally:
                    os.close(place)
        if port and net:
            _add(ruleset, _RULE_NET_PORT, _NetPortAttr(_CONNECT_TCP, port))
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _add(ruleset: int, kind: int, attr: ctypes.Structure) -> None:
    _call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(kind), ctypes.byref(attr), ctypes.c_uint32(0))
