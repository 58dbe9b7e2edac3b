# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the whole command: `person` runs a test once for everyone torbox must serve."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.support.people import TUN, Person, people

_IDENTITIES = ("ordinary user", "root under sudo") if os.geteuid() == 0 else ("this user",)


@pytest.fixture(scope="session")
def everyone() -> Iterator[Sequence[Person]]:
    with people() as found:
        yield found


@pytest.fixture(params=_IDENTITIES)
def person(request: pytest.FixtureRequest, everyone: Sequence[Person]) -> Person:
    return next(each for each in everyone if each.name == request.param)


@pytest.fixture
def closed_tun() -> Iterator[Callable[[], None]]:
    """Call it to close /dev/net/tun to ordinary users until the test ends; needs root."""
    if os.geteuid() != 0:
        pytest.skip("needs root: the mode of /dev/net/tun is changed")
    mode = TUN.stat().st_mode & 0o7777
    yield lambda: TUN.chmod(0o600)
    TUN.chmod(mode)
