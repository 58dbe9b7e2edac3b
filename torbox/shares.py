# SPDX-License-Identifier: GPL-3.0-or-later
"""What a profile shares of the host, judged: each path becomes a bind, or a fault that says why not.

A path is judged three times. As it is written, when the profile is read (profiles/model.py). As what
it leads to, here: the same rules, and those that need to look at the host. And when it is opened
(mounts.py), where the path found here must be there without a symlink.

The danger is a program that was given a directory for writing once, by this profile or by any other:
it can leave a symlink there, under a name that a profile shares, to lead the next sandbox anywhere.
What a program inside can make, it makes with the user's rights. So a symlink is followed only where
it lies in a directory that the user cannot write to, or in the home directory itself, which is never
shared as a whole.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from torbox.errors import ProfileError
from torbox.mounts import Bind, MountOp, Symlink, TextFile
from torbox.profiles.model import Profile, why_never_shared

_SYMLINKS_MAX = 40  # MAXSYMLINKS of the kernel, path_resolution(7)
_MEDIA = re.compile(r"/run/media/[^/]+/.+")  # udisks(8) mounts there: file systems, no daemon's sockets

# Sockets by name and place, and what speaks through them. Whoever renames one shares it knowingly.
_SOCKETS = (
    (re.compile(r".*/(bus|bus_\d+|system_bus_socket|dbus-[^/]*)"), "D-Bus, which starts programs outside"),
    (re.compile(r"/run/(user/[^/]+/)?systemd/.*"), "systemd, which starts programs outside"),
    (
        re.compile(r".*/(docker|podman|containerd|crio|buildkitd)\.sock|.*/(lxd|incus)/unix\.socket"),
        "a container engine, which starts programs outside",
    ),
    (re.compile(r"/run/(nscd|avahi-daemon)/.*"), "a name service, which asks the network outside"),
    (
        re.compile(r".*/(S\.[^/]+|agent\.\d+|ssh-agent[^/]*|openssh_agent|keyring/ssh|gcr/ssh)"),
        "an agent of SSH or GnuPG, whose keys tell who you are",
    ),
)


class Way(NamedTuple):
    """Where a path leads, and the symlinks on the way: where each of them lies, without any in that."""

    end: str
    symlinks: tuple[str, ...]


class _Share(NamedTuple):
    key: str
    path: str  # as the profile has it
    source: str  # on the host, without symlinks
    target: str
    read_only: bool


_Mounted = TypeVar("_Mounted", _Share, Bind)


def follow(path: str) -> Way:
    """Go an absolute path as the kernel would; what is missing is taken as it is written."""
    found: list[str] = []
    at, waiting = "/", path.split("/")[::-1]
    while waiting:
        part = waiting.pop()
        if part in ("", "."):
            continue
        if part == "..":
            at = os.path.dirname(at)
            continue
        here = os.path.join(at, part)
        try:
            points_to = os.readlink(here)
        except OSError:  # not a symlink, or not there, or not to be looked at: os.stat will tell
            at = here
            continue
        found.append(here)
        if len(found) > _SYMLINKS_MAX:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if points_to.startswith("/"):
            at = "/"
        waiting += points_to.split("/")[::-1]
    return Way(at, tuple(found))


def add(
    profile: Profile, ops: Sequence[MountOp], *, environ: Mapping[str, str], home: str, inside_home: str
) -> list[MountOp]:
    """`ops` and the binds of all that the profile shares. `home` is the caller's.

    A symlink among `ops` gives way to a file that is shared at its place. Raises ProfileError with
    every fault.
    """
    wanted = [("mounts.read_only", path) for path in profile.mounts.read_only]
    wanted += [("mounts.read_write", path) for path in profile.mounts.read_write]
    if not wanted:
        return list(ops)
    judge = _Judge(profile, environ, os.path.abspath(home), inside_home, ops)
    faults: list[str] = []
    shares: list[_Share] = []
    for key, path in wanted:
        share, fault = judge.share(key, path)
        if share is not None and not fault:
            fault = judge.place(share, shares)
            shares.append(share)
        if fault:
            faults.append(f"{profile.where(key)}: {_quoted(path)} {fault}")
    shares.sort(key=lambda share: share.target.count("/"))  # what is above goes first, or it would cover
    for share in shares:
        if fault := judge.nesting(share, shares):
            faults.append(f"{profile.where(share.key)}: {_quoted(share.path)} {fault}")
    if faults:
        raise ProfileError(faults)
    replaced = {share.target for share in shares}
    kept = [op for op in ops if not (isinstance(op, Symlink) and op.target in replaced)]
    return kept + list(_binds(profile, shares))


def _binds(profile: Profile, shares: Sequence[_Share]) -> Iterable[Bind]:
    """In the order of `shares`, with mounts that hold in place what a read-only share lies in.

    A mount point cannot be renamed or removed from inside, but a directory above it can be, and another
    put there for the next program that looks: so all of those up to the writable share are mount points.
    """
    done: set[str] = set()
    for share in shares:
        above = _covering(share.target, shares)
        if share.read_only and above is not None and not above.read_only:
            held = os.path.dirname(share.target).removeprefix(above.target).split("/")[1:]
            for depth in range(1, len(held) + 1):
                below = "/" + "/".join(held[:depth])
                if above.target + below not in done:
                    done.add(above.target + below)
                    yield Bind(above.source + below, above.target + below, read_only=False)
        done.add(share.target)
        origin = f"{profile.where(share.key)}: {share.path}"
        yield Bind(share.source, share.target, read_only=share.read_only, origin=origin)


def _covering(target: str, mounted: Iterable[_Mounted]) -> _Mounted | None:
    """The one of these in whose tree a target lies."""
    above = [each for each in mounted if target.startswith(f"{each.target}/")]
    return max(above, key=lambda each: len(each.target), default=None)


class _Judge:
    """The rules, and what they need to know of this user, this profile and this sandbox."""

    def __init__(
        self,
        profile: Profile,
        environ: Mapping[str, str],
        home: str,
        inside_home: str,
        ops: Sequence[MountOp],
    ) -> None:
        self._environ = environ
        self._home, self._inside_home = home, inside_home
        self._real_home = follow(home).end
        self._own = _places(_own_directories(environ, home))
        package = os.path.dirname(os.path.abspath(__file__))
        program = (os.path.abspath(sys.argv[0]), sys.executable, sys.prefix)  # a venv of pipx's is the user's
        self._policy = _places([*(os.path.abspath(file) for file in profile.files), package, *program])
        self._symlinks = [op for op in ops if isinstance(op, Symlink)]
        self._binds = [op for op in ops if isinstance(op, Bind)]
        self._files = [op.target for op in ops if isinstance(op, TextFile)]

    def share(self, key: str, path: str) -> tuple[_Share | None, str]:
        """The share that a path of the profile means, or what is wrong with its source."""
        written, target = path.rstrip("/"), path.rstrip("/")
        if path.startswith("~/"):
            written, target = self._home + written[1:], self._inside_home + target[1:]
        try:
            source, symlinks = follow(written)
            for symlink in symlinks:
                if self._could_be_made_inside(symlink):
                    return None, (
                        f"leads through the symlink {_quoted(symlink)}, which a program inside could have "
                        f"put there: if {_quoted(source)} is meant, write that"
                    )
            found = os.stat(source)
        except FileNotFoundError:
            return None, "is not there: no such file or directory on this machine"
        except OSError as error:
            return None, f"cannot be shared: {os.strerror(error.errno or 0)}"
        is_directory = stat.S_ISDIR(found.st_mode)
        leads = f"leads to {_quoted(source)}, which " if symlinks else ""
        fault = why_never_shared(source) or self._why_own(source, key == "mounts.read_write")
        if not fault and is_directory and source.startswith("/run/") and not _MEDIA.fullmatch(source):
            fault = "is a directory of /run, where daemons have their sockets: name the one that is needed"
        if not fault and stat.S_ISSOCK(found.st_mode):
            fault = self._why_socket(source)
        if fault:
            return None, leads + fault
        target = self._where_inside(target, is_directory)
        return _Share(key, path, source, target, key == "mounts.read_only"), ""

    def place(self, share: _Share, others: Sequence[_Share]) -> str:
        """What is wrong with where a share would appear, seen alone and beside those before it."""
        target = share.target
        if fault := why_never_shared(target):
            return f"would be {_quoted(target)} inside, which {fault}"
        if _is_in(self._inside_home, target):
            return f"would cover {_quoted(self._inside_home)}, the home directory inside"
        for file in self._files:
            if _overlap(file, target):
                name = file.removeprefix(f"{self._inside_home}/")
                return f"and {_quoted(name)} of home.files would be at the same place: one of them must go"
        for other in others:
            if other.target == target:
                name = f"{_quoted(other.path)} of {other.key}"
                return f"and {name} would be at the same place: one of them must go"
        return ""

    def nesting(self, share: _Share, shares: Sequence[_Share]) -> str:
        """What is wrong with a share below another: nothing is made there, so it must be there already."""
        above: _Share | Bind | None = _covering(share.target, shares)
        if above is None:
            above = _covering(share.target, self._binds)
        if above is None or above.source + share.target.removeprefix(above.target) == share.source:
            return ""
        return (
            f"leads to {_quoted(share.source)}, but inside it would be below {_quoted(above.target)}, "
            "where a symlink is in its way: write where it leads"
        )

    def _could_be_made_inside(self, symlink: str) -> bool:
        """Whether a program with the user's rights could have made, or replaced, a symlink here."""
        directory = os.path.dirname(symlink)
        found = os.stat(directory)
        mine = found.st_uid == os.getuid()
        if directory == self._real_home and mine and not found.st_mode & stat.S_IWOTH:
            return False  # nothing inside ever writes there: torbox's own directories are in it
        return mine or os.access(directory, os.W_OK)

    def _why_own(self, source: str, writable: bool) -> str:
        if any(_overlap(source, own) or _overlap_by_alias(source, own) for own in self._own):
            return "is, holds or lies in a directory of torbox's own, which no program inside may reach"
        if writable:
            for policy in self._policy:
                if _overlap(source, policy) or _overlap_by_alias(source, policy):
                    why = f"{_quoted(policy)} decides how programs are kept inside"
                    return f"cannot be shared for writing: {why}"
        return ""

    def _why_socket(self, source: str) -> str:
        agent = self._environ.get("SSH_AUTH_SOCK", "")
        bus = self._environ.get("DBUS_SESSION_BUS_ADDRESS", "")
        why = ""
        for pattern, speaks in _SOCKETS:
            if pattern.fullmatch(source):
                why = speaks
        if f"path={source}" in re.split(r"[:,;]", bus):
            why = _SOCKETS[0][1]
        if agent and os.path.realpath(agent) == source:
            why = _SOCKETS[-1][1]
        return f"is not shared: it is a socket of {why}" if why else ""

    def _where_inside(self, target: str, is_directory: bool) -> str:
        """The target without the sandbox's own symlinks, such as /bin and /var/run."""
        for symlink in self._symlinks:
            through = f"{symlink.target}/"
            if target.startswith(through) or (is_directory and target == symlink.target):
                points_to = os.path.join(os.path.dirname(symlink.target), symlink.points_to)
                target = os.path.normpath(points_to + target[len(symlink.target) :])
        return target


