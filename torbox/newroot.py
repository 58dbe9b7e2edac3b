# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox's root while it is built: where things are found, made and mounted in it, and nowhere else.

A target may lie in a directory of the host, or in a home that is kept, and a program may have written there.
So every one is found from the root's descriptor, through no symlink (openat2(2)), mounted on by descriptor,
and made only where the file system is the sandbox's own.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence

from torbox import syscalls

# The tmpfs of the new root is laid over this directory until it becomes /; its content does not matter.
STAGING = "/tmp"
# Where a replacement is for a moment, or what an overlay has in memory. A file system with a file that lost
# its name cannot become read-only, and this one does not.
_ASIDE = "/run/.aside"
_NOTHING = "/run/.nothing"


class Root:
    """The new root while it is built. What leads to a target begins at its descriptor and is no symlink."""

    def __init__(self) -> None:
        self.descriptor = os.open(STAGING, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._own = {os.fstat(self.descriptor).st_dev}
        self._nothing: int | None = None

    @contextlib.contextmanager
    def find(self, target: str) -> Iterator[int]:
        """A descriptor of what is at `target`."""
        resolve = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS
        with closing(syscalls.openat2(self.descriptor, target, os.O_PATH, resolve)) as place:
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
        """Make a file. It is there whole, or OSError is raised and it is not."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        name = os.path.basename(target)
        with self.parent(target) as parent, closing(os.open(name, flags, mode, dir_fd=parent)) as file:
            try:
                left = memoryview(content)
                while left:  # a limit or a full file system makes writes short, and the next one fail
                    left = left[os.write(file, left) :]
                os.fchmod(file, mode)
                if os.fstat(file).st_size != len(content):
                    raise OSError(errno.EIO, os.strerror(errno.EIO), target)
            except OSError:
                os.unlink(name, dir_fd=parent)  # in a home that is kept it would be taken for whole
                raise

    @contextlib.contextmanager
    def aside(self, content: bytes) -> Iterator[int]:
        """A descriptor of a file that is there to be mounted on others, and has no name afterwards."""
        self.file(_ASIDE, content, 0o444)
        with self.parent(_ASIDE) as parent:
            try:
                with self.find(_ASIDE) as file:
                    yield file
            finally:
                os.unlink(os.path.basename(_ASIDE), dir_fd=parent)

    def nothing(self) -> int:
        """A descriptor of an empty file, the same each time; `close` takes its name away."""
        if self._nothing is None:
            self.file(_NOTHING, b"", 0o444)
            with self.find(_NOTHING) as file:
                self._nothing = os.dup(file)
        return self._nothing

    def close(self) -> None:
        if self._nothing is not None:
            os.close(self._nothing)
            with self.parent(_NOTHING) as parent:
                os.unlink(os.path.basename(_NOTHING), dir_fd=parent)
        os.close(self.descriptor)

    def mount(self, target: str, kind: str, flags: int, options: str = "") -> None:
        """Mount a new file system of this kind on a directory."""
        with self.directory(target) as place:
            syscalls.mount(kind, by_descriptor(place), kind, flags, options)
        with self.find(target) as place:
            self._own.add(os.fstat(place).st_dev)

    def overlay(self, target: str, layers: Sequence[int], memory: str) -> None:
        """Mount an overlay of open directories of the host: lower, and upper and work if not in memory.

        `memory` has the options of their tmpfs then. OSError EOPNOTSUPP: such a tmpfs cannot be an upper;
        EROFS: nothing could be changed.
        """
        with contextlib.ExitStack() as stack:
            if len(layers) == 1:
                layers = [*layers, *stack.enter_context(self._memory_layers(memory))]
            names = zip(("lowerdir", "upperdir", "workdir"), map(by_descriptor, layers), strict=True)
            # Attributes of overlayfs's own are in user.*, which needs no capability outside; redirects and
            # copies without content are off with it, so that no attribute leads anywhere.
            options = ",".join([*(f"{name}={path}" for name, path in names), "userxattr"])
            self.mount(target, "overlay", syscalls.MS_NOSUID | syscalls.MS_NODEV, options)
        with self.find(target) as place:
            if os.fstatvfs(place).f_flag & os.ST_RDONLY:  # the kernel's way out where `work` takes no file
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), target)

    @contextlib.contextmanager
    def _memory_layers(self, options: str) -> Iterator[tuple[int, int]]:
        """Two directories in memory that an overlay can hold on to, but nobody can find afterwards."""
        self.mount(_ASIDE, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, options)
        with self.find(_ASIDE) as place:
            try:
                for name in ("upper", "work"):
                    os.mkdir(name, 0o700, dir_fd=place)
                with self.find(f"{_ASIDE}/upper") as upper, self.find(f"{_ASIDE}/work") as work:
                    # Where the kernel has no such attributes in tmpfs, deletions would fail later.
                    os.setxattr(by_descriptor(upper), "user.torbox", b"")
                    os.removexattr(by_descriptor(upper), "user.torbox")
                    yield upper, work
            finally:
                syscalls.umount(by_descriptor(place), syscalls.MNT_DETACH)
        with self.parent(_ASIDE) as parent:
            os.rmdir(os.path.basename(_ASIDE), dir_fd=parent)

    def bind(self, target: str, tree: int) -> None:
        """Attach a detached tree, on what is there or on something made for it."""
        if not os.path.isdir(by_descriptor(tree)) and not self._exists(target):
            self.file(target, b"", 0o644)
        with self.directory(target) as place:
            syscalls.move_mount(tree, place)

    def _exists(self, target: str) -> bool:
        try:
            with self.find(target):
                return True
        except FileNotFoundError:
            return False


def by_descriptor(descriptor: int) -> str:
    """A path by which mount(2) and chmod(2) reach what is open, whatever its name leads to by now."""
    return f"/proc/self/fd/{descriptor}"


@contextlib.contextmanager
def closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)
