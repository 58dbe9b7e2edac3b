# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine's resolver behind the loop: with an asker of the test's own, and the system's for localhost."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.upstream.harness import Loop
from torbox.upstream import resolver
from torbox.upstream.interface import Resolution
from torbox.upstream.resolver import Resolver, ask_system

ANSWER = Resolution((bytes((192, 0, 2, 1)),))


class Asker:
    """Answers when it is let."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked: list[tuple[bytes, str]] = []

    def __call__(self, name: bytes, kind: str) -> Resolution:
        self.asked.append((name, kind))
        assert self.go.wait(10)
        return ANSWER


@pytest.fixture
def asker() -> Iterator[Asker]:
    asker = Asker()
    yield asker
    asker.go.set()


def test_an_answer_comes_in_a_later_turn_while_the_loop_goes_on(loop: Loop, asker: Asker) -> None:
    it = Resolver(loop.reactor, asker)
    answers: list[Resolution] = []
    it.resolve(b"a.example", "A", answers.append)
    loop.until(lambda: asker.asked)
    assert answers == []
    asker.go.set()
    loop.until(lambda: answers)
    assert asker.asked == [(b"a.example", "A")]
    assert answers == [ANSWER]
    it.close()
    assert len(loop.reactor) == 0


def test_many_questions_share_a_few_threads_and_are_bounded(loop: Loop, asker: Asker) -> None:
    it = Resolver(loop.reactor, asker)
    before = set(threading.enumerate())
    answers: list[Resolution] = []
    for _ in range(resolver.THREADS):
        it.resolve(b"a.example", "A", answers.append)
    loop.until(lambda: len(asker.asked) == resolver.THREADS)
    for _ in range(resolver.MAX_QUESTIONS):
        it.resolve(b"b.example", "A", answers.append)
    it.resolve(b"one.more.example", "A", answers.append)
    loop.until(lambda: answers)
    assert answers == [Resolution(failed=True)]
    assert len(set(threading.enumerate()) - before) == resolver.THREADS
    asker.go.set()
    loop.until(lambda: len(answers) == 1 + resolver.THREADS + resolver.MAX_QUESTIONS)
    assert b"one.more.example" not in dict(asker.asked)
    it.close()


def test_where_no_thread_can_be_had_those_that_are_there_answer_and_without_any_nobody_can_say(
    loop: Loop, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest can use up the processes that its user may have."""

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    it = Resolver(loop.reactor, asker)
    answers: list[Resolution] = []
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        it.resolve(b"none.example", "A", answers.append)
        assert answers == []
        loop.until(lambda: answers)
    assert answers == [Resolution(failed=True)]
    it.resolve(b"a.example", "A", answers.append)
    loop.until(lambda: asker.asked)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        it.resolve(b"b.example", "A", answers.append)
    asker.go.set()
    loop.until(lambda: len(answers) == 3)
    assert answers[1:] == [ANSWER, ANSWER]
    assert [name for name, _ in asker.asked] == [b"a.example", b"b.example"]
    it.close()


def test_what_is_answered_after_the_end_is_heard_by_nobody(loop: Loop, asker: Asker) -> None:
    before = set(threading.enumerate())
    it = Resolver(loop.reactor, asker)
    it.resolve(b"a.example", "A", lambda resolution: pytest.fail("called after close"))
    loop.until(lambda: asker.asked)
    it.close()
    it.close()
    asker.go.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()
    loop.turn(loop.reactor.now)


def test_a_name_is_asked_for_as_it_is_whatever_the_search_domains(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def getaddrinfo(*arguments: object) -> list[tuple[object, ...]]:
        asked.append(arguments)
        return [(0, 0, 0, "", ("192.0.2.1", 0)), (0, 0, 0, "", ("192.0.2.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert ask_system(b"a.example", "A") == Resolution((bytes((192, 0, 2, 1)),), resolver.TTL_S)
    assert asked == [(b"a.example.", None, socket.AF_INET, socket.SOCK_STREAM)]


@pytest.mark.parametrize(
    ("error", "failed"),
    [
        (socket.EAI_NONAME, False),
        (socket.EAI_NODATA, False),
        (socket.EAI_AGAIN, True),
        (socket.EAI_FAIL, True),
    ],
)
def test_no_such_name_is_an_answer_and_no_server_is_none(
    monkeypatch: pytest.MonkeyPatch, error: int, failed: bool
) -> None:
    def getaddrinfo(*arguments: object) -> None:
        raise socket.gaierror(error, "")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert ask_system(b"a.example", "AAAA") == Resolution((), resolver.NEGATIVE_TTL_S, failed)


def test_the_system_knows_the_name_of_its_loopback() -> None:
    assert not ask_system(bytes((127, 0, 0, 1)), "PTR").failed


def test_what_cannot_be_asked_for_fails_and_raises_nothing() -> None:
    for name, kind in ((b"x" * 64 + b".example", "A"), (b"a.example", "MX"), (b"", "PTR"), (b"a\xff", "A")):
        assert ask_system(name, kind).answers == ()
