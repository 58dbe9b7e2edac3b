# SPDX-License-Identifier: GPL-3.0-or-later
"""The model: every field is a key that is documented, checked and frozen."""

from __future__ import annotations

import dataclasses

import pytest

from torbox.profiles.kinds import Kind
from torbox.profiles.model import KEYS, SECTIONS, Profile


def test_every_field_of_every_section_is_a_key_with_its_words() -> None:
    for name, section in SECTIONS.items():
        assert section.__doc__
        for field in dataclasses.fields(section):
            (key,) = [key for key in KEYS.values() if key.section == name and key.field == field.name]
            assert isinstance(key.kind, Kind)
            assert key.doc.endswith(".")
            assert key.example


def test_fields_that_are_not_keys_are_where_the_profile_came_from() -> None:
    keys = {key.field for key in KEYS.values() if not key.section}
    rest = {field.name for field in dataclasses.fields(Profile)} - keys - set(SECTIONS)
    assert rest == {"name", "files", "origins"}


def test_a_profile_cannot_be_changed() -> None:
    profile = Profile()
    with pytest.raises(dataclasses.FrozenInstanceError):
        profile.net.mtu = 9  # type: ignore[misc]


def test_every_default_is_right_by_its_own_kind() -> None:
    for key in KEYS.values():
        faults: list[str] = []
        default = list(key.default) if isinstance(key.default, tuple) else key.default
        assert key.kind.read(default, key.path, faults) == key.default
        assert faults == []
