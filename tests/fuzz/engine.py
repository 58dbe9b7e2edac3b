# SPDX-License-Identifier: GPL-3.0-or-later
"""Episodes of frames against a fresh stack each, fast; one that fails is run again and written down.

What an episode does follows from its seed alone. So the fast run keeps no record: when something breaks,
the same seed is run once more with every step noted, and what is not needed is left out.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz import case
from tests.fuzz.case import CORPUS, Step
from tests.fuzz.frames import Frames
from tests.fuzz.victim import Victim

EPISODE = 3000  # frames; long enough for tables to fill and time-outs to come
BATCHES = (1, 2, 4, 8, 8, 16, 16, 30)  # frames before a turn


def tapes(directory: Path = CORPUS) -> list[list[bytes]]:
    """The frames of each conversation of the corpus."""
    found = []
    for path in sorted(directory.glob("*.case")):
        frames = [step for step in case.parse(path.read_text()) if isinstance(step, bytes)]
        if frames:
            found.append(frames)
    return found


def steps(seed: int, frames: int, victim: Victim, conversations: list[list[bytes]]) -> Iterator[Step]:
    """What is done to the victim; each step is done by whoever asks for the next."""
    chance = random.Random(seed)
    made = Frames(chance, victim, conversations)
    left = frames
    while left > 0:
        for _ in range(min(chance.choice(BATCHES), left)):
            left -= 1
            yield made.make()
        yield chance.getrandbits(32)


def gso_of(seed: int) -> bool:
    """Whether the device of this episode cuts super-packets and makes checksums."""
    return seed % 4 != 0


def episode(seed: int, frames: int, conversations: list[list[bytes]]) -> Victim:
    """Run one; whatever is broken raises."""
    victim = Victim(gso=gso_of(seed))
    put = victim.device.from_guest.append
    for step in steps(seed, frames, victim, conversations):
        if isinstance(step, bytes):
            put(step)
        else:
            victim.turn(step)
    victim.turn(1)
    victim.serves_a_newcomer()
    return victim


def recorded(seed: int, frames: int, conversations: list[list[bytes]]) -> list[Step]:
    """The steps of an episode, up to the one that breaks something."""
    victim = Victim(gso=gso_of(seed))
    done: list[Step] = []
    try:
        for step in steps(seed, frames, victim, conversations):
            done.append(step)
            if isinstance(step, bytes):
                victim.device.from_guest.append(step)
            else:
                victim.turn(step)
    except Exception:
        pass
    return done


def written_down(seed: int, frames: int, conversations: list[list[bytes]], directory: Path) -> Path:
    """Save a failing episode, minimised, where the tests replay it."""
    gso = gso_of(seed)
    found = recorded(seed, frames, conversations)
    how = case.failure(found, gso=gso)
    if how:
        found = case.minimised(found, lambda some: case.failure(some, gso=gso) == how)
    path = directory / f"failure-{seed:x}{'' if gso else '-plain'}.case"
    path.write_text(case.emit(found, f"{how or 'does not fail when replayed'}\nseed {seed}"))
    return path


def run(
    seed: int, frames: int, limit_s: float, conversations: list[list[bytes]]
) -> Iterator[tuple[int, int]]:
    """Episodes until `frames` were sent or the time is over: the seed of each and its frames, before it."""
    end = time.monotonic() + limit_s
    number = 0
    while frames > 0 and time.monotonic() < end:
        count = min(EPISODE, frames)
        yield seed * 1_000_003 + number, count
        frames -= count
        number += 1
