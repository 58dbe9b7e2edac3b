# SPDX-License-Identifier: GPL-3.0-or-later
"""The cache in front of an upstream's resolver, against a resolver that answers when told to."""

from __future__ import annotations

import pytest

from torbox.netstack import lookups
from torbox.netstack.lookups import FAILED, Done, Lookups, Outcome

HERE = bytes((93, 184, 216, 34))


class Resolver:
    def __init__(self) -> None:
        self.asked: list[tuple[bytes, str]] = []
        self.done: list[Done] = []

    def __call__(self, name: bytes, kind: str, done: Done) -> None:
        self.asked.append((name, kind))
        self.done.append(done)


@pytest.fixture
def resolver() -> Resolver:
    return Resolver()


@pytest.fixture
def heard() -> list[Outcome]:
    return []


def test_an_answer_is_kept_for_its_ttl_and_counts_down(resolver: Resolver, heard: list[Outcome]) -> None:
    cache = Lookups(resolver)
    cache.ask(b"a.example", "A", 100.0, heard.append)
    resolver.done[0]((HERE,), 60, False)
    cache.ask(b"a.example", "A", 159.5, heard.append)
    assert heard == [Outcome((HERE,), 60, False), Outcome((HERE,), 1, False)]
    cache.ask(b"a.example", "A", 160.0, heard.append)
    assert len(resolver.asked) == 2
    assert len(heard) == 2


def test_kinds_are_different_questions(resolver: Resolver, heard: list[Outcome]) -> None:
    cache = Lookups(resolver)
    cache.ask(b"a.example", "A", 0.0, heard.append)
    cache.ask(b"a.example", "AAAA", 0.0, heard.append)
    assert resolver.asked == [(b"a.example", "A"), (b"a.example", "AAAA")]


def test_equal_questions_share_one_trip(resolver: Resolver, heard: list[Outcome]) -> None:
    cache = Lookups(resolver)
    for when in (0.0, 1.0, 2.0):
        cache.ask(b"a.example", "A", when, heard.append)
    assert len(resolver.asked) == 1
    resolver.done[0]((HERE,), 60, False)
    assert heard == [Outcome((HERE,), 60, False)] * 3


def test_ttls_are_kept_within_reason(resolver: Resolver, heard: list[Outcome]) -> None:
    cache = Lookups(resolver)
    for number, ttl_s in enumerate((0, -5, 10**9)):
        cache.ask(b"n%d" % number, "A", 0.0, heard.append)
        resolver.done[-1]((HERE,), ttl_s, False)
    assert [outcome.ttl_s for outcome in heard] == [5, 5, 3600]


def test_that_there_is_nothing_is_remembered(resolver: Resolver, heard: list[Outcome]) -> None:
    cache = Lookups(resolver)
    cache.ask(b"a.example", "A", 0.0, heard.append)
    resolver.done[0]((), 9999, False)
    cache.ask(b"a.example", "A", 59.0, heard.append)
    assert [outcome.answers for outcome in heard] == [(), ()]
    cache.ask(b"a.example", "A", 60.0, heard.append)
    assert len(resolver.asked) == 2


def test_that_nobody_could_say_is_remembered_for_a_moment(resolver: Resolver, heard: list[Outcome]) -> None:
    cache = Lookups(resolver)
    cache.ask(b"a.example", "A", 0.0, heard.append)
    resolver.done[0]((HERE,), 60, True)
    cache.ask(b"a.example", "A", 4.9, heard.append)
    assert [outcome.failed for outcome in heard] == [True, True]
    assert heard[0].answers == ()
    cache.ask(b"a.example", "A", 5.0, heard.append)
    assert len(resolver.asked) == 2


def test_a_resolver_that_answers_at_once_is_welcome(heard: list[Outcome]) -> None:
    cache = Lookups(lambda name, kind, done: done((HERE,), 60, False))
    cache.ask(b"a.example", "A", 0.0, heard.append)
    cache.ask(b"a.example", "A", 0.0, heard.append)
    assert [outcome.answers for outcome in heard] == [(HERE,), (HERE,)]


def test_a_second_answer_changes_nothing(resolver: Resolver, heard: list[Outcome]) -> None:
    cache = Lookups(resolver)
    cache.ask(b"a.example", "A", 0.0, heard.append)
    resolver.done[0]((HERE,), 60, False)
    resolver.done[0]((bytes(4),), 60, False)
    cache.ask(b"a.example", "A", 1.0, heard.append)
    assert [outcome.answers for outcome in heard] == [(HERE,), (HERE,)]


def test_questions_under_way_are_bounded(resolver: Resolver, heard: list[Outcome]) -> None:
    cache = Lookups(resolver)
    for number in range(lookups.OUTSTANDING_MAX + 3):
        cache.ask(b"n%d" % number, "A", 0.0, heard.append)
    assert len(resolver.asked) == lookups.OUTSTANDING_MAX
    assert heard == [FAILED] * 3
    assert cache.turned_away == 3
    resolver.done[0]((HERE,), 60, False)
    cache.ask(b"one more", "A", 0.0, heard.append)
    assert resolver.asked[-1] == (b"one more", "A")


def test_repetitions_of_one_question_are_bounded(resolver: Resolver, heard: list[Outcome]) -> None:
    cache = Lookups(resolver)
    for _ in range(lookups.ASKERS_MAX + 2):
        cache.ask(b"a.example", "A", 0.0, heard.append)
    assert heard == [FAILED] * 2
    assert cache.turned_away == 2
    resolver.done[0]((HERE,), 60, False)
    assert len(heard) == lookups.ASKERS_MAX + 2


def test_answers_and_their_number_are_bounded(resolver: Resolver, heard: list[Outcome]) -> None:
    cache = Lookups(resolver)
    for number in range(lookups.CACHE_MAX + 1):
        cache.ask(b"n%d" % number, "A", 0.0, heard.append)
        resolver.done[-1]((HERE,) * 1000, 60, False)
    assert len(heard[0].answers) == lookups.ADDRESSES_MAX
    assert cache.forgotten == 1
    cache.ask(b"n1", "A", 0.0, heard.append)
    assert len(resolver.asked) == lookups.CACHE_MAX + 1
    cache.ask(b"n0", "A", 0.0, heard.append)
    assert len(resolver.asked) == lookups.CACHE_MAX + 2


def test_a_resolver_that_forgets_questions_does_not_shut_the_service(
    resolver: Resolver, heard: list[Outcome]
) -> None:
    cache = Lookups(resolver)
    for number in range(lookups.OUTSTANDING_MAX):
        cache.ask(b"n%d" % number, "A", 0.0, heard.append)
    cache.ask(b"n0", "A", lookups.DEADLINE_S, heard.append)  # the same question may be asked anew
    cache.ask(b"new", "A", lookups.DEADLINE_S, heard.append)
    assert resolver.asked[-2:] == [(b"n0", "A"), (b"new", "A")]
    assert heard == [lookups.FAILED] * lookups.OUTSTANDING_MAX  # told once, so that nobody waits or counts on
    heard.clear()
    resolver.done[0]((bytes(4),), 60, False)  # too late: its question is another's by now
    resolver.done[-2]((HERE,), 60, False)
    assert [outcome.answers for outcome in heard] == [(HERE,)]
