# SPDX-License-Identifier: GPL-3.0-or-later
"""A JSON Schema of profiles, generated from the fields of the model, for editors to complete and check by.

Taplo, and so Even Better TOML and most editors' support of TOML, takes a schema from the head of a file:

    #:schema file:///…/torbox/profiles/profile.schema.json

`torbox profile new` writes that line, `torbox profile schema --path` prints where the file is. `make docs`
writes the file; a test fails while it differs from what this gives. The schema knows the shape of values and
what there is to choose from; what else can be wrong with them `torbox profile check` knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torbox.profiles.kinds import Choice, Kind, OneOrMore, Switch, Table, Text, Texts, Whole
from torbox.profiles.model import KEYS, SECTIONS, Key

FILE = Path(__file__).parent / "profile.schema.json"
DRAFT = "http://json-schema.org/draft-07/schema#"  # the one that Taplo goes by


def schema() -> dict[str, Any]:
    """The schema as JSON's values."""
    return {
        "$schema": DRAFT,
        "title": "A profile of torbox",
        "description": "How torbox runs a program; see torbox-profile(5).",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            **_properties(""),
            **{
                name: {
                    "description": _one_line(model.__doc__ or ""),
                    "type": "object",
                    "additionalProperties": False,
                    "properties": _properties(name),
                }
                for name, model in SECTIONS.items()
            },
        },
    }


def text() -> str:
    """The whole text of profile.schema.json."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def directive() -> str:
    """The comment by which a profile tells editors of the schema of the torbox that is installed."""
    return f"#:schema {FILE.absolute().as_uri()}"


def of_kind(kind: Kind) -> dict[str, Any]:
    """What values of a kind look like. TypeError for a kind that nobody has described here."""
    match kind:
        case Choice():
            return {"enum": list(kind.words)}
        case Switch():
            return {"type": "boolean"}
        case Whole():
            return {"type": "integer", "minimum": kind.least, "maximum": kind.most}
        case Texts():
            return {"type": "array", "items": of_kind(kind.each)}
        case Table():
            return {"type": "object", "additionalProperties": of_kind(kind.values)}
        case OneOrMore():
            each = of_kind(kind.each)
            return {"anyOf": [each, {"type": "array", "items": each, "minItems": 1}]}
        case Text():
            return {"type": "string"}
    raise TypeError(f"nobody knows the schema of {kind!r}")


def _properties(section: str) -> dict[str, Any]:
    return {key.path.rpartition(".")[2]: _property(key) for key in KEYS.values() if key.section == section}


def _property(key: Key) -> dict[str, Any]:
    merges = key.kind.merging != Kind.merging
    more = f" Given anew, it {key.kind.merging}." if merges else ""
    return {"description": key.doc + more, **of_kind(key.kind), "default": _as_json(key.default)}


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def _one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":  # make docs
    import sys

    sys.stdout.write(text())
