# SPDX-License-Identifier: GPL-3.0-or-later
"""What a profile or the command line shares of the host, judged: each path becomes a bind, or a fault
that says why not.

A path is judged three times. As it is written, when the profile is read (profiles/checks.py). As what
it leads to, here: the same rules, and those that need to look at the host. And when it is opened
(mounts.py), where the path found here must be there without a symlink.

The danger is a program that was given a directory for writing once, by this profile or by any other:
it can leave a symlink there, under a name that a profile shares, to lead the next sandbox anywhere.
What a program inside can make, it makes with the user's rights. So a symlink is followed only where
it lies in a directory that the user cannot write to, or in the home directory itself, which is never
shared as a whole.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from torbox.errors import ProfileError
from torbox.mounts import Bind, MountOp, Overlay, Symlink, TextFile
from torbox.profiles.checks import why_never_shared
from torbox.profiles.model import Profile
from torbox.ways import follow, is_in, lies_in_by_alias, overlap, overlap_by_alias, places, quoted

_MEDIA = r"(?s)/run/media/[^/]+/.+"  # udisks(8) mounts there: file systems, no daemon's sockets

# Sockets by name and place, and what speaks through them. Whoever renames one shares it knowingly.
_SOCKETS = (
    (r".*/(bus|bus_\d+|system_bus_socket|dbus-[^/]*)", "D-Bus, which starts programs outside"),
    (r"/run/(user/[^/]+/)?systemd/.*", "systemd, which starts programs outside"),
    (
        r".*/(docker|podman|containerd|crio|buildkitd)\.sock|.*/(lxd|incus)/unix\.socket",
        "a container engine, which starts programs outside",
    ),
    (r"/run/(nscd|avahi-daemon)/.*", "a name service, which asks the network outside"),
    (
        r".*/(S\.[^/]+|agent\.\d+|ssh-agent[^/]*|openssh_agent|keyring/ssh|gcr/ssh)",
        "an agent of SSH or GnuPG, whose keys tell who you are",
    ),
)


class Wanted(NamedTuple):
    """A path to be shared: absolute, or in the caller's home directory where it begins with ~/."""

    path: str
    read_only: bool
    key: str  # "mounts.read_only" or "--share"
    where: str  # how a complaint begins: "browser.toml: mounts.read_only" or "--share"
    fault: str = ""  # what is wrong with the way it is written

    def complaint(self, fault: str) -> str:
        return f"{self.where}: {quoted(self.path)} {fault}"


class Shared(NamedTuple):
    """The sandbox's operations with all binds, and the caller's directory inside, "" if it is not there."""

    ops: list[MountOp]
    directory: str


class _Share(NamedTuple):
    wanted: Wanted
    source: str  # on the host, without symlinks
    target: str
    read_only: bool

    @property
    def name(self) -> str:
        return f"{quoted(self.wanted.path)} of {self.wanted.key}"


_Mounted = TypeVar("_Mounted", _Share, Bind)


def of_profile(profile: Profile) -> list[Wanted]:
    paths = (("mounts.read_only", profile.mounts.read_only), ("mounts.read_write", profile.mounts.read_write))
    return [
        Wanted(path, key == "mounts.read_only", key, profile.where(key, path))
        for key, each in paths
        for path in each
    ]


