# SPDX-License-Identifier: GPL-3.0-or-later
"""A new profile's file: every key with what it does and what it would be, commented out, ready to be changed.

As it is written it says nothing that the profile it extends does not, so it can be used at once. A line that
begins with "#" and a key is TOML as soon as the "#" is gone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

from torbox.errors import ProfileError, UsageError
from torbox.profiles import load, schema, search
from torbox.profiles.kinds import Whole, show
from torbox.profiles.model import KEYS, SECTIONS, Key, Profile, value_of
from torbox.profiles.reference import describe_kind
from torbox.profiles.text import emit_entry, emit_value

WIDTH = 100  # columns of the comments
SHOWN_MAX = 200  # characters of an inherited value that is repeated; longer ones are named
NAME = re.compile(r"\w[\w.+-]*")
NAME_MAX = 250  # bytes; a file's name has 255, NAME_MAX of linux/limits.h

HEAD = """\
{directive}
#
# A profile of torbox: torbox run --profile {name} …
#
# What is commented out here, but for the examples, holds already, by {base} or by itself: take the "#" away
# to say otherwise.
#
#     torbox profile check {name}             finds whatever is wrong with it
#     torbox profile show --resolved {name}   says what holds, and which file says so
#     torbox run --profile {name} --dry-run   shows what would be run, and in what
#
# torbox-profile(5) tells more.

description = {description}
extends = {extends}
"""


def make(name: str, base: str, environ: Mapping[str, str], home: Path) -> Path:
    """Write a new profile of the user's and give its path.

    UsageError for a name that no profile can have. ProfileError if `base`, a name or a path, is not right, if
    there is such a file already, or if it cannot be written; nothing new is there then.
    """
    check_name(name)
    directory = search.directories(environ, home)[0]
    path = directory / (name + search.SUFFIX)
    if os.path.lexists(path):
        raise _is_there(path)
    profile = load.load(base, environ, home)
    extends = os.path.abspath(base) if search.is_path(base) else base
    try:
        _write(path, text(name, profile, extends))
    except FileExistsError:
        raise _is_there(path) from None
    except OSError as error:
        where = str(path) if str(path).isprintable() else ascii(str(path))
        raise ProfileError([f"{where}: cannot be made: {error.strerror}"]) from None
    return path


def check_name(name: str) -> None:
    """Raise UsageError for what is not the name of a profile."""
    if "/" in name:
        raise UsageError(f"{show(name)} is not a profile's name: it has a slash in it")
    if name.endswith(search.SUFFIX):
        raise UsageError(
            f"{show(name)} is not a profile's name but its file's: say {show(name[: -len(search.SUFFIX)])}"
        )
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{show(name)} is not a profile's name: it has letters, digits, '_', '.', '+' and '-',"
            " and begins with one of the first three"
        )
    if len(name.encode()) > NAME_MAX:
        raise UsageError(f"{show(name)} is not a profile's name: it is longer than {NAME_MAX} bytes")


def text(name: str, base: Profile, extends: str) -> str:
    """What the file says. `extends` is how it refers to its base."""
    head = HEAD.format(
        directive=schema.directive(),
        name=name,
        base=base.name if base.name.isprintable() else ascii(base.name),
        description=emit_value(f"{name}, made from {base.name}"),
        extends=emit_value(extends),
    )
    lines: list[str] = []
    for section in ("", *SECTIONS):
        if section:
            lines += ["", "", *_prose(SECTIONS[section].__doc__ or ""), f"[{section}]"]
        for key in KEYS.values():
            if key.section == section and key.path not in ("description", "extends"):
                kind = f" {describe_kind(key.kind)}." if isinstance(key.kind, Whole) else ""
                lines += ["", *_prose(key.doc + kind), *_commented(base, key)]
    return head + "\n".join(lines) + "\n"


def _prose(doc: str) -> list[str]:
    return textwrap.wrap(
        " ".join(doc.split()),
        WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _commented(base: Profile, key: Key) -> Iterator[str]:
    """What the key is inherited as, or an example where that is nothing."""
    name = key.path.rpartition(".")[2]
    value = value_of(base, key.path)
    if not isinstance(value, Mapping):
        shown = emit_value(value)
        if value in ("", ()) or "\n" in shown or len(shown) > SHOWN_MAX:
            yield "# For example:"
            shown = key.example
        yield f"#{name} = {shown}"
        return
    entries = {each: emit_entry(name, each, inner) for each, inner in value.items()}
    long = [each for each, entry in entries.items() if "\n" in entry or len(entry) > SHOWN_MAX]
    if long:
        yield from _prose(f"Inherited, but too long to repeat here: {', '.join(map(show, long))}.")
    if len(long) == len(entries):
        yield "# For example:"
        yield f"#{name} = {key.example}"
    yield from (f"#{entry}" for each, entry in entries.items() if each not in long)


def _is_there(path: Path) -> ProfileError:
    where = str(path) if str(path).isprintable() else ascii(str(path))
    return ProfileError(
        [f"{where}: is there already, and is not overwritten"],
        advice="Choose another name, or edit that file.",
    )


def _write(path: Path, text: str) -> None:
    """Make the file, whole or not at all, with the directories it needs. OSError; FileExistsError."""
    made: list[Path] = []
    try:
        _make_directory(path.parent, made)
        _write_whole(path, text.encode())
    except OSError:
        with contextlib.suppress(OSError):  # another profile is in it by now
            for directory in reversed(made):
                os.rmdir(directory)
        raise


def _make_directory(directory: Path, made: list[Path]) -> None:
    if directory.is_dir():
        return
    if directory != directory.parent:
        _make_directory(directory.parent, made)
    try:
        os.mkdir(directory, 0o700)  # the XDG specification
    except FileExistsError:
        if not directory.is_dir():  # else somebody else made it in the meantime
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory)) from None
    else:
        made.append(directory)


def _write_whole(path: Path, content: bytes) -> None:
    """The name appears with the last byte: until then the file has none, and a crash leaves nothing."""
    try:
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
        _write_named(path, content)  # NFS and others have no such files
        return
    try:
        _write_all(descriptor, content)
        # With a directory's descriptor, or Python calls link(2), which links the symlink itself.
        os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)
    finally:
        os.close(descriptor)


def _write_named(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _write_all(descriptor, content)
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
    os.fsync(descriptor)
