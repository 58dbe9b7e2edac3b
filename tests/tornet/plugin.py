# SPDX-License-Identifier: GPL-3.0-or-later
"""The session fixture `tornet`: one private Tor network for all tests that ask for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tornet.network import TorNetwork


@pytest.fixture(scope="session")
def tornet() -> Iterator[TorNetwork]:
    """A running `TorNetwork`, started by the first test that asks; its client must not be killed."""
    with TorNetwork() as network:
        yield network