def _own_directories(environ: Mapping[str, str], home: str) -> Iterable[str]:
    """Where torbox keeps settings, state and sockets: in this environment, and in one that says nothing."""
    for variable, default in (("XDG_CONFIG_HOME", ".config"), ("XDG_STATE_HOME", ".local/state")):
        yield f"{home}/{default}/torbox"
        if environ.get(variable, "").startswith("/"):
            yield f"{environ[variable]}/torbox"
    yield f"/run/user/{os.getuid()}/torbox"
    if environ.get("XDG_RUNTIME_DIR", "").startswith("/"):
        yield f"{environ['XDG_RUNTIME_DIR']}/torbox"


def _places(paths: Iterable[str]) -> tuple[str, ...]:
    """What decides where these paths lead: their ends, and every symlink on the way."""
    found: dict[str, None] = {}
    for path in paths:
        way = follow(path)
        found.update(dict.fromkeys((way.end, *way.symlinks)))
    return tuple(found)


def _quoted(path: str) -> str:
    """A path in full, since it is to be found or written down; on one line."""
    return f"'{path}'" if path.isprintable() else ascii(path)


def _is_in(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory}/")


def _overlap_by_alias(source: str, place: str) -> bool:
    """The same for directories that a bind mount of the host shows at a second path."""
    return _identity(source) in _identities(place) or _identity(place) in _identities(source)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _identities(path: str) -> set[tuple[int, int] | None]:
    """Those of a path and of all that it lies in, but for the root, in which everything does."""
    found = set()
    while path != "/":
        found.add(_identity(path))
        path = os.path.dirname(path)
    return found - {None}


def _overlap(one: str, other: str) -> bool:
    return _is_in(one, other) or _is_in(other, one)
