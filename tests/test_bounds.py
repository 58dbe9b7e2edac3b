# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/bounds.md says what is: its numbers are the code's, its counters and tests exist."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"\| (?P<what>.+?) \| `(?P<name>[\w.]+)` = (?P<value>[\d,]+) \| (?P<rest>.+) \|$")
SOURCES = "".join(path.read_text() for path in (ROOT / "torbox").rglob("*.py"))


class Bound(NamedTuple):
    what: str
    name: str
    value: int
    at_the_bound: str
    counter: str
    test: str


def bounds() -> list[Bound]:
    found = []
    tables, _, _ = (ROOT / "docs" / "bounds.md").read_text().partition("\n## What has no bound of its own\n")
    for line in tables.splitlines():
        if not line.startswith("| ") or line.startswith("| what "):
            continue
        row = ROW.match(line)
        assert row, f"docs/bounds.md: not a row with a bound: {line}"
        at_the_bound, counter, test = row["rest"].split(" | ")
        value = int(row["value"].replace(",", ""))
        found.append(Bound(row["what"], row["name"], value, at_the_bound, counter, test.strip("`")))
    return found


BOUNDS = bounds()


def test_none_is_listed_twice() -> None:
    assert len({bound.what for bound in BOUNDS}) == len(BOUNDS) > 40


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.what.replace(" ", "-"))
def test_a_bound_is_what_it_is_said_to_be(bound: Bound) -> None:
    module, _, name = bound.name.rpartition(".")
    assert getattr(importlib.import_module(f"torbox.{module}"), name) == bound.value
    file, _, test = bound.test.partition("::")
    assert f"def {test}(" in (ROOT / "tests" / file).read_text()
    if bound.counter.startswith("`dropped`: "):
        assert f'"{bound.counter.removeprefix("`dropped`: ")}"' in SOURCES
    elif not bound.counter.startswith("none: "):
        counter = bound.counter.split("`")[1].rpartition(".")[2]
        assert re.search(rf"\bself\.{counter}\b", SOURCES)
