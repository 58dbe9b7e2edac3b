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
from collections.abc import Iterable
from dataclasses import dataclass

from torbox import syscalls
from torbox.errors import SetupError
from torbox.newroot import STAGING, Root, by_descriptor, closing


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
    """An empty file system in memory. `size` as in tmpfs(5); `files`: how many. Without, half of memory."""

    target: str
    mode: int = 0o755
    size: str = ""
    files: int = 0
    executable: bool = True


@dataclass(frozen=True, slots=True)
class Overlay:
    """What `lower` holds, and before it what was changed inside; overlayfs. mountinfo shows no path of it.

    Changes go to `upper`, with an empty directory `work` beside it; without, to memory, as much as Tmpfs
    has it, and are gone with the sandbox. No component of the three may be a symlink. `origin` as in Bind.
    """

    target: str
    lower: str
    upper: str = ""
    work: str = ""
    size: str = ""
    files: int = 0
    origin: str = ""


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
    """A file made from a text; what lies above it is made as needed. `once`: not where there is something."""

    target: str
    text: str
    mode: int = 0o644
    once: bool = False


@dataclass(frozen=True, slots=True)
class Proc:
    """The sandbox's own /proc: needs a PID namespace of its own."""

    target: str


@dataclass(frozen=True, slots=True)
class Cover:
    """Nothing in the place of a file or directory; left out where there is none."""

    target: str


@dataclass(frozen=True, slots=True)
class Replacement:
    """A read-only text in the place of a file; left out where there is none."""

    target: str
    text: str


@dataclass(frozen=True, slots=True)
class Devpts:
    """Terminals of the sandbox's own."""

    target: str


@dataclass(frozen=True, slots=True)
class ReadOnly:
    """Make the file system at `target` read-only, once it holds what it is to hold."""

    target: str


