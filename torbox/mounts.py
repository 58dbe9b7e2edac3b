# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox's file system: operations as data, and the one interpreter that carries them out.

    open every source   a detached, recursive copy of the host's mounts, flags set on all of it
    new root            a tmpfs; each operation fills its target below it, in order
    see to it           every bind is what its target leads to, and read-only if it was to be
    pivot               the new root becomes /, the host's is detached with all that was under it

Sources are opened before the first mount, and not by way of any symlink: the plan holds the paths to
which they had led when they were judged (shares.py), and whoever puts a symlink into one since stops
the start. Targets may lie in a directory of the host that a program had written to, so every one is
found from the root's descriptor, through no symlink (openat2), mounted on by descriptor, and made
only where the file system is the sandbox's own. open_tree, mount_setattr and move_mount (Linux 5.12)
take the place of bind mounts and their remounts: flags reach every submount at once, and nothing is
writable for a moment first.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torbox import syscalls
from torbox.errors import SetupError

# The tmpfs of the new root is laid over this directory until it becomes /; its content does not matter.
_STAGING = "/tmp"


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or directory of the host at `target`; `optional`: left out where the host has none.

    No component of `source` may be a symlink. `origin` is what a complaint names, if not the target.
    """

    source: str
    target: str
    read_only: bool = True
    optional: bool = False
    device: bool = False
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """An empty file system in memory. `size` as in tmpfs(5); the empty text means half of memory."""

    target: str
    mode: int = 0o755
    size: str = ""
    executable: bool = True


@dataclass(frozen=True, slots=True)
class Directory:
    target: str
    mode: int = 0o755


@dataclass(frozen=True, slots=True)
class Symlink:
    target: str
    points_to: str


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file made from a text; what lies above it is made as needed."""

    target: str
    text: str
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Proc:
    """The sandbox's own /proc: needs a PID namespace of its own."""

    target: str


@dataclass(frozen=True, slots=True)
class Devpts:
    """Terminals of the sandbox's own."""

    target: str


@dataclass(frozen=True, slots=True)
class ReadOnly:
    """Make the file system at `target` read-only, once it holds what it is to hold."""

    target: str


MountOp = Bind | Tmpfs | Directory | Symlink | TextFile | Proc | Devpts | ReadOnly

# What of the host's /etc programs need to run at all; none of it names the machine or its user.
_ETC = (
    "alternatives",
    "bash.bashrc",
    "bash_completion.d",
    "ca-certificates",
    "ca-certificates.conf",
    "chromium",
    "chromium.d",
    "crypto-policies",
    "debian_version",
    "fonts",
    "gai.conf",
    "gtk-3.0",
    "host.conf",
    "inputrc",
    "java-17-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "login.defs",
    "magic",
    "mailcap",
    "mime.types",
    "nanorc",
    "os-release",
    "pki",
    "profile",
    "profile.d",
    "protocols",
    "python3",
    "rpc",
    "services",
    "shells",
    "ssl",
    "terminfo",
    "vim",
    "wgetrc",
    "xdg",
)
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


def system() -> list[MountOp]:
    """The part that every sandbox has: programs read-only from the host, everything else empty or its own."""
    ops: list[MountOp] = [Bind(os.path.realpath("/usr"), "/usr")]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = f"/{name}"
        if os.path.islink(path):
            ops.append(Symlink(path, os.readlink(path).lstrip("/")))
        else:
            ops.append(_of_the_host(path))
    ops += [
        Directory("/etc"),
        *(_of_the_host(f"/etc/{name}") for name in _ETC),
        Symlink("/etc/localtime", "/usr/share/zoneinfo/UTC"),
        Symlink("/etc/mtab", "/proc/self/mounts"),
        Tmpfs("/dev", size="64k"),
        *(Bind(f"/dev/{name}", f"/dev/{name}", read_only=False, device=True) for name in _DEVICES),
        Devpts("/dev/pts"),
        Symlink("/dev/ptmx", "pts/ptmx"),
        Tmpfs("/dev/shm", mode=0o1777, executable=False),
        Symlink("/dev/fd", "/proc/self/fd"),
        Symlink("/dev/stdin", "/proc/self/fd/0"),
        Symlink("/dev/stdout", "/proc/self/fd/1"),
        Symlink("/dev/stderr", "/proc/self/fd/2"),
        ReadOnly("/dev"),
        Proc("/proc"),
        Tmpfs("/tmp", mode=0o1777),
        Tmpfs("/run"),
        Directory("/var"),
        Symlink("/var/run", "/run"),
        Directory("/var/lib"),
        Directory("/var/cache"),
        _of_the_host("/var/cache/fontconfig"),
        Tmpfs("/var/tmp", mode=0o1777),
        Directory("/root", mode=0o700),
    ]
    return ops


