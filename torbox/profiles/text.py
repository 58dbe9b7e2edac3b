# SPDX-License-Identifier: GPL-3.0-or-later
"""A profile written out as TOML: what `torbox profile show` prints, and what load.loads reads again.

Each value has a comment with the file it is from; `resolved` tells the line too, of every item of a list
and every key of a table, and which values are nobody's but torbox's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torbox.profiles.kinds import BARE_KEY
from torbox.profiles.model import KEYS, SECTIONS, Key, Profile, value_of

ESCAPES = {"\\": "\\\\", '"': '\\"', "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def emit(profile: Profile, *, resolved: bool = False) -> str:
    """All values of a profile, inherited and default ones too, each with the file it is from."""
    lines = []
    if resolved:
        lines += [f"# {_printable(str(path))}" for path in profile.files] + [""]
    for section in ("", *SECTIONS):
        if section:
            lines += ["", f"[{section}]"]
        for key in KEYS.values():
            if key.section == section and key.path != "extends":  # what it extends is already in it
                lines += _emit_resolved(profile, key) if resolved else _emit_key(profile, key.path)
    return "\n".join(lines) + "\n"


def _emit_key(profile: Profile, path: str) -> list[str]:
    name = path.rpartition(".")[2]
    value = value_of(profile, path)
    place = profile.origins.get((path, ""))
    origin = f"  # {place.source.label}" if place else ""
    if not isinstance(value, Mapping):
        return [f"{name} = {emit_value(value)}{origin}"]
    if not value:
        return [f"{name} = {{}}{origin}"]
    return [f"{emit_entry(name, each, inner)}{origin}" for each, inner in value.items()]


def _emit_resolved(profile: Profile, key: Key) -> list[str]:
    """The same with lines: a list that files add to has a line for each item."""
    name = key.path.rpartition(".")[2]
    value = value_of(profile, key.path)

    def origin(part: str = "") -> str:
        place = profile.origins.get((key.path, part))
        return f"  # {_printable(place.spot)}" if place else "  # torbox's default"

    if isinstance(value, Mapping) and value:
        return [f"{emit_entry(name, each, inner)}{origin(each)}" for each, inner in value.items()]
    if value and isinstance(value, tuple) and (key.path, value[0]) in profile.origins:
        return [f"{name} = [", *(f"    {_emit_text(item)},{origin(item)}" for item in value), "]"]
    return [f"{name} = {'{}' if isinstance(value, Mapping) else emit_value(value)}{origin()}"]


def _printable(text: str) -> str:
    return text if text.isprintable() else ascii(text)


def emit_entry(table: str, name: str, value: Any) -> str:
    """One key of a table with its value, as it may stand beside other keys."""
    return f"{table}.{name if BARE_KEY.fullmatch(name) else _emit_text(name)} = {emit_value(value)}"


def emit_value(value: Any) -> str:
    """A value of the model as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_emit_text, value))}]"
    if isinstance(value, str):
        return _emit_long_text(value) if "\n" in value else _emit_text(value)
    return str(value)


def _emit_text(text: str) -> str:
    return '"' + "".join(map(_escape, text)) + '"'


def _emit_long_text(text: str) -> str:
    """A text over several lines, as TOML's three quotes have it; the first line break is not part of it."""
    return '"""\n' + "\n".join("".join(map(_escape, line)) for line in text.split("\n")) + '"""'


def _escape(character: str) -> str:
    if character in ESCAPES:
        return ESCAPES[character]
    if character.isprintable():
        return character
    return f"\\u{ord(character):04X}" if ord(character) < 0x10000 else f"\\U{ord(character):08X}"
