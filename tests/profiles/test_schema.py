# SPDX-License-Identifier: GPL-3.0-or-later
"""The JSON Schema follows from the model, and takes what the loader takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tomli

from torbox.errors import ProfileError
from torbox.profiles import load, schema, search
from torbox.profiles.kinds import Kind
from torbox.profiles.model import KEYS

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}


def fits(value: Any, rule: dict[str, Any]) -> bool:
    """Whether a value is as a schema wants it, as far as the schema here uses JSON Schema's words."""
    words = set(rule) - {"$schema", "title", "description", "default"}
    known = {"type", "enum", "anyOf", "minimum", "maximum", "items", "minItems", "properties"}
    assert words <= known | {"additionalProperties"}
    if "anyOf" in rule:
        return any(fits(value, each) for each in rule["anyOf"])
    if "enum" in rule:
        return value in rule["enum"]
    if not isinstance(value, TYPES[rule["type"]]) or (isinstance(value, bool) != (rule["type"] == "boolean")):
        return False
    if isinstance(value, dict):
        own, others = rule.get("properties", {}), rule["additionalProperties"]
        return all(
            fits(each, own[name]) if name in own else bool(others) and fits(each, others)
            for name, each in value.items()
        )
    if isinstance(value, list):
        return len(value) >= rule.get("minItems", 0) and all(fits(each, rule["items"]) for each in value)
    return rule.get("minimum", value) <= value <= rule.get("maximum", value)


def test_the_file_is_fresh() -> None:
    assert schema.FILE.read_text() == schema.text(), "run: make docs"


def test_every_key_has_its_words_and_a_default_that_fits() -> None:
    properties = schema.schema()["properties"]
    for key in KEYS.values():
        *section, name = key.path.split(".")
        rule = properties[section[0]]["properties"][name] if section else properties[name]
        assert rule["description"].startswith(key.doc)
        assert fits(rule["default"], rule), key.path


def test_every_example_and_every_shipped_profile_fits() -> None:
    whole = schema.schema()
    for key in KEYS.values():
        assert fits(tomli.loads(f"{key.path} = {key.example}"), whole), key.path
    for path in search.shipped().iterdir():
        assert fits(tomli.loads(path.read_text()), whole), path


@pytest.mark.parametrize(
    "text",
    [
        "x = 1",
        "net = 1",
        "net.x = 1",
        "net.mtu = 1",
        "net.mtu = 99999",
        "net.mtu = true",
        "net.mtu = 1500.0",
        'net.ipv6 = "yes"',
        'net.dns = "nmaes"',
        "description = 1",
        "command = 'true'",
        "command = [1]",
        "env.set = []",
        "env.set.A = 1",
        "net.hosts.a = []",
        "net.hosts.a = 1",
    ],
)
def test_what_it_does_not_take_the_loader_does_not_either(text: str) -> None:
    assert not fits(tomli.loads(text), schema.schema())
    with pytest.raises(ProfileError):
        load.loads(text)


def test_a_kind_that_is_not_described_is_an_error_and_not_a_gap() -> None:
    with pytest.raises(TypeError):
        schema.of_kind(Kind())


def test_the_directive_leads_to_the_file_as_a_url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    word, url = schema.directive().split(" ")
    assert word == "#:schema"
    assert json.loads(Path(url.removeprefix("file://")).read_text()) == schema.schema()
    monkeypatch.setattr(schema, "FILE", tmp_path / "a b" / "ä.json")
    assert schema.directive().endswith("/a%20b/%C3%A4.json")