def current_directory() -> str:
    """The caller's working directory, without symlinks; "" if it has been removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def given(text: str, directory: str, home: str) -> Wanted:
    """What `--share TEXT` means for a caller in this directory: a path, and :ro or :rw after it.

    `directory` is what `current_directory` says.
    """
    path, mark = (text[:-3], text[-3:]) if text.endswith((":ro", ":rw")) else (text, "")
    fault = ""
    if not path:
        fault = "is no path"
    elif not path.startswith(("/", "~/")) and not directory:
        fault = "is in the current directory, which is not there any more"
    elif not path.startswith("~/"):
        parts = [part for part in path.split("/") if part not in ("", ".")]
        while not path.startswith("/") and parts[:1] == [".."]:
            directory, parts = os.path.dirname(directory), parts[1:]
        if ".." in parts:  # behind a symlink it is not what it looks like
            fault = "has '..' in it: write where that leads"
        path = os.path.join("/" if path.startswith("/") else directory, *parts)
        for mine in (home, follow(home).end):
            if path.startswith(f"{mine}/"):
                path = f"~{path[len(mine) :]}"
    return Wanted(path, mark == ":ro", "--share", "--share", fault)


def add(
    profile: Profile,
    ops: Sequence[MountOp],
    *,
    environ: Mapping[str, str],
    home: str,
    inside_home: str,
    options: Sequence[str] = (),
    directory: str = "",
) -> Shared:
    """`ops` and the binds of all that is shared. `home` is the caller's, `options` the values of --share.

    `directory` is the caller's working directory; if --share brings it inside, or something below it, it is
    where the program starts. A symlink among `ops` gives way to a file that is shared at its place, and a
    share of the profile to one of the command line. Raises ProfileError with every fault.
    """
    home = os.path.abspath(home)
    wanted = [given(option, directory, home) for option in options] + of_profile(profile)
    if not wanted:
        return Shared(list(ops), "")
    judge = _Judge(profile, environ, home, inside_home, ops)
    faults: list[str] = []
    shares: list[_Share] = []
    for each in wanted:
        share, fault = (None, each.fault) if each.fault else judge.share(each)
        if share is not None and not fault:
            if each.key != "--share" and share.target in [
                s.target for s in shares if s.wanted.key == "--share"
            ]:
                continue
            fault = judge.place(share, shares)
            shares.append(share)
        if fault:
            faults.append(each.complaint(fault))
    shares.sort(key=lambda share: share.target.count("/"))  # what is above goes first, or it would cover
    for share in shares:
        if fault := judge.nesting(share, shares) or judge.back_door(share, shares):
            faults.append(share.wanted.complaint(fault))
    if faults:
        raise ProfileError(faults)
    replaced = {share.target for share in shares}
    kept = [op for op in ops if not (isinstance(op, Symlink) and op.target in replaced)]
    here = given(".", directory, home).path if directory else ""
    here = inside_home + here[1:] if here.startswith("~/") else here
    brought = [share for share in shares if share.wanted.key == "--share"]
    start = _where_the_caller_is(directory, here, brought)
    return Shared(kept + list(_binds(shares, judge.home)), start)


def _where_the_caller_is(directory: str, here: str, brought: Iterable[_Share]) -> str:
    """The working directory inside, if what was brought shows it; `here` is its place if that is usual.

    One with something brought below it is there too, with no more in it, so that names relative to it mean
    the same inside.
    """
    around = [each for each in brought if is_in(directory, each.source)]
    if around:
        nearest = max(around, key=lambda share: len(share.source))
        return nearest.target + directory.removeprefix(nearest.source)
    below = here not in ("", "/") and any(each.target.startswith(f"{here}/") for each in brought)
    return here if below else ""


def _binds(shares: Sequence[_Share], home: Sequence[_Share]) -> Iterable[Bind]:
    """In the order of `shares`, with mounts that hold in place what a read-only share lies in.

    A mount point cannot be renamed or removed from inside, but a directory above it can be, and another
    put there for the next program that looks: so all of those up to the writable share are mount points.
    """
    done: set[str] = set()
    for share in shares:
        above = _covering(share.target, (*shares, *home))
        if share.read_only and above is not None and not above.read_only:
            held = os.path.dirname(share.target).removeprefix(above.target).split("/")[1:]
            for depth in range(1, len(held) + 1):
                below = "/" + "/".join(held[:depth])
                if above.target + below not in done:
                    done.add(above.target + below)
                    yield Bind(above.source + below, above.target + below, read_only=False)
        done.add(share.target)
        origin = f"{share.wanted.where}: {share.wanted.path}"
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
        self._own = own_places(environ, home)
        package = os.path.dirname(os.path.abspath(__file__))
        program = (os.path.abspath(sys.argv[0]), sys.executable, sys.prefix)  # a venv of pipx's is the user's
        self._policy = places([*(os.path.abspath(file) for file in profile.files), package, *program])
        self._symlinks = [op for op in ops if isinstance(op, Symlink)]
        self._binds = [op for op in ops if isinstance(op, Bind)]
        self._binds += [
            Bind(op.lower, op.target) for op in ops if isinstance(op, Overlay) and op.lower == self._real_home
        ]
        # The caller's own home, where the program has it for writing.
        self.home = [
            _Share(Wanted("~", False, "home.mode", ""), op.source, op.target, False)
            for op in self._binds
            if op.target == inside_home and not op.read_only
        ]
        self._files = [op.target for op in ops if isinstance(op, TextFile)]

    def share(self, wanted: Wanted) -> tuple[_Share | None, str]:
        """The share that a path means, or what is wrong with its source."""
        path = wanted.path
        written, target = path.rstrip("/"), path.rstrip("/")
        if path.startswith("~/"):
            written, target = self._home + written[1:], self._inside_home + target[1:]
        try:
            source, symlinks = follow(written)
            for symlink in symlinks:
                if self._could_be_made_inside(symlink):
                    return None, (
                        f"leads through the symlink {quoted(symlink)}, which a program inside could have "
                        f"put there: if {quoted(source)} is meant, write that"
                    )
            found = os.stat(source)
        except FileNotFoundError:
            return None, "is not there: no such file or directory on this machine"
        except OSError as error:
            return None, f"cannot be shared: {os.strerror(error.errno or 0)}"
        is_directory = stat.S_ISDIR(found.st_mode)
        leads = f"leads to {quoted(source)}, which " if symlinks else ""
        fault = why_never_shared(source) or self._why_own(source, not wanted.read_only)
        if not fault and is_directory and source.startswith("/run/") and not re.fullmatch(_MEDIA, source):
            fault = "is a directory of /run, where daemons have their sockets: name the one that is needed"
        if not fault and stat.S_ISSOCK(found.st_mode):
            fault = self._why_socket(source)
        if fault:
            return None, leads + fault
        target = self._where_inside(target, is_directory)
        return _Share(wanted, source, target, wanted.read_only), ""

    def place(self, share: _Share, others: Sequence[_Share]) -> str:
        """What is wrong with where a share would appear, seen alone and beside those before it."""
        target = share.target
        if fault := why_never_shared(target):
            return f"would be {quoted(target)} inside, which {fault}"
        if is_in(self._inside_home, target):
            return f"would cover {quoted(self._inside_home)}, the home directory inside"
        for file in self._files:
            if overlap(file, target):
                name = file.removeprefix(f"{self._inside_home}/")
                return f"and {quoted(name)} of home.files would be at the same place: one of them must go"
        for other in others:
            if other.target == target:
                return f"and {other.name} would be at the same place: one of them must go"
        return ""

    def nesting(self, share: _Share, shares: Sequence[_Share]) -> str:
        """What is wrong with a share below another: nothing is made there, so it must be there already."""
        above: _Share | Bind | None = _covering(share.target, shares)
        if above is None:
            above = _covering(share.target, self._binds)
        if above is None or above.source + share.target.removeprefix(above.target) == share.source:
            return ""
        return (
            f"leads to {quoted(share.source)}, but inside it would be below {quoted(above.target)}, "
            "where a symlink is in its way: write where it leads"
        )

    def back_door(self, share: _Share, shares: Sequence[_Share]) -> str:
        """What is wrong with a read-only share that a writable one shows at a second place."""
        for other in (*shares, *self.home):
            if not share.read_only or other.read_only:
                continue
            second = ""
            if is_in(share.source, other.source):
                second = other.target + share.source.removeprefix(other.source)
            elif lies_in_by_alias(share.source, other.source):
                second = other.target
            if second and second != share.target:
                return (
                    f"could be written all the same: {other.name} has it, too, and would be at "
                    f"{quoted(second)} inside"
                )
        return ""

    def _could_be_made_inside(self, symlink: str) -> bool:
        """Whether a program with the user's rights could have made, or replaced, a symlink here."""
        directory = os.path.dirname(symlink)
        found = os.stat(directory)
        mine = found.st_uid == os.getuid()
        if directory == self._real_home and mine and not found.st_mode & stat.S_IWOTH:
            return False  # nothing inside ever writes there: torbox's own directories are in it
        return mine or os.access(directory, os.W_OK)

    def _why_own(self, source: str, writable: bool) -> str:
        if any(overlap(source, own) or overlap_by_alias(source, own) for own in self._own):
            fault = "is, holds or lies in a directory of torbox's own, which no program inside may reach"
            return fault + (
                "; for a whole home directory there is home.mode" if source == self._real_home else ""
            )
        if writable:
            for policy in self._policy:
                if overlap(source, policy) or overlap_by_alias(source, policy):
                    why = f"{quoted(policy)} decides how programs are kept inside"
                    return f"cannot be shared for writing: {why}"
        return ""

    def _why_socket(self, source: str) -> str:
        agent = self._environ.get("SSH_AUTH_SOCK", "")
        bus = self._environ.get("DBUS_SESSION_BUS_ADDRESS", "")
        why = ""
        for pattern, speaks in _SOCKETS:
            if re.fullmatch(pattern, source, re.DOTALL):  # a name may have line breaks
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
    """Where torbox keeps what is its own, in this environment and in one that says nothing."""
    for variable, default in (
        ("XDG_CONFIG_HOME", ".config"),
        ("XDG_STATE_HOME", ".local/state"),
        ("XDG_DATA_HOME", ".local/share"),
    ):
        yield f"{home}/{default}/torbox"
        if environ.get(variable, "").startswith("/"):
            yield f"{environ[variable]}/torbox"
    yield f"/run/user/{os.getuid()}/torbox"
    if environ.get("XDG_RUNTIME_DIR", "").startswith("/"):
        yield f"{environ['XDG_RUNTIME_DIR']}/torbox"


def own_places(environ: Mapping[str, str], home: str) -> tuple[str, ...]:
    """torbox's own directories, without symlinks, and the symlinks on the way to them."""
    return places(_own_directories(environ, home))
