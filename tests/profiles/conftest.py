# SPDX-License-Identifier: GPL-3.0-or-later
"""A home of the test's own to put profiles in, and no system's profiles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from torbox.profiles import search

Write = Callable[[str, str], Path]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(search, "SYSTEM", tmp_path / "etc")
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def write(home: Path) -> Write:
    """Write one of the user's own profiles."""

    def write(name: str, text: str) -> Path:
        path = home / ".config" / "torbox" / "profiles" / f"{name}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write
