# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the user's session keeps its sockets: by its variables, or where they are if none says so.

Every function gives the path of a socket that is there, without symlinks, or the empty text. sudo and su
drop or keep these variables as they please, so a runtime directory counts only if it is this user's.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Mapping


def runtime_directory(environ: Mapping[str, str]) -> str:
    """XDG_RUNTIME_DIR, pam_systemd(8)."""
    for path in (environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{os.getuid()}"):
        if path.startswith("/"):
            try:
                if os.stat(path).st_uid == os.getuid():
                    return os.path.realpath(path)
            except OSError:
                pass
    return ""


def private_name(runtime: str) -> str:
    """A name for a directory that only this user may enter, which nobody else has or can guess."""
    return f"{runtime or '/tmp'}/torbox-{secrets.token_hex(8)}"


def socket(path: str) -> str:
    """Where a path leads, if that is a socket."""
    found = os.path.realpath(path)
    try:
        return found if stat.S_ISSOCK(os.stat(found).st_mode) else ""
    except OSError:
        return ""


def wayland(environ: Mapping[str, str], runtime: str) -> str:
    """wl_display_connect(3)."""
    name = environ.get("WAYLAND_DISPLAY") or "wayland-0"
    return socket(name) if name.startswith("/") else _in(runtime, name)


def pipewire(environ: Mapping[str, str], runtime: str) -> str:
    name = environ.get("PIPEWIRE_REMOTE") or "pipewire-0"
    if name.startswith("/"):
        return socket(name)
    return _in(environ.get("PIPEWIRE_RUNTIME_DIR") or runtime, name)


def pulse(environ: Mapping[str, str], runtime: str) -> str:
    """The server on this machine; one elsewhere, which the variable may name, is not for a sandbox."""
    for server in environ.get("PULSE_SERVER", "").split():
        path = re.sub(r"^\{[^}]*\}", "", server).removeprefix("unix:")
        if path.startswith("/") and (found := socket(path)):
            return found
    return _in(environ.get("PULSE_RUNTIME_PATH") or (f"{runtime}/pulse" if runtime else ""), "native")


def bus(environ: Mapping[str, str], runtime: str) -> str:
    """The session bus's socket. An abstract one has no path: it comes as "@NAME"."""
    for address in environ.get("DBUS_SESSION_BUS_ADDRESS", "").split(";"):
        transport, _, options = address.partition(":")
        values = {
            name: _unescaped(value) for name, _, value in (each.partition("=") for each in options.split(","))
        }
        if transport == "unix" and "abstract" in values:
            return f"@{values['abstract']}"
        if transport == "unix" and (found := socket(values.get("path", ""))):
            return found
    return _in(runtime, "bus")


def _unescaped(value: str) -> str:
    """D-Bus Specification, "Server Addresses"."""
    return re.sub(
        r"((?:%[0-9A-Fa-f]{2})+)", lambda found: os.fsdecode(bytes.fromhex(found[1].replace("%", ""))), value
    )


def _in(directory: str, name: str) -> str:
    return socket(f"{directory}/{name}") if directory.startswith("/") else ""
