# SPDX-License-Identifier: GPL-3.0-or-later
"""torbox-profile(5) follows from the model."""

from __future__ import annotations

from pathlib import Path

from tests.test_roff import needs_groff, rendered
from torbox.profiles import manual
from torbox.profiles.model import KEYS, SECTIONS

DOCUMENT = Path(__file__).parents[2] / "docs" / "torbox-profile.5"


def test_the_document_is_fresh() -> None:
    assert DOCUMENT.read_text() == manual.page(), "run: make docs"


@needs_groff
def test_every_key_and_its_example_can_be_read() -> None:
    read = rendered(manual.page())
    for key in KEYS.values():
        assert f" {key.path} " in read
        assert f"{key.path.rpartition('.')[2]} = {' '.join(key.example.split())}" in read
    for section in SECTIONS:
        assert f"[{section}]" in read
