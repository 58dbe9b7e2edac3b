# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes of torbox's own that read what an attacker sends, and what one could do if he took it over.

They are the network stack's workers, the doorman before the user's session (desktop/doorman.py), and who
becomes the session bus's proxy (desktop/bus.py), a program that is not torbox's.

    prepare   before it says that it is ready: no_new_privs; user and mount namespaces of its own, of the
              network too where its upstream needs none; whatever this kernel lacks is found here
    seal      before it reads the first packet: an empty root, no capabilities, Landlock, the filter

What is between the two is Python's: modules are read that nobody is to wait for (netstack/wire/dns.py). So
the program may run already when a worker's `seal` fails; then it ends, and the supervisor ends the program.
The doorman has all that it needs, and is sealed before the program starts.

After it, the process can open no file, start nothing, signal and trace nobody. For an upstream that is a
proxy by TCP the only sockets it can make are of TCP, in the proxy's family, to the proxy's port (the port by
Landlock, Linux 6.7). Whoever connects to Unix sockets is in an empty network, with those sockets and nothing
else in its root; a server that is started anew makes another one, which this sandbox will not see. An
abstract socket is the exception: its name is one of the caller's network, which the process then stays in,
still without a socket but of that family. `direct` goes everywhere by nature: what it loses is all but
sockets, threads, and reading /etc and /usr. The bus's proxy needs libraries, so its root has /usr besides,
and the directory where it listens.

