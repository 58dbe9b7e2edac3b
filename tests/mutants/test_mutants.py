# SPDX-License-Identifier: GPL-3.0-or-later
"""Every protection, taken out by itself, is missed by a test; docs/security.md lists them all."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from tests.mutants import security_table
from tests.mutants.mutant import Mutant, load, verdicts
from tests.support.people import Person

MUTANTS = load()
NAMES = [f"{mutant.part}: {mutant.protection}" for mutant in MUTANTS]


def test_no_protection_is_listed_twice() -> None:
    assert len(set(NAMES)) == len(NAMES) > 100


@pytest.mark.parametrize("mutant", MUTANTS, ids=NAMES)
def test_an_entry_is_about_what_there_is(mutant: Mutant) -> None:
    assert list(mutant.faults()) == []


def test_the_table_of_the_documentation_is_made_of_them() -> None:
    assert security_table.split()[1] == security_table.text(MUTANTS), "run make docs"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: some protections show to it alone")
@pytest.mark.timeout(1800)  # it takes some four minutes of two processors
def test_a_protection_that_is_taken_out_is_missed(everyone: Sequence[Person]) -> None:
    """`everyone` keeps the tun device open to all, from one's tests to the next's."""
    survived = [
        f"{mutant.part}: {mutant.protection}: {verdict.survived}"
        for mutant, verdict in verdicts(MUTANTS, os.cpu_count() or 1)
        if verdict.survived
    ]
    assert not survived, "\n\n".join(survived)
