# SPDX-License-Identifier: GPL-3.0-or-later
"""On which line of a TOML text each key and each item of a list stands.

tomli gives values without places, so a fault that is found in a value could not say where it is. This goes
through the text once more, and only when somebody asks: a profile without faults never pays for it. It is
no second parser. It looks for where things begin and end, in a text that tomli has found to be right, and
where it does not understand one it stops with what it has. A wrong line is never told; a missing one may be.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping

Steps = tuple[str | int, ...]  # ("net", "hosts", "a.example", 0): names of tables and keys, places in lists

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")  # comments too
# How texts end, by how they begin; of the long ones up to two quotes before the end are their own.
_ENDS = (
    ('"""', re.compile(r'\\.|("{3,5})', re.DOTALL)),
    ("'''", re.compile(r"('{3,5})")),
    ('"', re.compile(r'\\.|(["\n])', re.DOTALL)),
    ("'", re.compile(r"(['\n])")),
)
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\[\]{}#\n\"']+")  # a number, a date, true or false, with the spaces behind it
_DEPTH_MAX = 50  # parts of a key; a profile's have five at most, and each costs its own length


class _LostError(Exception):
    """The text is not what it was taken for."""


def scan(text: str) -> Mapping[Steps, int]:
    """The line, counted from 1, of every key, table and item, as far as the text is understood."""
    found = _Scan(text)
    try:
        found.document()
    except (_LostError, RecursionError):
        pass
    return found.lines


class _Scan:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._breaks = [match.start() for match in re.finditer("\n", text)]
        self._lengths: dict[Steps, int] = {}  # of the lists of tables, [[…]]
        self.lines: dict[Steps, int] = {}

    def document(self) -> None:
        """expression *( newline expression ), TOML 1.0's grammar; a table holds until the next begins."""
        table: Steps = ()
        while True:
            self._skip()
            if self._at >= len(self._text):
                return
            start = self._at
            if self._took("[["):
                table = self._inside(self._keys())
                self._note(table, start)
                number = self._lengths.get(table, 0)
                self._lengths[table] = number + 1
                table = (*table, number)
                self._note(table, start)
                self._take("]]")
            elif self._took("["):
                table = self._inside(self._keys())
                self._note(table, start)
                self._take("]")
            else:
                self._pair(table)

    def _pair(self, table: Steps) -> None:
        start = self._at
        steps = table + self._keys()
        self._note(steps, start)
        self._take("=")
        self._skip()
        self._value(steps)

    def _value(self, steps: Steps) -> None:
        if self._took("["):
            number = 0
            while not self._closed("]"):
                self._note((*steps, number), self._at)
                self._value((*steps, number))
                number += 1
                self._comma("]")
        elif self._took("{"):
            while not self._closed("}"):
                self._pair(steps)
                self._comma("}")
        elif not self._quoted():
            value = _SCALAR.match(self._text, self._at)
            if value is None:
                raise _LostError
            self._at = value.end()

    def _quoted(self) -> str:
        """A text with its quotes; "" if none begins here."""
        start = self._at
        for quotes, end in _ENDS:
            if self._took(quotes):
                while match := end.search(self._text, self._at):
                    self._at = match.end()
                    if match[1]:
                        return self._text[start : self._at]
                raise _LostError
        return ""

    def _keys(self) -> Steps:
        """A key, or several with dots between them."""
        keys: list[str] = []
        while True:
            self._skip()
            if bare := _BARE.match(self._text, self._at):
                keys.append(bare[0])
                self._at = bare.end()
            elif quoted := self._quoted():
                keys.append(_unquoted(quoted))
            else:
                raise _LostError
            self._skip()
            if not self._took("."):
                return tuple(keys)
            if len(keys) == _DEPTH_MAX:
                raise _LostError

    def _inside(self, keys: Steps) -> Steps:
        """Where a header leads: on the way, a list of tables means its last one."""
        steps: Steps = ()
        for key in keys:
            if steps in self._lengths:
                steps = (*steps, self._lengths[steps] - 1)
            steps = (*steps, key)
        return steps

    def _note(self, steps: Steps, start: int) -> None:
        """The first line that something is named on, and all that it is in."""
        line = bisect_right(self._breaks, start - 1) + 1
        for length in range(1, len(steps) + 1):
            self.lines.setdefault(steps[:length], line)

    def _skip(self) -> None:
        blank = _BLANK.match(self._text, self._at)
        assert blank is not None  # it matches nothing, too
        self._at = blank.end()

    def _took(self, word: str) -> bool:
        if not self._text.startswith(word, self._at):
            return False
        self._at += len(word)
        return True

    def _take(self, word: str) -> None:
        self._skip()
        if not self._took(word):
            raise _LostError

    def _closed(self, bracket: str) -> bool:
        self._skip()
        return self._took(bracket)

    def _comma(self, bracket: str) -> None:
        self._skip()
        if not self._took(",") and not self._text.startswith(bracket, self._at):
            raise _LostError


def _unquoted(quoted: str) -> str:
    import tomli

    try:
        return str(tomli.loads(f"key = {quoted}")["key"])
    except tomli.TOMLDecodeError:
        raise _LostError from None
