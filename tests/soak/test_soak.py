# SPDX-License-Identifier: GPL-3.0-or-later
"""A short soak; `make soak` is the long one. Memory of a young process moves more, so its bound is wider."""

from __future__ import annotations

from pathlib import Path

from tests.siege.live import Live
from tests.soak.soak import soak

OPEN = 1000
SHORT = 5000
LIMIT_S = 90.0
GROWTH_MAX = 1.15  # times what it was when warm, which is some 40 MiB
STAYED_MAX = 24 << 20  # bytes beyond a fresh worker's


def test_a_thousand_stay_open_and_five_thousand_come_and_go_and_nothing_is_left(tmp_path: Path) -> None:
    with Live(str(tmp_path / "tor")) as live:
        report = soak(live, (OPEN,), SHORT, LIMIT_S)
    print(*report.looks, sep="\n")
    assert report.answered == OPEN
    assert report.right == SHORT
    counters = report.counters
    assert counters["opened"] == counters["tcp_opened"] == report.opened
    assert counters["half_open_gave_way"] == counters["cut"] == counters["lost"] == 0
    assert not any(counters["refused"].values())
    assert counters["connections"] == counters["half_open"] == counters["lent"] == 0
    assert report.looks[-1].descriptors == report.looks[0].descriptors
    assert counters["registered"] == 2  # the tun, and what tells it to stop
    assert report.growth < GROWTH_MAX
    assert report.stayed < STAYED_MAX
