# SPDX-License-Identifier: GPL-3.0-or-later
"""Places, as faults name them."""

from __future__ import annotations

from torbox.profiles.place import Place, Source, in_order

TEXT = """\
[env]
pass = [
    "A",
    "B",
]
set.X = "1"
"""


def place(*steps: str | int) -> Place:
    return Place(Source("p.toml", TEXT), steps)


def test_a_place_is_named_as_an_editor_finds_it() -> None:
    assert str(place("env", "pass").inside(1)) == "p.toml:4: env.pass[1]"
    assert str(place("env", "set", "X")) == "p.toml:6: env.set.X"
    assert str(place("env").inside("a b")) == "p.toml:1: env.'a b'"
    assert place("env", "pass").spot == "p.toml:2"


def test_what_a_table_is_at_fault_with_is_named_by_the_table_at_its_own_line() -> None:
    assert str(place("env", "set").at("X")) == "p.toml:6: env.set"


def test_what_is_not_found_has_the_line_of_what_it_would_be_in() -> None:
    assert str(place("env", "pass", 7)) == "p.toml:2: env.pass[7]"
    assert str(place("nothing")) == "p.toml: nothing"
    assert str(place()) == "p.toml"


def test_without_a_text_there_are_no_lines() -> None:
    assert str(Place(Source("p.toml"), ("env", "pass"))) == "p.toml: env.pass"


def test_faults_are_ordered_by_file_and_by_line_as_a_number() -> None:
    faults = ["b:10: x", "a.toml:2:7: y", "b:9: z: c:1: q", "a.toml: whole", "b:9: and after it", "no place"]
    assert in_order(faults) == [
        *("b:9: z: c:1: q", "b:9: and after it", "b:10: x"),
        *("a.toml: whole", "a.toml:2:7: y", "no place"),
    ]