def _of_the_host(path: str) -> Bind:
    """A path that is a symlink in some distributions, and that only the administrator can have made one."""
    return Bind(os.path.realpath(path), path, optional=True)


def build(ops: Iterable[MountOp]) -> None:
    """Carry out `ops` on a new root and make it this process's /. Raises SetupError naming the target.

    For pid 1 of a new PID and mount namespace, with all capabilities in its user namespace. On
    return the root itself is read-only, the working directory is / and nothing of the host's tree
    is reachable but what was bound.
    """
    op: MountOp = Directory("/")
    try:
        # Nothing mounted from here on may travel back to the host.
        syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
        sources: dict[Bind, int] = {}
        ops = list(ops)
        for op in ops:
            if isinstance(op, Bind) and (tree := _open_source(op)) is not None:
                sources[op] = tree
        op = Directory("/")
        syscalls.mount("tmpfs", _STAGING, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755")
        root = _Root()
        for op in ops:
            if not isinstance(op, Bind) or op in sources:
                _apply(op, root, sources)
        for op, tree in sources.items():
            _see_to(op, root, tree)
            os.close(tree)
        op = Directory("/")
        os.close(root.descriptor)
        os.chdir(_STAGING)
        # The old root is stacked on the new one for a moment and then detached (pivot_root(2), NOTES).
        syscalls.pivot_root(".", ".")
        syscalls.umount(".", syscalls.MNT_DETACH)
        os.chdir("/")
        flags = syscalls.MS_REMOUNT | syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV
        syscalls.mount("tmpfs", "/", None, flags, "mode=755")
    except OSError as error:
        where = (op.origin if isinstance(op, Bind) else "") or op.target
        raise SetupError(
            "build the file system", error.errno or 0, where, advice=_advice(error, op)
        ) from error


def _advice(error: OSError, op: MountOp) -> str:
    if error.errno == errno.ENOSYS:
        return "torbox needs Linux 5.12 or newer (open_tree, move_mount, mount_setattr)."
    if error.errno == errno.EPERM and isinstance(op, Proc):
        return "Parts of /proc are masked here, as in most containers, so no new one may be mounted."
    if error.errno == errno.ELOOP:
        return "There is a symlink in the path where there was none; nothing is mounted by way of one."
    if error.errno == errno.EFBIG:
        return "The limit of a file's size (ulimit -f) is less than this file needs."
    return ""


def _open_source(op: Bind) -> int | None:
    """A detached copy of the source, its flags set before anybody can reach it."""
    unmoved = syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS
    try:
        place = syscalls.openat2(syscalls.AT_FDCWD, op.source, os.O_PATH, unmoved)
    except FileNotFoundError:
        if op.optional:
            return None
        raise
    with _closing(place):
        tree = syscalls.open_tree(place)
    attributes = syscalls.MOUNT_ATTR_NOSUID
    if op.device:
        attributes |= syscalls.MOUNT_ATTR_NOEXEC
    else:
        attributes |= syscalls.MOUNT_ATTR_NODEV
    if op.read_only:
        attributes |= syscalls.MOUNT_ATTR_RDONLY
    syscalls.mount_setattr(tree, attributes)
    return tree


class _Root:
    """The new root while it is built. What leads to a target begins at its descriptor and is no symlink."""

    def __init__(self) -> None:
        self.descriptor = os.open(_STAGING, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._own = {os.fstat(self.descriptor).st_dev}

    @contextlib.contextmanager
    def find(self, target: str) -> Iterator[int]:
        """A descriptor of what is at `target`."""
        resolve = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS
        with _closing(syscalls.openat2(self.descriptor, target, os.O_PATH, resolve)) as place:
            yield place

    @contextlib.contextmanager
    def directory(self, target: str) -> Iterator[int]:
        """The same, of a directory that is made with all above it if need be, as by `mkdir -p`."""
        if not self._exists(target):
            with self.parent(target) as parent:
                os.mkdir(os.path.basename(target), 0o755, dir_fd=parent)
        with self.find(target) as place:
            yield place

    @contextlib.contextmanager
    def parent(self, target: str) -> Iterator[int]:
        """The directory of a target that is to be made: never one of the host's."""
        with self.directory(os.path.dirname(target)) as place:
            if os.fstat(place).st_dev not in self._own:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), target)
            yield place

    def file(self, target: str, content: bytes, mode: int) -> None:
        """Make a file. It is there whole, or OSError is raised."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with (
            self.parent(target) as parent,
            _closing(os.open(os.path.basename(target), flags, mode, dir_fd=parent)) as file,
        ):
            left = memoryview(content)
            while left:  # a limit or a full file system makes writes short, and the next one fail
                left = left[os.write(file, left) :]
            os.fchmod(file, mode)
            if os.fstat(file).st_size != len(content):
                raise OSError(errno.EIO, os.strerror(errno.EIO), target)

    def mount(self, target: str, kind: str, flags: int, options: str = "") -> None:
        """Mount a new file system of this kind on a directory."""
        with self.directory(target) as place:
            syscalls.mount(kind, _by_descriptor(place), kind, flags, options)
        with self.find(target) as place:
            self._own.add(os.fstat(place).st_dev)

    def bind(self, target: str, tree: int) -> None:
        """Attach a detached tree, on what is there or on something made for it."""
        if not os.path.isdir(_by_descriptor(tree)) and not self._exists(target):
            self.file(target, b"", 0o644)
        with self.directory(target) as place:
            syscalls.move_mount(tree, place)

    def _exists(self, target: str) -> bool:
        try:
            with self.find(target):
                return True
        except FileNotFoundError:
            return False


def _apply(op: MountOp, root: _Root, sources: dict[Bind, int]) -> None:
    match op:
        case Bind():
            root.bind(op.target, sources[op])
        case Tmpfs(mode=mode, size=size, executable=executable):
            options = f"mode={mode:o}" + (f",size={size}" if size else "")
            flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | (0 if executable else syscalls.MS_NOEXEC)
            root.mount(op.target, "tmpfs", flags, options)
        case Directory(mode=mode):
            with root.parent(op.target), root.directory(op.target) as place:
                os.chmod(_by_descriptor(place), mode)
        case Symlink(points_to=points_to):
            with root.parent(op.target) as parent:
                os.symlink(points_to, os.path.basename(op.target), dir_fd=parent)
        case TextFile(text=text, mode=mode):
            root.file(op.target, text.encode(), mode)
        case Proc():
            root.mount(op.target, "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
        case Devpts():
            options = "newinstance,ptmxmode=0666,mode=620"
            root.mount(op.target, "devpts", syscalls.MS_NOSUID | syscalls.MS_NOEXEC, options)
        case ReadOnly():
            flags = syscalls.MS_REMOUNT | syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV
            with root.find(op.target) as place:
                syscalls.mount("none", _by_descriptor(place), None, flags)


def _see_to(op: Bind, root: _Root, tree: int) -> None:
    """No later mount may have covered this one, and no program may write where it was not to."""
    wanted = os.fstat(tree)
    with root.find(op.target) as place:
        found, flags = os.fstat(place), os.fstatvfs(place).f_flag
    if (found.st_dev, found.st_ino) != (wanted.st_dev, wanted.st_ino):
        raise SetupError("build the file system", 0, f"{op.origin or op.target}: something else covers it")
    if op.read_only and not flags & os.ST_RDONLY:
        raise SetupError("build the file system", 0, f"{op.origin or op.target}: it is not read-only")


def _by_descriptor(descriptor: int) -> str:
    """A path by which mount(2) and chmod(2) reach what is open, whatever its name leads to by now."""
    return f"/proc/self/fd/{descriptor}"


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)
