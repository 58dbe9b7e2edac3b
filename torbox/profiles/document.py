# SPDX-License-Identifier: GPL-3.0-or-later
"""A profile's file: read with suspicion, parsed by tomli, its faults told with line and column."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

from torbox.errors import ProfileError

SIZE_MAX = 1 << 20  # bytes; a profile is a page or two
POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|(end of document))\)$")  # as tomli words it


def label(path: Path) -> str:
    """A file's name as faults begin with it."""
    name = path.name or str(path)
    return name if name.isprintable() else ascii(name)


def read(path: Path) -> dict[str, Any]:
    """The file's tables as tomli gives them. ProfileError with one fault if there are none to be had."""
    return parse(read_text(path), label(path))


def read_text(path: Path) -> str:
    """The file's text. ProfileError with one fault if it is no such file, or no text."""
    name = label(path)
    content = _read_bytes(path, name)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ProfileError([f"{name}:{line}: not UTF-8 text"]) from None


def parse(text: str, name: str) -> dict[str, Any]:
    """A TOML text's tables. ProfileError with one fault if it is not TOML."""
    import tomli

    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        message = str(error)
        found = POSITION.search(message)
        what = message[: found.start()] if found else message
        what = what[:1].lower() + what[1:]
        if found and found[1]:
            raise ProfileError([f"{name}:{found[1]}:{found[2]}: {what}"]) from None
        where = f"{name}:{text.rstrip().count(chr(10)) + 1}: at its end" if found else name
        raise ProfileError([f"{where}: {what}"]) from None
    except ValueError:  # a number of thousands of digits, which int() refuses
        raise ProfileError([f"{name}: holds a number that is too long"]) from None
    except RecursionError:
        raise ProfileError([f"{name}: tables or lists are nested too deeply"]) from None


def _read_bytes(path: Path, name: str) -> bytes:
    try:
        # Not blocking: opening a pipe must not wait for somebody to write into it.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except ValueError:
        raise ProfileError([f"{name}: a path cannot contain a NUL character"]) from None
    except OSError as error:
        place = str(path) if str(path).isprintable() else ascii(str(path))
        raise ProfileError([f"{place}: cannot be opened: {error.strerror}"]) from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            what = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
            raise ProfileError([f"{name}: is {what}"])
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(SIZE_MAX + 1)
    except OSError as error:
        raise ProfileError([f"{name}: cannot be read: {error.strerror}"]) from None
    finally:
        os.close(descriptor)
    if len(content) > SIZE_MAX:
        raise ProfileError([f"{name}: is larger than {SIZE_MAX >> 20} MiB"])
    return content
