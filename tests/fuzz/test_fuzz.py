# SPDX-License-Identifier: GPL-3.0-or-later
"""A short run of what `make fuzz` does for long, and that what it finds can be written down and replayed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import case, engine
from tests.fuzz.__main__ import fuzz
from tests.fuzz.case import CORPUS, Step
from tests.fuzz.conversations import ALL, held
from tests.fuzz.victim import Victim
from torbox.netstack.tcp import receiver
from torbox.netstack.wire import vnet

FRAMES = 400_000
LIMIT_S = 12.0
CASES = sorted(CORPUS.glob("*.case"))


def test_frames_that_are_nearly_right_break_nothing(tmp_path: Path) -> None:
    seed = random.SystemRandom().getrandbits(31)
    sent, found = fuzz(FRAMES, LIMIT_S, seed, 1, tmp_path, quiet=True)
    written = [path.read_text()[:20_000] for path in tmp_path.iterdir()]
    assert found == [], "\n".join((f"--seed {seed} --jobs 1", *written))
    assert sent >= engine.EPISODE


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_what_was_written_down_breaks_nothing(path: Path) -> None:
    steps = case.parse(path.read_text())
    assert steps
    for gso in (True, False):
        case.replay(steps, gso=gso)


@given(st.lists(st.binary(max_size=120), max_size=40))
@settings(max_examples=150, deadline=None)
def test_garbage_is_counted_and_dropped(frames: list[bytes]) -> None:
    victim = Victim()
    for frame in frames:
        if frame:
            for start in (b"", vnet.NONE + b"\x45", vnet.NONE + b"\x60"):
                victim.device.from_guest.append(start + frame)
    victim.turn(1)
    assert victim.stack.counters.packets_from_guest == 3 * sum(map(bool, frames))
    victim.serves_a_newcomer()


@pytest.mark.parametrize("number", range(len(ALL)), ids=lambda number: ALL[number].__name__)
def test_the_conversations_of_the_corpus_get_somewhere(number: int) -> None:
    """Replayed as they are in the repository; a change of the stack that derails them asks for new ones."""
    for family, name in enumerate(("v4", "v6")):
        path = CORPUS / f"{ALL[number].__name__.replace('_', '-')}-{name}.case"
        stored, made = case.parse(path.read_text()), held(number, family)
        counters = [case.replay(steps).stack.counters for steps in (stored, made)]
        assert counters[0].dropped == counters[1].dropped
        assert counters[0].tcp_opened == counters[1].tcp_opened > 0
        assert counters[0].resets_sent == counters[1].resets_sent


def test_an_episode_is_the_same_each_time() -> None:
    conversations = engine.tapes()
    runs = [engine.recorded(77, 500, conversations) for _ in range(2)]
    assert runs[0] == runs[1]
    assert sum(isinstance(step, bytes) for step in runs[0]) == 500


def test_a_case_is_read_as_it_was_written() -> None:
    steps: list[Step] = [b"\0" * 30 + b"\1\2" + b"\0" * 7, 7, b"\xff", 0xFFFFFFFF]
    text = case.emit(steps, "one\ntwo")
    assert text.startswith("# one\n# two\n> [30]010200000000000000\n")
    assert case.parse(text) == steps
    with pytest.raises(ValueError, match="not a step"):
        case.parse("< 00")


def test_only_what_is_needed_to_fail_is_left() -> None:
    steps: list[Step] = list(range(1000))
    assert case.minimised(steps, lambda some: {17, 600} <= set(some)) == [17, 600]


def test_a_fault_of_the_stack_is_found_and_written_down_in_few_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receiver forgets to cut off what it has already."""

    def take(self: receiver.Receiver, seq: int, data: memoryview, fin: bool, now: float) -> None:
        right(self, self.nxt, data, fin, now)

    right = receiver.Receiver.take
    monkeypatch.setattr(receiver.Receiver, "take", take)
    _, found = fuzz(100_000, 60.0, 1, 1, tmp_path, quiet=True)
    (what,) = found
    assert "what was read is not what was sent" in what
    (path,) = tmp_path.iterdir()
    steps = case.parse(path.read_text())
    assert sum(isinstance(step, bytes) for step in steps) < 20
    assert case.failure(steps, gso="plain" not in path.name)
    monkeypatch.setattr(receiver.Receiver, "take", right)
    assert not case.failure(steps, gso="plain" not in path.name)
