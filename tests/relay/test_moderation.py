# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns rest while much comes in little pieces, and at no other time."""

from __future__ import annotations

import pytest

from torbox.relay.moderation import MUCH, PIECES, REST_S, WINDOW_S, Moderation


def rests(size: int, interval_s: float) -> list[float]:
    """What each of a thousand turns of this size, this far apart, is told."""
    moderation = Moderation()
    return [moderation.rest_s(size, turn * interval_s) for turn in range(1, 1001)]


def test_many_little_pieces_are_left_to_gather() -> None:
    told = rests(9000, 9000 / 300e6)
    assert told[-1] == REST_S
    first = told.index(REST_S)
    assert first * 9000 / 300e6 <= 2.1 * WINDOW_S


@pytest.mark.parametrize(
    ("size", "interval_s", "why"),
    [
        (9000, 9000 / (MUCH * 0.9), "too little: Tor, or a line"),
        (200, 50e-6, "a small exchange"),
        (PIECES, PIECES / 2e9, "pieces that are worth a turn"),
        (0, 10e-6, "nothing"),
    ],
)
def test_nothing_else_waits(size: int, interval_s: float, why: str) -> None:
    assert set(rests(size, interval_s)) == {0.0}, why


def test_it_ends_with_the_stream() -> None:
    moderation = Moderation()
    now = 0.0
    while not moderation.rest_s(9000, now):
        now += 30e-6
    moderation.rest_s(100, now + 0.1)
    assert moderation.rest_s(100, now + 0.2) == 0.0
