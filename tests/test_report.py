# SPDX-License-Identifier: GPL-3.0-or-later
"""What a process says as it starts, at both ends of the pipe."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from torbox.report import Report, hear, last_words


@pytest.fixture
def pipe() -> Iterator[tuple[int, Report]]:
    reader, writer = os.pipe()
    report = Report(writer)
    yield reader, report
    report.close()
    os.close(reader)


def test_it_is_ready_after_it_has_said_what_it_does_without(pipe: tuple[int, Report]) -> None:
    reader, report = pipe
    told: list[tuple[str, str]] = []
    report.missing("landlock", "Landlock: Operation not permitted")
    report.missing("seccomp", "\x01")
    assert report.ready()
    assert hear(reader, lambda *each: told.append(each)) is None
    assert told == [("landlock", "Landlock: Operation not permitted"), ("seccomp", "\x01")]


@pytest.mark.parametrize(
    "why", ["", "no such thing", "set up: /a\nb: denied", "\n\n", "a\0b", "\x01\x02", "\udc80"]
)
def test_what_is_missing_is_told_whatever_the_reason_and_hides_nothing(
    pipe: tuple[int, Report], why: str
) -> None:
    reader, told = pipe
    told.missing("landlock", why)
    told.missing("seccomp", "x")
    told.failed("why\nnot")
    heard: list[tuple[str, str]] = []
    assert hear(reader, lambda *each: heard.append(each)) == "why\nnot"
    assert heard == [("landlock", why.replace("\n", " ").replace("\udc80", "?")), ("seccomp", "x")]


def test_a_reason_is_heard_before_and_after_it_is_ready(pipe: tuple[int, Report]) -> None:
    reader, report = pipe
    report.ready()
    assert hear(reader, lambda *_: None) is None
    assert last_words(reader) == ""
    report.failed("it broke")
    assert last_words(reader) == "it broke"
    assert last_words(reader) == ""


def test_who_fails_right_after_he_was_ready_is_heard_at_once(pipe: tuple[int, Report]) -> None:
    reader, report = pipe
    report.missing("landlock", "why")
    report.ready()
    report.failed("it broke")
    assert hear(reader, lambda *_: None) == "it broke"


def test_who_does_not_get_ready_is_heard_or_has_ended_without_a_word(pipe: tuple[int, Report]) -> None:
    reader, report = pipe
    report.failed("it broke")
    assert hear(reader, lambda *_: None) == "it broke"
    assert hear(reader, lambda *_: None) == ""


def test_once_closed_nothing_is_said_to_whatever_has_the_number_by_then() -> None:
    reader, writer = os.pipe()
    other, its_end = os.pipe()
    report = Report(writer)
    report.close()
    os.dup2(its_end, writer)  # as the next file that is opened would be
    report.missing("landlock", "why")
    report.ready()
    report.failed("why")
    for descriptor in {its_end, writer}:
        os.close(descriptor)
    assert os.read(other, 100) == b""
    os.close(other)
    os.close(reader)


def test_it_notices_that_nobody_listens_any_more(pipe: tuple[int, Report]) -> None:
    reader, report = pipe
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, reader)
    os.close(null)
    assert not report.ready()
