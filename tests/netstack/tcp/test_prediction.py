# SPDX-License-Identifier: GPL-3.0-or-later
"""Header prediction changes nothing: the same conversations with it and without, number for number."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fuzz import case, engine
from tests.fuzz.case import CORPUS, Step
from tests.fuzz.victim import Victim
from tests.netstack.playbook import established
from torbox.netstack.tcp import connection as connections
from torbox.netstack.tcp.connection import TcpConnection
from torbox.netstack.tcp.endpoint import Endpoint
from torbox.netstack.tcp.prediction import take_predicted
from torbox.netstack.wire.tcp import Segment

EPISODES = 16  # of frames that are nearly right, as fuzzing makes them
FRAMES = 2000  # in each; all together it takes two to three seconds
PLAIN = (bool, int, float, tuple, type(None))  # what a connection knows, besides its parts


class Noting(Victim):
    """Keeps after each turn what was sent and all that each connection knows."""

    def __init__(self, *, gso: bool) -> None:
        super().__init__(gso=gso)
        self.noted: list[str] = []

    def _check_sent(self) -> None:
        known = [everything(each) for each in self.stack.connections.values()]
        self.noted.append(repr((list(self.device.to_guest), known)))
        super()._check_sent()


def everything(connection: TcpConnection) -> list[object]:
    parts = (connection, connection.receiver, connection.sender, connection.sender.rtt, connection.timestamps)
    names = [
        (part, name)
        for part in parts
        if part is not None
        for kind in type(part).__mro__
        for name in getattr(kind, "__slots__", ())
    ]
    values = [(name, getattr(part, name)) for part, name in names]
    return [connection.state, *(value for value in values if isinstance(value[1], PLAIN))]


def noted(steps: list[Step], *, gso: bool) -> list[str]:
    victim = Noting(gso=gso)
    for step in steps:
        if isinstance(step, bytes):
            victim.device.from_guest.append(step)
        else:
            victim.turn(step)
    return victim.noted


Predicts = Callable[[Endpoint, Segment, float], bool]


class Counted:
    """The prediction, and how often it was right."""

    def __init__(self, what: Predicts) -> None:
        self.hits = 0
        self.what = what

    def __call__(self, connection: Endpoint, segment: Segment, now: float) -> bool:
        hit = self.what(connection, segment, now)
        self.hits += hit
        return hit


def never(connection: Endpoint, segment: Segment, now: float) -> bool:
    return False


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    it = Counted(take_predicted)
    monkeypatch.setattr(connections, "take_predicted", it)
    return it


def assert_same(steps: list[Step], counted: Counted, monkeypatch: pytest.MonkeyPatch, *, gso: bool) -> None:
    with_it = noted(steps, gso=gso)
    with monkeypatch.context() as patched:
        patched.setattr(connections, "take_predicted", never)
        without = noted(steps, gso=gso)
    assert len(with_it) == len(without)
    for turn, (one, other) in enumerate(zip(with_it, without, strict=True)):
        assert one == other, f"turn {turn}"


def test_the_conversations_of_the_corpus_are_the_same(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in sorted(CORPUS.glob("*.case")):
        for gso in (True, False):
            assert_same(case.parse(path.read_text()), counted, monkeypatch, gso=gso)
    assert counted.hits >= 20


def test_conversations_that_go_wrong_are_the_same(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    tapes = engine.tapes()
    for seed in range(EPISODES):
        gso = engine.gso_of(seed)
        assert_same(engine.recorded(seed, FRAMES, tapes), counted, monkeypatch, gso=gso)
    assert counted.hits > 500


def test_the_next_text_and_its_acknowledgement_are_predicted(counted: Counted) -> None:
    book = established()
    before = counted.hits
    book.play(
        """
        >> P. 1:101 ack 1 win 64000
        !! write 50
        << P. 1:51 ack 101
        >> . 101:101 ack 51 win 64000
        >> P. 101:201 ack 51 win 64000
        +0.04
        << . 51:51 ack 201
        """
    )
    assert counted.hits - before == 3


def test_a_report_of_text_that_came_early_is_heard(counted: Counted) -> None:
    book = established(offer="sackok")
    before = counted.hits
    book.play(
        """
        !! write 5000
        << P. 1:5001 ack 1
        >> . 1:1 ack 1001 win 64000 <sack 2001-3001>
        """
    )
    assert counted.hits == before
    assert book.connection is not None
    assert book.connection.sender.scoreboard is not None
