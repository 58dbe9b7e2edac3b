# SPDX-License-Identifier: GPL-3.0-or-later
"""`torbox doctor` and `torbox profile …`: what there is, as tables or for machines."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from torbox.cli.messages import complain, say
from torbox.errors import EXIT_TORBOX, EXIT_USAGE, ProfileError, UsageError


def doctor(*, as_json: bool) -> int:
    """Every check of this machine; exit code 0 if torbox can run here."""
    from torbox import doctor as checks

    found = checks.examine()
    broken = any(not check.ok and check.needed for check in found)
    if as_json:
        import json

        rows = [
            {
                "name": check.name,
                "ok": check.ok,
                "needed": check.needed,
                "detail": check.detail,
                "advice": check.advice,
            }
            for check in found
        ]
        print(json.dumps({"ok": not broken, "checks": rows}, indent=2))
        return EXIT_TORBOX if broken else 0
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None, pad_edge=False)
    for check in found:
        mark = Text("ok", "green") if check.ok else Text("FAIL" if check.needed else "no", "red")
        table.add_row(mark, Text(check.name), Text(check.detail))
        if not check.ok and check.advice:
            table.add_row("", "", Text(check.advice, "yellow"))
    Console(highlight=False, soft_wrap=not sys.stdout.isatty()).print(table)
    return EXIT_TORBOX if broken else 0


def completion(shell: str) -> int:
    """What a shell must read to complete torbox's command lines."""
    from torbox.cli.completions import SHELLS

    print(SHELLS[shell](), end="")
    return 0


def profile_list() -> int:
    """The profiles that can be named, and of those that do not come with torbox the file.

    One line for each when nobody looks: name, what it is for or its fault, file.
    """
    from torbox.profiles import catalogue, search

    _be_the_caller_of_sudo()
    found = catalogue.available(os.environ, _home())
    files = ["" if profile.path.parent == search.shipped() else str(profile.path) for profile in found]
    if not sys.stdout.isatty():
        for profile, file in zip(found, files, strict=True):
            print(f"{profile.name}\t{profile.fault or profile.description}\t{file}")
        return 0
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for column in ("profile", "what it is for", "file" if any(files) else ""):
        table.add_column(column, header_style="bold", overflow="fold")
    for profile, file in zip(found, files, strict=True):
        what = Text(profile.fault, "red") if profile.fault else Text(profile.description)
        if file.startswith(f"{_home()}/"):
            file = f"~{file.removeprefix(str(_home()))}"
        table.add_row(Text(profile.name), what, Text(file, "dim"))
    Console(highlight=False).print(table)
    return 0


def profile_show(name: str, *, resolved: bool) -> int:
    """The effective values of one profile, as TOML; `resolved`: with the file and line each is from."""
    from torbox.profiles import load, text

    _be_the_caller_of_sudo()
    print(text.emit(load.load(name, os.environ, _home()), resolved=resolved), end="")
    return 0


def profile_check(names: list[str]) -> int:
    """Every fault of every profile named; exit code 2 if there is one."""
    _be_the_caller_of_sudo()
    status = 0
    for name in names:
        try:
            _check(name)
        except ProfileError as error:
            complain(error)
            status = EXIT_USAGE
        else:
            say(f"{name}: nothing to complain about")
    return status


def profile_new(options: argparse.Namespace) -> int:
    """Write a new profile of the user's and print its path."""
    from torbox import userns
    from torbox.profiles import draft, search

    draft.check_name(options.name)
    if os.geteuid() == 0:
        if not (options.user or os.environ.get("SUDO_UID") or os.environ.get("DOAS_USER")):
            raise UsageError("root has no profiles: name the user whose it is with --user NAME")
        user = userns.resolve_user(options.user)
        if user is not None:
            userns.become(user)
    elif options.user is not None:
        userns.resolve_user(options.user)
    hidden = next(search.candidates(options.name, os.environ, _home()), None)
    path = draft.make(options.name, options.base, os.environ, _home())
    if hidden is not None:
        say(f"{options.name} now means this file and no longer {hidden}")
    print(path)
    return 0


def profile_schema(*, path_only: bool) -> int:
    """The JSON Schema of profiles, or the path of its file."""
    from torbox.profiles import schema

    print(schema.FILE if path_only else schema.text(), end="\n" if path_only else "")
    return 0


def _check(name: str) -> None:
    """Whatever would keep a run with this profile from starting. ProfileError with every fault."""
    from torbox import plan
    from torbox.profiles import load, place
    from torbox.upstream import registry

    profile, faults = load.examine(name, os.environ, _home())
    try:
        plan.make(profile, command=("true",), upstream=None, environ=os.environ, home=str(_home()))
    except ProfileError as error:
        faults += error.faults
    try:
        registry.parse_url(profile.net.upstream or "tor")
    except UsageError as error:
        faults.append(f"{profile.where('net.upstream')}: {error.message}")
    if faults:
        raise ProfileError(place.in_order(faults))


def _be_the_caller_of_sudo() -> None:
    """Look at profiles as the user whom `torbox run` would become; root by itself may look at any."""
    if os.geteuid() == 0 and (os.environ.get("SUDO_UID") or os.environ.get("DOAS_USER")):
        from torbox import userns

        user = userns.resolve_user(None)
        if user is not None:
            userns.become(user)


def _home() -> Path:
    return Path(os.path.expanduser("~"))
