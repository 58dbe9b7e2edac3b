# SPDX-License-Identifier: GPL-3.0-or-later
"""Where torbox's own tor keeps its things.

    STATE  $XDG_STATE_HOME/torbox/tor (~/.local/state/torbox/tor)   what a next run profits from
             data/      tor's DataDirectory: guards, consensus
    RUN    $XDG_RUNTIME_DIR/torbox, or STATE/run where there is none  gone when tor is
             keeper     the keeper's socket: a connection is a lease
             socks      tor's SocksPort        control, cookie   its ControlSocket and the key to it
             torrc      written anew for every start
             lock       held while a keeper comes or goes; stays
    the user's own torrc lines: $XDG_CONFIG_HOME/torbox/torrc (~/.config/torbox/torrc)

Both directories are 0700 and the caller's. There is no log on disk and no TCP listener.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

from torbox.errors import UpstreamError

_UNIX_PATH_LIMIT = 107  # bytes: sun_path of unix(7) is 108 with the final zero
_SOCKETS = ("keeper", "socks", "control")


class Places(NamedTuple):
    state: Path
    run: Path

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        """The places of the user whose environment this is."""
        state = _base(environ, "XDG_STATE_HOME", ".local/state") / "torbox" / "tor"
        runtime = environ.get("XDG_RUNTIME_DIR", "")
        # A runtime directory left over from another user (su, sudo) is not ours to use.
        if runtime.startswith("/") and _is_own_directory(Path(runtime)):
            return cls(state, Path(runtime) / "torbox")
        return cls(state, state / "run")

    @property
    def data(self) -> Path:
        return self.state / "data"

    @property
    def keeper(self) -> Path:
        return self.run / "keeper"

    @property
    def socks(self) -> Path:
        return self.run / "socks"

    @property
    def control(self) -> Path:
        return self.run / "control"

    @property
    def cookie(self) -> Path:
        return self.run / "cookie"

    @property
    def torrc(self) -> Path:
        return self.run / "torrc"

    @property
    def lock(self) -> Path:
        return self.run / "lock"

    def prepare(self) -> None:
        """Make the directories, private. Raises UpstreamError if they cannot be had or are another's."""
        for directory in (self.state, self.run):
            for name in _SOCKETS if directory == self.run else ():
                length = len(os.fsencode(directory / name))
                if length > _UNIX_PATH_LIMIT:
                    raise UpstreamError(
                        f"{directory / name}: {length} bytes are too many for a Unix socket's path "
                        f"(at most {_UNIX_PATH_LIMIT})",
                        advice="Set XDG_RUNTIME_DIR to a directory of yours with a shorter path.",
                    )
            try:
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                if not _is_own_directory(directory):
                    raise UpstreamError(f"{directory} is not a directory of yours")
                directory.chmod(0o700)
            except OSError as error:
                raise UpstreamError(f"{directory}: {error.strerror}") from error

    def sweep(self) -> None:
        """Remove what a running tor leaves in RUN. The keeper's socket is not swept here."""
        for path in (self.socks, self.control, self.cookie, self.torrc):
            path.unlink(missing_ok=True)


def user_torrc(environ: Mapping[str, str]) -> Path | None:
    """The user's own torrc lines, if there are any."""
    path = _base(environ, "XDG_CONFIG_HOME", ".config") / "torbox" / "torrc"
    return path if path.exists() else None


def _base(environ: Mapping[str, str], variable: str, default: str) -> Path:
    """An XDG base directory; relative values are to be ignored (XDG Base Directory Specification)."""
    named = environ.get(variable, "")
    if named.startswith("/"):
        return Path(named)
    home = environ.get("HOME", "")
    return Path(home if home.startswith("/") else pwd.getpwuid(os.getuid()).pw_dir) / default


def _is_own_directory(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
