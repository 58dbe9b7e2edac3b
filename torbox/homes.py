# SPDX-License-Identifier: GPL-3.0-or-later
"""The home directory inside, by the profile's `home.mode`, and the homes that are kept.

    fake      in memory, gone with the sandbox
    persist   HOMES/NAME/home, as an overlay over nothing, so that mountinfo tells no path of it
    overlay   the caller's own, and before it what was changed: in memory, or HOMES/NAME/changes
    host      the caller's own itself

    HOMES     $XDG_DATA_HOME/torbox/homes (~/.local/share/torbox/homes)
      NAME/     0700; the one sandbox that uses it holds the lock
        lock      its pid; stays
        home/     what the program sees          changes/   what it changed
        nothing/  below that, and empty          work/ …    overlayfs's own

A kept home was written by a program that may be hostile. So nothing in it is opened here but to be
removed, by names relative to open directories; what a start makes in it (files of the profile, places
to mount on) is made from inside, where no symlink leads out and none is followed (newroot.py).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torbox import shares, system, trees
from torbox.errors import InUseError, ProfileError, SetupError, UsageError
from torbox.mounts import Bind, Cover, MountOp, Overlay, TextFile
from torbox.profiles.checks import HOME, why_never_shared, why_no_home_name
from torbox.profiles.kinds import did_you_mean, show
from torbox.profiles.model import Profile
from torbox.ways import follow, quoted

_REMOVED = ".removed-"  # begins the name of what is being removed; no home's name begins so
_TO_SEE_THEM = "torbox home list shows those there are."
_STEP = "use the home"
_FLOCK = struct.Struct("hhqqi4x")  # struct flock, fcntl(2)
# Of an open file and not of a process, so that it holds within one too; gone with torbox, however it ends.
_WHOLE_FILE = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Store:
    """A kept home: its directory, and those in it that it consists of."""

    name: str
    path: str
    parts: tuple[str, ...]


class Home(NamedTuple):
    """The home of one sandbox: `store` is what must be held while it runs, `warning` what to say first."""

    ops: list[MountOp]
    store: Store | None = None
    warning: str = ""
    outside: str = ""  # the caller's home where that is what the program sees


def make(profile: Profile, environ: Mapping[str, str], home: str, inside: str) -> Home:
    """The home at `inside`; `home` is the caller's. Raises ProfileError. Nothing is made or changed yet."""
    mode = profile.home.mode
    if mode == "fake":
        fake = system.memory(system.HOME, inside, profile.mounts.sizes, mode=0o700)
        return Home([fake, *_files(profile, inside, once=False)])
    origin = profile.where("home.mode")
    if mode == "persist":
        store = _store(profile, environ, home, ("home", "nothing", "work"))
        upper, lower, work = (f"{store.path}/{part}" for part in store.parts)
        return Home([Overlay(inside, lower, upper, work, origin=origin), *_files(profile, inside)], store)
    outside = _own_home(profile, environ, home)
    covers = [
        Cover(inside + place.removeprefix(outside))
        for place in shares.own_places(environ, home)
        if place.startswith(f"{outside}/") and not os.path.islink(place)
    ]
    if mode == "host":
        warning = (
            "home.mode = host: the program has your own home directory. It can read, change and delete all"
            " that is yours, and what it writes there can run outside of the sandbox, at your next login"
        )
        return Home([Bind(outside, inside, read_only=False, origin=origin), *covers], None, warning, outside)
    warning = "home.mode = overlay: the program can read all of your home directory, keys and passwords too"
    if profile.home.keep_changes:
        store = _store(profile, environ, home, ("changes", "changes-work"))
        upper, work = (f"{store.path}/{part}" for part in store.parts)
        layers, held = Overlay(inside, outside, upper, work, origin=origin), store
        warning += f"; what it changes is kept in {upper}"
    else:
        memory = system.memory(system.HOME, inside, profile.mounts.sizes)
        layers, held = Overlay(inside, outside, size=memory.size, files=memory.files, origin=origin), None
        warning += "; what it changes is gone when it ends"
    return Home([layers, *covers, *_files(profile, inside)], held, warning, outside)


def _files(profile: Profile, inside: str, *, once: bool = True) -> list[MountOp]:
    """Those of the profile; a script is executable."""
    return [
        TextFile(f"{inside}/{name}", text, mode=0o755 if text.startswith("#!") else 0o644, once=once)
        for name, text in profile.home.files.items()
    ]


def _own_home(profile: Profile, environ: Mapping[str, str], home: str) -> str:
    """The caller's home without symlinks. ProfileError if it is not one that can be shown."""
    outside, fault = os.path.abspath(home), ""
    try:
        outside = follow(outside).end
        fault = why_never_shared(outside)
        found = os.stat(outside)
        if not stat.S_ISDIR(found.st_mode):
            fault = fault or "is no directory"
        elif found.st_uid != os.getuid():
            fault = fault or "is not yours"
        elif any(f"{outside}/".startswith(f"{place}/") for place in shares.own_places(environ, home)):
            fault = fault or "lies in a directory of torbox's own"
    except OSError as error:
        fault = fault or f"cannot be used: {os.strerror(error.errno or 0)}"
    if fault:
        raise ProfileError([f"{profile.where('home.mode')}: your home directory, {quoted(outside)}, {fault}"])
    return outside


