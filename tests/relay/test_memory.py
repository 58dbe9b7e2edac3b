# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker gives back to the machine. That it does so in fact is shown by tests/soak."""

from __future__ import annotations

import pytest

from tests.relay.guest import blocked, world
from tests.upstream.harness import no_descriptors
from torbox.netstack.ring import RingPool
from torbox.relay import memory
from torbox.relay.memory import WORTH, Memory


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> RingPool:
    """A pool of the test's own: the process's has a history."""
    made = RingPool()
    monkeypatch.setattr(memory, "POOL", made)
    monkeypatch.setattr(memory, "LOOK_S", 0.0)
    return made


def test_memory_is_trimmed_when_much_more_is_resident_than_in_use(pool: RingPool) -> None:
    resident = 50 << 20
    with world(blocked) as it:
        held = Memory(it.relay, lambda: resident)
        assert held._trim is not None  # the machine's own has it
        trims: list[int] = []
        held._trim = trims.append
        it.turn()
        assert held.trimmed == 0
        resident += 2 * WORTH
        it.turn()
        assert held.trimmed == 1
        it.turn()  # it has not helped: what is there stays
        assert held.trimmed == 1
        resident += 2 * WORTH
        it.turn()
        assert held.trimmed == len(trims) == 2


def test_what_is_in_use_is_no_reason_to_trim(pool: RingPool) -> None:
    resident = 50 << 20
    with world(blocked) as it:
        held = Memory(it.relay, lambda: resident)
        pool.charge(100 << 20)
        resident += 100 << 20
        it.turn()
        assert held.trimmed == 0


def test_it_reads_what_is_resident_and_lets_go_of_how() -> None:
    with world(blocked) as it:
        held = Memory(it.relay)
        assert 1 << 20 < held._read_resident() < 1 << 40
        held.close()
        held.close()


def test_without_proc_memory_stays_where_it_is() -> None:
    with world(blocked) as it:
        with no_descriptors():
            held = Memory(it.relay)
        assert held._trim is None
        held.close()