MountOp = (
    Bind | Tmpfs | Overlay | Directory | Symlink | TextFile | Proc | Cover | Replacement | Devpts | ReadOnly
)


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
        layers: dict[Overlay, list[int]] = {}
        ops = list(ops)
        for op in ops:
            if isinstance(op, Bind) and (tree := _open_source(op)) is not None:
                sources[op] = tree
            elif isinstance(op, Overlay):
                layers[op] = [_open_place(path) for path in (op.lower, op.upper, op.work) if path]
        op = Directory("/")
        syscalls.mount("tmpfs", STAGING, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755")
        root = Root()
        for op in ops:
            if isinstance(op, Overlay):
                root.overlay(op.target, layers[op], _memory_options(0o700, op))
            elif not isinstance(op, Bind) or op in sources:
                _apply(op, root, sources)
        for op, tree in sources.items():
            _see_to(op, root, tree)
            os.close(tree)
        for layer in [layer for each in layers.values() for layer in each]:
            os.close(layer)
        op = Directory("/")
        root.close()
        os.chdir(STAGING)
        # The old root is stacked on the new one for a moment and then detached (pivot_root(2), NOTES).
        syscalls.pivot_root(".", ".")
        syscalls.umount(".", syscalls.MNT_DETACH)
        os.chdir("/")
        flags = syscalls.MS_REMOUNT | syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV
        syscalls.mount("tmpfs", "/", None, flags, "mode=755")
    except OSError as error:
        where = (op.origin if isinstance(op, Bind | Overlay) else "") or op.target
        raise SetupError(
            "build the file system", error.errno or 0, where, advice=_advice(error, op)
        ) from error


def _advice(error: OSError, op: MountOp) -> str:
    if error.errno == errno.ENOSYS:
        return "torbox needs Linux 5.12 or newer (open_tree, move_mount, mount_setattr)."
    if error.errno == errno.EPERM and isinstance(op, Proc):
        return "Parts of /proc are masked here, as in most containers, so no new one may be mounted."
    if error.errno == errno.ELOOP:
        return (
            "There is a symlink in the path where there was none; nothing is mounted or made by way of one."
        )
    if isinstance(op, Overlay):
        return _advice_on_overlays(error.errno or 0, op)
    if error.errno == errno.EFBIG:
        return "The limit of a file's size (ulimit -f) is less than this file needs."
    return ""


def _advice_on_overlays(number: int, op: Overlay) -> str:
    match number:
        case errno.EPERM | errno.ENODEV:
            return "This kernel does not let a user mount overlayfs, which it can since Linux 5.11."
        case errno.EROFS | errno.ENOSPC:
            return f"{op.upper} takes no more files: its disk is full (df, df -i), or read-only."
        case errno.EOPNOTSUPP:
            return (
                "Changes can be in memory since Linux 6.6, whose tmpfs has user attributes;"
                " home.keep_changes = true keeps them on disk instead."
            )
        case errno.EINVAL:
            return (
                f"The file system of {op.upper or op.lower} cannot be part of an overlay, or another is"
                f" mounted below {op.lower}, and what that covers would show. XDG_DATA_HOME can name another"
                " place for what is kept."
            )
    return ""


def _open_place(path: str) -> int:
    """A directory of the host, by way of no symlink."""
    unmoved = syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS
    return syscalls.openat2(syscalls.AT_FDCWD, path, os.O_PATH | os.O_DIRECTORY, unmoved)


def _open_source(op: Bind) -> int | None:
    """A detached copy of the source, its flags set before anybody can reach it."""
    unmoved = syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS
    try:
        place = syscalls.openat2(syscalls.AT_FDCWD, op.source, os.O_PATH, unmoved)
    except FileNotFoundError:
        if op.optional:
            return None
        raise
    with closing(place):
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


def _apply(op: MountOp, root: Root, sources: dict[Bind, int]) -> None:
    match op:
        case Bind():
            root.bind(op.target, sources[op])
        case Tmpfs(mode=mode, executable=executable):
            flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | (0 if executable else syscalls.MS_NOEXEC)
            root.mount(op.target, "tmpfs", flags, _memory_options(mode, op))
        case Directory(mode=mode):
            with root.parent(op.target), root.directory(op.target) as place:
                os.chmod(by_descriptor(place), mode)
        case Symlink(points_to=points_to):
            with root.parent(op.target) as parent:
                os.symlink(points_to, os.path.basename(op.target), dir_fd=parent)
        case TextFile(text=text, mode=mode, once=once):
            with contextlib.suppress(FileExistsError) if once else contextlib.nullcontext():
                root.file(op.target, text.encode(), mode)
        case Proc():
            root.mount(op.target, "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
        case Cover():
            _cover(op.target, root)
        case Replacement(text=text):
            _replace(op.target, text, root)
        case Devpts():
            options = "newinstance,ptmxmode=0666,mode=620"
            root.mount(op.target, "devpts", syscalls.MS_NOSUID | syscalls.MS_NOEXEC, options)
        case ReadOnly():
            flags = syscalls.MS_REMOUNT | syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV
            with root.find(op.target) as place:
                syscalls.mount("none", by_descriptor(place), None, flags)


def _memory_options(mode: int, op: Tmpfs | Overlay) -> str:
    options = [f"mode={mode:o}"]
    options += [f"size={op.size}"] if op.size else []
    options += [f"nr_inodes={op.files}"] if op.files else []
    return ",".join(options)


def _cover(target: str, root: Root) -> None:
    """A file becomes an empty one that cannot be written, a directory an empty file system."""
    try:
        with root.find(target) as place:
            if os.path.isdir(by_descriptor(place)):
                flags = syscalls.MS_RDONLY | syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
                syscalls.mount("tmpfs", by_descriptor(place), "tmpfs", flags, "mode=555")
                return
    except FileNotFoundError:
        return
    _lay_over(root.nothing(), target, root)


def _replace(target: str, text: str, root: Root) -> None:
    try:
        with root.find(target):
            pass
    except FileNotFoundError:
        return
    with root.aside(text.encode()) as file:
        _lay_over(file, target, root)


def _lay_over(source: int, target: str, root: Root) -> None:
    """Mount a file on another, and see that it is there."""
    attributes = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV | syscalls.MOUNT_ATTR_NOEXEC
    with closing(syscalls.open_tree(source)) as tree:
        syscalls.mount_setattr(tree, attributes | syscalls.MOUNT_ATTR_RDONLY)
        with root.find(target) as place:
            syscalls.move_mount(tree, place)
    wanted = os.fstat(source)
    with root.find(target) as place:
        found = os.fstat(place)
    if (found.st_dev, found.st_ino) != (wanted.st_dev, wanted.st_ino):
        raise SetupError("build the file system", 0, f"{target}: it is not covered")


def _see_to(op: Bind, root: Root, tree: int) -> None:
    """No later mount may have covered this one, and no program may write where it was not to."""
    wanted = os.fstat(tree)
    with root.find(op.target) as place:
        found, flags = os.fstat(place), os.fstatvfs(place).f_flag
    if (found.st_dev, found.st_ino) != (wanted.st_dev, wanted.st_ino):
        raise SetupError("build the file system", 0, f"{op.origin or op.target}: something else covers it")
    if op.read_only and not flags & os.ST_RDONLY:
        raise SetupError("build the file system", 0, f"{op.origin or op.target}: it is not read-only")
