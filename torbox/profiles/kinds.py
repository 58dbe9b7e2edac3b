# SPDX-License-Identifier: GPL-3.0-or-later
"""Kinds of values a profile's key can have: each reads what TOML gave, or says what is wrong with it.

A kind never raises. It notes faults in the words of the user's file and goes on, so that all faults
of a profile are told at once:

    browser.toml:12: net.dns: 'nmaes' is not one of names, tor, off; did you mean 'names'?

`merge` says what becomes of a value that a profile inherits and gives anew, and `parts` which pieces of
a value may so come from several files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torbox.profiles.place import Place

SHOWN_MAX = 60  # characters of a wrong value that a fault repeats
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")  # TOML's keys that need no quotes

Check = Callable[[str], str]  # what is wrong with a text ("" if nothing), to be read after the text itself


def show(value: object) -> str:
    """A value as a fault names it: in one line, short, without control characters."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, str):
        return repr(value if len(value) <= SHOWN_MAX else value[: SHOWN_MAX - 1] + "…")
    try:
        text = str(value)  # a number or a date
    except ValueError:  # an int of more digits than Python is ready to print
        return "a huge number"
    return text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 1] + "…"


def dotted(where: str, key: str) -> str:
    """The name of a key within a table, quoted where TOML would."""
    name = key if len(key) <= SHOWN_MAX and BARE_KEY.fullmatch(key) else show(key)
    return f"{where}.{name}" if where else name


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant, "" if none comes near."""
    from difflib import get_close_matches  # 5 ms that only a mistake costs

    by_lower = {each.lower(): each for each in known}
    found = get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """ "; did you mean 'this'?" or nothing, to end a fault with."""
    found = nearest(word, known)
    return f"; did you mean '{found}'?" if found else ""


class Kind:
    """One kind of value. `expected` completes "is not …"; `merging` tells what inheriting does."""

    expected = "a value"
    merging = "replaces the inherited value"

    def read(self, value: object, where: Place, faults: list[str]) -> Any:
        """The value as the model holds it. Wrong ones are noted in `faults`; the result is void then."""
        raise NotImplementedError

    def merge(self, inherited: Any, own: Any) -> Any:
        del inherited
        return own

    def parts(self, value: Any) -> Iterable[tuple[str, str | int]]:
        """What of a right value, as TOML gave it, is added to an inherited one: a name and the step to it."""
        del value
        return ()

    def is_wrong(self, value: object, where: Place, faults: list[str]) -> None:
        faults.append(f"{where}: {show(value)} is not {self.expected}")


class Switch(Kind):
    expected = "true or false"

    def read(self, value: object, where: Place, faults: list[str]) -> bool:
        if not isinstance(value, bool):
            self.is_wrong(value, where, faults)
        return value is True


class Whole(Kind):
    """A whole number within bounds, both included."""

    def __init__(self, least: int, most: int, unit: str) -> None:
        self.least, self.most, self.unit = least, most, unit
        self.expected = f"a whole number of {unit} from {least} to {most}"

    def read(self, value: object, where: Place, faults: list[str]) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not self.least <= value <= self.most:
            self.is_wrong(value, where, faults)
            return self.least
        return value


class Choice(Kind):
    def __init__(self, *words: str) -> None:
        self.words = words
        self.expected = f"one of {', '.join(words)}" if len(words) > 1 else f"'{words[0]}', all there is"

    def read(self, value: object, where: Place, faults: list[str]) -> str:
        if isinstance(value, str) and value in self.words:
            return value
        hint = did_you_mean(value, self.words) if isinstance(value, str) and len(self.words) > 1 else ""
        faults.append(f"{where}: {show(value)} is not {self.expected}{hint}")
        return self.words[0]


class Text(Kind):
    """A text without NUL, which nothing that texts end up in (paths, arguments, variables) can hold."""

    def __init__(self, expected: str = "a text", check: Check | None = None) -> None:
        self.expected = expected
        self.check = check

    def read(self, value: object, where: Place, faults: list[str]) -> str:
        if not isinstance(value, str):
            self.is_wrong(value, where, faults)
            return ""
        wrong = "contains a NUL character" if "\0" in value else self.check(value) if self.check else ""
        if wrong:
            faults.append(f"{where}: {show(value)} {wrong}")
        return value


class Texts(Kind):
    """A list of texts; `appends` to the inherited list, without repetitions, or replaces it."""

    def __init__(self, each: Text, *, appends: bool) -> None:
        self.each = each
        self.expected = "a list of texts"
        self.appends = appends
        if appends:
            self.merging = "is added to the inherited list"

    def read(self, value: object, where: Place, faults: list[str]) -> tuple[str, ...]:
        if not isinstance(value, list):
            self.is_wrong(value, where, faults)
            return ()
        texts = tuple(self.each.read(text, where.inside(index), faults) for index, text in enumerate(value))
        return tuple(dict.fromkeys(texts)) if self.appends else texts

    def parts(self, value: Any) -> Iterable[tuple[str, str | int]]:
        return ((text, index) for index, text in enumerate(value)) if self.appends else ()

    def merge(self, inherited: tuple[str, ...], own: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(inherited + own)) if self.appends else own


class Table(Kind):
    """A table whose keys the user chooses; an inherited table keeps the keys that are not given anew."""

    expected = "a table"
    merging = "is added to the inherited table, key by key"

    def __init__(self, keys: Text, values: Kind) -> None:
        self.keys = keys
        self.values = values

    def read(self, value: object, where: Place, faults: list[str]) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            self.is_wrong(value, where, faults)
            return {}
        return {
            self.keys.read(key, where.at(key), faults): self.values.read(each, where.inside(key), faults)
            for key, each in value.items()
        }

    def parts(self, value: Any) -> Iterable[tuple[str, str | int]]:
        return ((key, key) for key in value)

    def merge(self, inherited: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
        return {**inherited, **own}


class OneOrMore(Kind):
    """A text, or a list of at least one."""

    def __init__(self, each: Text) -> None:
        self.each = each
        self.expected = f"{each.expected} or a list of them"

    def read(self, value: object, where: Place, faults: list[str]) -> tuple[str, ...]:
        if isinstance(value, str):
            return (self.each.read(value, where, faults),)
        if not isinstance(value, list) or not value:
            self.is_wrong(value, where, faults)
            return ()
        return tuple(self.each.read(text, where.inside(index), faults) for index, text in enumerate(value))


def key(kind: Kind, doc: str, *, default: Any, example: str, name: str = "") -> Any:
    """A field that is a key of the profile. `example` is TOML; `name` is for words Python keeps."""
    metadata = {"kind": kind, "doc": doc, "example": example, "name": name}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)
