# SPDX-License-Identifier: GPL-3.0-or-later
"""Where profiles are found: the user's, the system's, then those that come with torbox."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from torbox.errors import ProfileError
from torbox.profiles.kinds import did_you_mean, show

SYSTEM = Path("/etc/torbox/profiles")
SUFFIX = ".toml"


def shipped() -> Path:
    """The profiles that come with torbox: inside the installed package, or beside it in a checkout."""
    packaged = Path(__file__).parent / "shipped"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "profiles"


def directories(environ: Mapping[str, str], home: Path) -> tuple[Path, ...]:
    """The search path, first match first."""
    configured = environ.get("XDG_CONFIG_HOME", "")
    config = Path(configured) if configured.startswith("/") else home / ".config"  # the XDG specification
    return (config / "torbox" / "profiles", SYSTEM, shipped())


def is_path(name_or_path: str) -> bool:
    """Whether this is a file's path, as opposed to a profile's name."""
    return "/" in name_or_path or name_or_path.endswith(SUFFIX)


def find(name_or_path: str, environ: Mapping[str, str], home: Path) -> Path:
    """The file of a profile; ProfileError, with the name that was probably meant, if there is none."""
    if is_path(name_or_path):
        if "\0" in name_or_path:
            raise ProfileError([f"{show(name_or_path)} contains a NUL character"])
        return Path(name_or_path)
    for path in candidates(name_or_path, environ, home):
        return path
    known = sorted({path.stem for path in files(environ, home)})
    raise ProfileError(
        [f"no profile is called {show(name_or_path)}{did_you_mean(name_or_path, known)}"],
        advice=f"Known profiles: {', '.join(known)}. Looked for in "
        f"{', '.join(str(directory) for directory in directories(environ, home))}.",
    )


def candidates(name: str, environ: Mapping[str, str], home: Path) -> Iterator[Path]:
    """The files of all profiles of this name, first match first."""
    if not name or "\0" in name or "/" in name:
        return
    for directory in directories(environ, home):
        path = directory / (name + SUFFIX)
        if os.path.lexists(
            path
        ):  # a dangling link or a directory is a fault to be told, not to be passed over
            yield path


def files(environ: Mapping[str, str], home: Path) -> Iterator[Path]:
    """The files of all profiles that have a name, in the order of the search path; each can be anything."""
    for directory in directories(environ, home):
        try:
            names = os.listdir(directory)
        except OSError:
            continue  # most people have none of their own
        yield from (directory / name for name in names if name.endswith(SUFFIX) and name.isprintable())
