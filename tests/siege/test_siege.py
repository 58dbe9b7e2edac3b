# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker under each attack in turn, the same one from the first to the last: it keeps serving the other.

How much slower the honest program gets is told, not judged: all of them share the machine's processors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.siege import attacks
from tests.siege.attacks import ATTACKS
from tests.siege.live import Live
from tests.siege.siege import siege
from torbox.netstack.reassembly import MAX_PACKETS
from torbox.netstack.ring import POOL_LIMIT
from torbox.netstack.stack import MAX_CONNECTIONS, MAX_HALF_OPEN

SECONDS = 0.5  # of each attack; `make siege` takes longer
# What the rings may hold, and a quarter more for what CPython does with it; and 64 MiB for all tables.
GROWN_MAX = POOL_LIMIT // 2 * 5 // 4 + (64 << 20)


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with Live() as started:
        yield started


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_an_attack_harms_nobody_but_the_attacker(
    live: Live, attack: Callable[[], None], record_property: Callable[[str, object], None]
) -> None:
    report = siege(live, attack, SECONDS)
    record_property("report", str(report))
    print(report)
    assert report.during.failures == []
    assert report.after.failures == []
    assert report.grown < GROWN_MAX
    counters = live.worker.counters()
    assert counters["half_open"] <= 2 * MAX_HALF_OPEN
    assert counters["connections"] <= MAX_CONNECTIONS
    assert counters["reassembly"] <= MAX_PACKETS
    assert counters["lent"] <= POOL_LIMIT
    assert counters["registered"] <= counters["descriptors"] <= counters["connections"] + 16


def test_every_attack_is_on_the_list() -> None:
    written = {
        name
        for name, value in vars(attacks).items()
        if callable(value) and getattr(value, "__module__", "") == attacks.__name__ and name[0] != "_"
    }
    assert written == {attack.__name__ for attack in ATTACKS}
