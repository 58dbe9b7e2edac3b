# SPDX-License-Identifier: GPL-3.0-or-later
"""All profiles that have a name, and whether each could be used: what `torbox profile list` shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torbox.errors import ProfileError
from torbox.profiles import load, search


class Available(NamedTuple):
    """A profile that can be asked for by name. `fault`: why it cannot be used, in one line."""

    name: str
    path: Path
    description: str
    fault: str


def available(environ: Mapping[str, str], home: Path) -> list[Available]:
    """All profiles in the order of their names; a name that occurs twice means the first match.

    Each is loaded with all that it extends, so one whose base is missing or wrong is told as what it is.
    What it shares of the host is not looked at: that may be there when the profile is used.
    """
    found: dict[str, Available] = {}
    for path in search.files(environ, home):
        name = path.stem
        if name in found:
            continue
        try:
            description = load.load(str(path), environ, home).description
        except ProfileError as error:
            more = f" (and {len(error.faults) - 1} more)" if len(error.faults) > 1 else ""
            found[name] = Available(name, path, "", error.faults[0] + more)
        else:
            found[name] = Available(name, path, description, "")
    return [found[name] for name in sorted(found)]