def _store(profile: Profile, environ: Mapping[str, str], home: str, parts: tuple[str, ...]) -> Store:
    name = profile.home.name or profile.name
    faults = []
    if not re.fullmatch(HOME, name):
        where = profile.where("home.name")
        faults.append(f"{where}: {show(name)} {why_no_home_name()}; give the home another than the profile's")
    base = homes(environ, home)
    usual = follow(f"{os.path.abspath(home)}/.local/share/torbox/homes").end
    if base.startswith(f"{usual}/"):
        faults.append(
            f"{profile.where('home.mode')}: {quoted(base)} lies in a home that is kept: see XDG_DATA_HOME"
        )
    if faults:
        raise ProfileError(faults)
    return Store(name, f"{base}/{name}", parts)


def homes(environ: Mapping[str, str], home: str) -> str:
    """The directory of kept homes, without symlinks, there or not."""
    data = environ.get("XDG_DATA_HOME", "")
    data = data if data.startswith("/") else os.path.join(os.path.abspath(home), ".local/share")
    return follow(os.path.join(data, "torbox", "homes")).end


@contextlib.contextmanager
def held(store: Store) -> Iterator[None]:
    """Make what is missing of a kept home, and keep others from using it for the time of the block.

    Raises InUseError if another sandbox uses it, SetupError if it cannot be had.
    """
    with contextlib.ExitStack() as stack:
        try:
            os.makedirs(os.path.dirname(store.path), mode=0o700, exist_ok=True)  # names are nobody's business
            os.makedirs(store.path, mode=0o700, exist_ok=True)
            _see_that_it_is_ours(store.path)
            lock = _lock(store.path, store.name)
            stack.callback(os.close, lock)
            for part in store.parts:
                path = f"{store.path}/{part}"
                with contextlib.suppress(FileExistsError):
                    os.mkdir(path, 0o700)
                _see_that_it_is_ours(path)
        except OSError as error:
            raise SetupError(_STEP, error.errno or 0, error.filename or store.path) from error
        yield


def _see_that_it_is_ours(path: str) -> None:
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    if found.st_uid != os.getuid():
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)
    os.chmod(path, 0o700)  # a program may have given its home any other


def _lock(directory: str, name: str) -> int:
    path = f"{directory}/lock"
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.fcntl(lock, fcntl.F_OFD_SETLK, _WHOLE_FILE)
        except BlockingIOError:
            holder = _holder(lock)
            os.close(lock)
            raise InUseError(
                f"the home '{name}' is used by another sandbox (pid {holder})",
                advice='End that one first, or give this profile another home: [home] name = "…".',
            ) from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), os.stat(path, follow_symlinks=False)):
                with contextlib.suppress(OSError):  # it only helps to find us
                    os.ftruncate(lock, 0)
                    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
                return lock
        os.close(lock)  # the home was removed after we had opened it: again
        os.makedirs(directory, mode=0o700, exist_ok=True)


def _holder(lock: int) -> str:
    return os.pread(lock, 32, 0).decode("ascii", "replace").strip() or "unknown"


class Kept(NamedTuple):
    """A home as `torbox home list` shows it. `holder` is the pid of the torbox that uses it."""

    name: str
    path: str
    holds: tuple[str, ...]
    holder: str


def kept(environ: Mapping[str, str], home: str) -> list[Kept]:
    """All kept homes by name."""
    base = homes(environ, home)
    try:
        names = sorted(name for name in os.listdir(base) if re.fullmatch(HOME, name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SetupError("list the homes", error.errno or 0, base) from error
    return [
        Kept(
            name,
            f"{base}/{name}",
            tuple(part for part in ("home", "changes") if os.path.isdir(f"{base}/{name}/{part}")),
            _in_use(f"{base}/{name}/lock"),
        )
        for name in names
    ]


def _in_use(path: str) -> str:
    try:
        lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        found = fcntl.fcntl(lock, fcntl.F_OFD_GETLK, _WHOLE_FILE)  # looks, and so is in nobody's way
        return "" if _FLOCK.unpack(found)[0] == fcntl.F_UNLCK else _holder(lock)
    finally:
        os.close(lock)


def reset(name: str, environ: Mapping[str, str], home: str) -> None:
    """Remove a kept home with all that is in it. UsageError if there is none, InUseError if it is used."""
    base = homes(environ, home)
    known = [each.name for each in kept(environ, home)]
    if name not in known:
        raise UsageError(
            f"there is no home called {show(name)}{did_you_mean(name, known)}", advice=_TO_SEE_THEM
        )
    try:
        lock = _lock(f"{base}/{name}", name)
        try:
            grave = f"{base}/{_REMOVED}{os.getpid()}"
            os.mkdir(grave, 0o700)
            os.rename(f"{base}/{name}", f"{grave}/{name}")
        finally:
            os.close(lock)
        for left in os.listdir(base):  # those of a removal that was interrupted, too
            if left.startswith(_REMOVED):
                trees.remove(f"{base}/{left}")
    except OSError as error:
        raise SetupError("remove the home", error.errno or 0, error.filename or f"{base}/{name}") from error
