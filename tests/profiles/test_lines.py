# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of keys: right for whatever tomli reads, and never made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from torbox.profiles import search
from torbox.profiles.lines import Steps, scan


def steps_of(value: Any, above: Steps = ()) -> list[Steps]:
    """Every table, key and item that tomli found."""
    found = [above] if above else []
    if isinstance(value, dict):
        inner: Any = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    else:
        return found
    for step, each in inner:
        found += steps_of(each, (*above, step))
    return found


def test_each_thing_has_the_line_that_it_begins_on() -> None:
    text = """\
# a comment with = and [brackets]
a = 1  # one
"quoted # key" . b = "x"

[net]
hosts = { "a.example" = "1.2.3.4", b = [
    "1.2.3.5", # "not, this ]"

    '1.2.3.6',
] }
text = \"\"\"
[not a table]
no = "key"
\\\"\"\" \"\"\"\"\"
literal = '''
it's ''' # over
[ net . "x.y" ]
when = 1979-05-27 07:32:00
[[list]]
n = 1
[list.below]
m = 1
[[list]]
n = [[1, 2],
  [3]]
"""
    lines = scan(text)
    assert set(lines) == set(steps_of(tomli.loads(text)))
    wanted = {
        ("a",): 2,
        ("quoted # key",): 3,
        ("quoted # key", "b"): 3,
        ("net",): 5,
        ("net", "hosts", "b"): 6,
        ("net", "hosts", "b", 0): 7,
        ("net", "hosts", "b", 1): 9,
        ("net", "text"): 11,
        ("net", "literal"): 15,
        ("net", "x.y", "when"): 18,
        ("list", 0, "n"): 20,
        ("list", 0, "below", "m"): 22,
        ("list", 1, "n", 1, 0): 25,
    }
    assert {steps: lines[steps] for steps in wanted} == wanted


@pytest.mark.parametrize("path", sorted(search.shipped().iterdir()), ids=lambda path: path.stem)
def test_every_key_of_the_shipped_profiles_is_found(path: Path) -> None:
    text = path.read_text()
    lines = scan(text)
    assert set(lines) == set(steps_of(tomli.loads(text)))
    for steps, line in lines.items():
        if isinstance(steps[-1], str):
            assert steps[-1] in text.splitlines()[line - 1]


WORD = st.text("ab#=[]\"'., \\\u00e9", min_size=1, max_size=4)
BLANK = st.sampled_from(["", "\n", "# x = 1\n", "  \n"])
BREAK = st.sampled_from(["", " ", "\n", " # ]\n"])  # where a list may be broken


@st.composite
def values(draw: st.DrawFn, depth: int = 2) -> str:
    kinds = ["text", "long", "literal", "number", "date"] + (["list", "table"] if depth else [])
    kind = draw(st.sampled_from(kinds))
    if kind == "text":
        return json.dumps(draw(WORD))
    if kind == "long":
        inner = draw(st.lists(st.sampled_from(["a", "\n", '"', '""', '\\"', "#", "]"]), max_size=6))
        text = "".join(inner)
        return '"""' + (text if '"""' not in text else "") + '"""'
    if kind == "literal":
        return "'" + draw(WORD).replace("'", "") + "'"
    if kind == "list":
        items = draw(st.lists(values(depth - 1), max_size=3))
        return "[" + "".join(f"{draw(BREAK)}{item}{draw(BREAK)}," for item in items) + draw(BREAK) + "]"
    if kind == "table":
        keys = draw(st.lists(WORD, max_size=3, unique=True))
        return "{" + ", ".join(f"{json.dumps(key)} = {draw(values(0))}" for key in keys) + "}"
    return draw(st.sampled_from(["1", "-1.5e3", "true"] if kind == "number" else ["1979-05-27 07:32:00Z"]))


@given(st.data())
def test_lines_are_right_in_any_document(data: st.DataObject) -> None:
    text, wanted = "", {}
    for number in range(data.draw(st.integers(0, 3))):
        text += data.draw(BLANK)
        table: Steps = ()
        if number:
            name = f"t{number}"
            wanted[(name,)] = text.count("\n") + 1
            text += f"[ {name} ] # [no]\n"
            table = (name,)
        for key in data.draw(st.lists(WORD, max_size=3, unique=True)):
            text += data.draw(BLANK)
            wanted[(*table, key)] = text.count("\n") + 1
            text += f"{json.dumps(key, ensure_ascii=False)} = {data.draw(values())}{data.draw(BLANK)}\n"
    try:
        read = tomli.loads(text)
    except tomli.TOMLDecodeError:
        return  # a text with four quotes in a row, and the like
    lines = scan(text)
    assert set(lines) == set(steps_of(read))
    assert {steps: lines[steps] for steps in wanted} == wanted


@given(st.text(alphabet="ab=.[]{}\"'\n\\,#1-: ", max_size=60))
def test_no_text_makes_it_raise_and_what_is_right_is_understood(text: str) -> None:
    lines = scan(text)
    try:
        read = tomli.loads(text)
    except tomli.TOMLDecodeError:
        return
    assert set(lines) == set(steps_of(read))


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 100_000, '"' * 100_001, "a." * 100_000, "[" * 100_000, "\\" * 9]
)
def test_nonsense_ends_soon_with_what_is_known(text: str) -> None:
    assert len(scan(text)) <= 100_001
