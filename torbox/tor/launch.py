# SPDX-License-Identifier: GPL-3.0-or-later
"""How torbox's own tor is started: which binary, which torrc, which command line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from torbox.errors import UpstreamError
from torbox.tor.places import Places

_DAEMONS = "/usr/sbin:/usr/local/sbin:/sbin"  # Debian puts tor where an ordinary PATH does not look


def find_binary(environ: Mapping[str, str]) -> str:
    """The path of the installed tor. Raises UpstreamError with what to do if there is none."""
    path = os.pathsep.join([environ.get("PATH", os.defpath), _DAEMONS])
    found = shutil.which("tor", path=path)
    if found is None:
        raise UpstreamError(
            "no Tor is running, and no tor is installed that torbox could start",
            advice="Install it: sudo apt-get install tor\n"
            "Or name one that runs elsewhere: --upstream tor://HOST:PORT",
        )
    return found


def torrc(places: Places, owner: int, user_torrc: Path | None) -> str:
    """The configuration: the user's own lines, then ours, since of two single values the last one counts.

    `owner` is the process whose end is tor's end. Lists (SocksPort, Bridge, DirAuthority, …) add up, so
    the user can have bridges or more ports, but not take ours away.
    """
    lines = [f"%include {_quoted(user_torrc)}"] if user_torrc is not None else []
    lines += [
        f"DataDirectory {_quoted(places.data)}",
        # IsolateSOCKSAuth: each user and password has circuits of its own, which is how sandboxes are
        # kept apart. ExtendedErrors: tells an onion service that is down from one that never was.
        f"SocksPort {_quoted(f'unix:{_quoted(places.socks)} IsolateSOCKSAuth ExtendedErrors')}",
        # Not ControlSocket: it ends a path at its first blank, quoted or not.
        f"ControlPort {_quoted(f'unix:{_quoted(places.control)}')}",
        "CookieAuthentication 1",
        f"CookieAuthFile {_quoted(places.cookie)}",
        "ClientOnly 1",
        "RunAsDaemon 0",
        "AvoidDiskWrites 1",
        "SafeLogging 1",  # no destination in the log
        "Log notice stdout",  # into the keeper's memory
        "DormantCanceledByStartup 1",  # a tor unused for a day would else sleep on at the next start
        f"__OwningControllerProcess {owner}",
    ]
    return "".join(f"{line}\n" for line in lines)


def command(binary: str, places: Places) -> list[str]:
    """The command line; the machine's default torrc, meant for a system service, is not read."""
    return [binary, "--defaults-torrc", os.devnull, "-f", str(places.torrc)]


def _quoted(value: Path | str) -> str:
    """A value as torrc takes it whatever is in it: a C string. Outside of one, `#` begins a comment."""
    text = str(value)
    if isinstance(value, Path) and any(character in text for character in '\n"\\'):
        raise UpstreamError(f"{text!r}: tor cannot be given a path with quotes, backslashes or line ends")
    return '"' + text.replace('"', '\\"') + '"'
