# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/profiles.md follows from the model."""

from __future__ import annotations

from pathlib import Path

from torbox.profiles import reference
from torbox.profiles.model import KEYS, SECTIONS

DOCUMENT = Path(__file__).parents[2] / "docs" / "profiles.md"


def test_the_document_is_fresh() -> None:
    assert DOCUMENT.read_text() == reference.markdown(), "run: make docs"


def test_every_key_and_section_is_described() -> None:
    text = reference.markdown()
    for path, key in KEYS.items():
        assert f"#### `{path}`" in text
        assert key.doc in text
    for section in SECTIONS:
        assert f"### [{section}]" in text
