# SPDX-License-Identifier: GPL-3.0-or-later
"""Kinds of values, and the words their faults are told in."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torbox.profiles import kinds
from torbox.profiles.kinds import Choice, Kind, OneOrMore, Switch, Table, Text, Texts, Whole
from torbox.profiles.place import Place, Source

WORD = Text("a word", lambda text: "" if text.isalpha() else "is not a word")


def read(kind: Kind, value: object) -> tuple[Any, list[str]]:
    faults: list[str] = []
    return kind.read(value, Place(Source("f.toml"), ("key",)), faults), faults


@pytest.mark.parametrize(
    ("kind", "value", "result"),
    [
        (Switch(), True, True),
        (Whole(1, 9, "bytes"), 1, 1),
        (Whole(1, 9, "bytes"), 9, 9),
        (Choice("names", "tor"), "tor", "tor"),
        (Text(), "", ""),
        (WORD, "abc", "abc"),
        (Texts(WORD, appends=False), ["a", "b", "a"], ("a", "b", "a")),
        (Texts(WORD, appends=True), ["a", "b", "a"], ("a", "b")),
        (Table(WORD, Text()), {"a": "x"}, {"a": "x"}),
        (OneOrMore(WORD), "a", ("a",)),
        (OneOrMore(WORD), ["a", "b"], ("a", "b")),
    ],
)
def test_right_values_are_read_without_a_word(kind: Kind, value: object, result: object) -> None:
    assert read(kind, value) == (result, [])


@pytest.mark.parametrize(
    ("kind", "value", "fault"),
    [
        (Switch(), "yes", "'yes' is not true or false"),
        (Switch(), 1, "1 is not true or false"),
        (Whole(1, 9, "bytes"), 10, "10 is not a whole number of bytes from 1 to 9"),
        (Whole(1, 9, "bytes"), True, "true is not a whole number of bytes from 1 to 9"),
        (Whole(1, 9, "bytes"), 2.0, "2.0 is not a whole number of bytes from 1 to 9"),
        (Choice("names", "tor"), "nmaes", "'nmaes' is not one of names, tor; did you mean 'names'?"),
        (Choice("names", "tor"), "TOR", "'TOR' is not one of names, tor; did you mean 'tor'?"),
        (Choice("names", "tor"), "x", "'x' is not one of names, tor"),
        (Choice("names", "tor"), ["tor"], "a list is not one of names, tor"),
        (Choice("fake"), "real", "'real' is not 'fake', all there is"),
        (Text(), {}, "a table is not a text"),
        (Text(), datetime.date(2026, 1, 2), "2026-01-02 is not a text"),
        (Text(), "a\0b", "'a\\x00b' contains a NUL character"),
        (WORD, "a1", "'a1' is not a word"),
        (Texts(WORD, appends=True), "a", "'a' is not a list of texts"),
        (Table(WORD, Text()), ["a"], "a list is not a table"),
        (Table(WORD, Text()), {"1": "x"}, "'1' is not a word"),
        (OneOrMore(WORD), [], "a list is not a word or a list of them"),
        (OneOrMore(WORD), 5, "5 is not a word or a list of them"),
    ],
)
def test_wrong_values_are_told_in_one_sentence(kind: Kind, value: object, fault: str) -> None:
    assert read(kind, value)[1] == [f"f.toml: key: {fault}"]


def test_faults_say_where_in_a_list_or_table_they_are() -> None:
    assert read(Texts(WORD, appends=True), ["a", 1, "2"])[1] == [
        "f.toml: key[1]: 1 is not a word",
        "f.toml: key[2]: '2' is not a word",
    ]
    assert read(Table(Text(), OneOrMore(WORD)), {"x": ["a", "1"], "a b": "2"})[1] == [
        "f.toml: key.x[1]: '1' is not a word",
        "f.toml: key.'a b': '2' is not a word",
    ]


def test_lists_and_tables_merge_and_the_rest_is_replaced() -> None:
    assert Texts(WORD, appends=True).merge(("a", "b"), ("b", "c")) == ("a", "b", "c")
    assert Texts(WORD, appends=False).merge(("a",), ("b",)) == ("b",)
    assert Table(WORD, Text()).merge({"a": "1", "b": "1"}, {"b": "2"}) == {"a": "1", "b": "2"}
    assert Choice("a", "b").merge("a", "b") == "b"


@pytest.mark.parametrize(
    "value",
    ["x" * 10**5, 10**5000, 10**200, "\x1b[31m\n", "\u202e"],
    ids=["long text", "huge number", "long number", "escape sequence", "direction mark"],
)
def test_wrong_values_are_shown_in_one_short_printable_line(value: object) -> None:
    shown = kinds.show(value)
    assert len(shown) <= 70
    assert shown.isprintable()


EVERY_KIND = [
    Switch(), Whole(1, 9, "bytes"), Choice("a", "b"), Choice("a"), Text(), WORD, Texts(WORD, appends=True),
    Texts(WORD, appends=False), Table(WORD, Text()), Table(Text(), OneOrMore(WORD)), OneOrMore(WORD),
]  # fmt: skip
ANYTHING = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(EVERY_KIND), ANYTHING)
def test_no_value_makes_a_kind_raise_and_every_fault_is_one_line(kind: Kind, value: object) -> None:
    for fault in read(kind, value)[1]:
        assert fault.startswith("f.toml: key")
        assert fault.isprintable()