It stays the user's process and in the user's groups, since those let it connect to Tor's Unix socket.
"""

from __future__ import annotations

import os
import socket
import stat

import prctl

from torbox import bpf, landlock, privileges, stack_filter, syscalls
from torbox.allowance import Allowance
from torbox.errors import SetupError
from torbox.stack_filter import Reach

# The tmpfs of the new root is laid over this until it becomes /; in a mount namespace of its own.
_STAGING = "/tmp"
_RESOLV_CONF = "/etc/resolv.conf"
# What libc's resolver reads: configuration, and its modules.
_RESOLVER = ("/etc", "/usr", "/lib", "/lib64")
# What a program and the libraries that it loads are in, and the list of where those are.
_PROGRAMS = ("/usr", "/lib", "/lib64")
_LIBRARIES = "/etc/ld.so.cache"
_DIRECTORY_INSIDE = "/sockets"


def socket_inside(index: int) -> str:
    """Where the Unix socket that is `paths[index]` outside is in the new root."""
    return f"/socket{index}"


class Confinement:
    """One process's; `prepare` and `seal` are called once each, in that process, while it has one thread.

    `whose` is how the user is told of it.
    """

    def __init__(self, reach: Reach, allowance: Allowance, whose: str = "the network stack") -> None:
        self._reach = reach
        self._step, self._filter_step = f"confine {whose}", f"system call filter of {whose}"
        self._allowance = allowance
        self._has_root = self._has_filter = False
        self._landlock = 0
        self._trees: dict[str, int] = {}  # detached mounts, by where they are to be

    def prepare(self) -> None:
        """SetupError unless all that `seal` needs is there. /proc/self must be this process's own."""
        try:
            prctl.set_no_new_privs(1)
            privileges.no_core_dumps()
        except OSError as error:
            raise SetupError(self._step, error.errno or 0, "no_new_privs") from error
        with self._allowance.of("stack-namespaces"):
            self._enter_namespaces()
            self._has_root = True
        if self._has_root:
            self._open_trees()
        with self._allowance.of("landlock"):
            self._landlock = self._see_to_landlock()
        with self._allowance.of("seccomp"):
            bpf.machine_named(os.uname().machine, self._filter_step)
            bpf.see_whether_there(self._filter_step)
            self._has_filter = True

    def path_of(self, path: str) -> str:
        """Where this process will find a Unix socket or directory of its reach that is at `path` outside."""
        if not self._has_root or not path or path.startswith("@"):
            return path
        if path == self._reach.directory:
            return _DIRECTORY_INSIDE
        return socket_inside(self._reach.paths.index(path))

    def seal(self) -> None:
        """Let go of everything. SetupError: the process must end."""
        try:
            if self._has_root:
                self._enter_root()
            privileges.drop_capabilities()
            if self._landlock:
                self._restrict()
        except OSError as error:
            raise SetupError(self._step, error.errno or 0, error.filename or "") from error
        if self._has_filter:
            stack_filter.install(self._reach, self._filter_step)

    # -- namespaces and root -----------------------------------------------------------------------

    def _enter_namespaces(self) -> None:
        uid, gid = os.getuid(), os.getgid()
        flags = syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC
        if not {socket.AF_INET, socket.AF_INET6} & set(self._reach.families) and not self._reach.is_abstract:
            flags |= syscalls.CLONE_NEWNET  # 0.1 ms; abstract Unix sockets are out of reach with it as well
        try:
            syscalls.unshare(flags)
            # Without a map nothing could be made in the new root. Groups are kept, but never changed.
            for name, text in (
                ("setgroups", "deny"),
                ("uid_map", f"{uid} {uid} 1"),
                ("gid_map", f"{gid} {gid} 1"),
            ):
                with open(f"/proc/self/{name}", "w") as file:
                    file.write(text)
            syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
        except OSError as error:
            raise SetupError(self._step, error.errno or 0, "namespaces of its own") from error

    def _open_trees(self) -> None:
        path = ""
        try:
            for index, path in enumerate(self._reach.paths):
                if not path.startswith("@"):
                    self._trees[socket_inside(index)] = _tree(path)
            if path := self._reach.directory:
                self._trees[_DIRECTORY_INSIDE] = _tree(path, writable=True)
            if self._reach.program and os.path.isfile(_LIBRARIES):
                self._trees[_LIBRARIES] = _tree(_LIBRARIES)
            for path in self._read():
                self._trees[path] = _tree(path)
        except OSError as error:
            raise SetupError(self._step, error.errno or 0, path) from error

    def _read(self) -> tuple[str, ...]:
        """The directories that it reads of this machine."""
        programs = _PROGRAMS if self._reach.program else ()
        resolver = (*_RESOLVER, *_beside(_RESOLV_CONF)) if self._reach.resolves else ()
        return tuple(
            path for path in (*programs, *resolver) if os.path.isdir(path) and not os.path.islink(path)
        )

    def _enter_root(self) -> None:
        """A root that holds the trees and nothing else, read-only; the old one is gone."""
        os.umask(0o022)
        flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
        syscalls.mount("none", _STAGING, "tmpfs", flags, "mode=755,size=64k,nr_inodes=64")
        os.chdir(_STAGING)
        for path, tree in self._trees.items():
            below = path.lstrip("/")
            if stat.S_ISDIR(os.fstat(tree).st_mode):
                os.makedirs(below, exist_ok=True)
            else:
                os.makedirs(os.path.dirname(below) or ".", exist_ok=True)
                os.close(os.open(below, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            place = os.open(below, os.O_PATH | os.O_CLOEXEC)
            syscalls.move_mount(tree, place)
            os.close(place)
            os.close(tree)
        if self._reach.resolves or self._reach.program:
            for name in ("lib", "lib64"):
                if os.path.islink(f"/{name}"):
                    os.symlink(os.readlink(f"/{name}"), name)
        syscalls.pivot_root(".", ".")
        syscalls.umount(".", syscalls.MNT_DETACH)
        os.chdir("/")
        flags |= syscalls.MS_REMOUNT | syscalls.MS_RDONLY
        syscalls.mount("none", "/", None, flags)

    # -- Landlock ----------------------------------------------------------------------------------

    def _see_to_landlock(self) -> int:
        """The ABI to use, 0 where the kernel has none."""
        try:
            return landlock.abi()
        except OSError as error:
            raise SetupError(self._step, error.errno or 0, "Landlock") from error

    def _restrict(self) -> None:
        reach = self._reach
        readable: tuple[str, ...] = ()
        if reach.resolves or (reach.program and self._has_root):
            readable = ("/",)
        elif reach.program:
            readable = self._read()
        landlock.restrict(
            self._landlock,
            readable=readable,
            executable=reach.program,
            directory=self.path_of(reach.directory),
            port=None if reach.resolves else reach.port,
            abstract=reach.is_abstract,
        )


def _tree(path: str, *, writable: bool = False) -> int:
    """A detached copy of what is mounted at a path, which can be written to only if it is to be. OSError."""
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        tree = syscalls.open_tree(place)
    finally:
        os.close(place)
    attributes = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
    syscalls.mount_setattr(tree, attributes | (0 if writable else syscalls.MOUNT_ATTR_RDONLY))
    return tree


def _beside(link: str) -> tuple[str, ...]:
    """The directory of the file that `link` leads to, if that is not its own."""
    directory = os.path.dirname(os.path.realpath(link))
    return () if directory in ("/", os.path.dirname(link)) else (directory,)
