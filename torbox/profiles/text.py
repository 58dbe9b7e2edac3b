# SPDX-License-Identifier: GPL-3.0-or-later
"""A profile written out as TOML: what `torbox profile show` prints, and what load.loads reads again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torbox.profiles.kinds import BARE_KEY
from torbox.profiles.model import KEYS, SECTIONS, Profile, value_of

ESCAPES = {"\\": "\\\\", '"': '\\"', "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def emit(profile: Profile) -> str:
    """All values of a profile, inherited and default ones too, each with the file it is from."""
    lines = []
    for section in ("", *SECTIONS):
        if section:
            lines += ["", f"[{section}]"]
        for key in KEYS.values():
            if key.section == section and key.path != "extends":  # what it extends is already in it
                lines += _emit_key(profile, key.path)
    return "\n".join(lines) + "\n"


def _emit_key(profile: Profile, path: str) -> list[str]:
    name = path.rpartition(".")[2]
    value = value_of(profile, path)
    origin = f"  # {profile.origins[path]}" if path in profile.origins else ""
    if not isinstance(value, Mapping):
        return [f"{name} = {_emit_value(value)}{origin}"]
    if not value:
        return [f"{name} = {{}}{origin}"]
    return [f"{name}.{_emit_name(each)} = {_emit_value(inner)}{origin}" for each, inner in value.items()]


def _emit_name(name: str) -> str:
    return name if BARE_KEY.fullmatch(name) else _emit_text(name)


def _emit_value(value: Any) -> str:
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
