# SPDX-License-Identifier: GPL-3.0-or-later
"""A short run of `python -m tests.fuzz.relay`."""

from __future__ import annotations

import random

from tests.fuzz.relay import fuzz

LIMIT_S = 8.0


def test_neither_a_hostile_guest_nor_a_whimsical_upstream_breaks_the_relay() -> None:
    done = fuzz(LIMIT_S, random.SystemRandom().getrandbits(31))
    assert min(done[what] for what in ("streams", "queries", "datagrams")) > 10
