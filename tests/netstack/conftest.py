# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from tests.netstack.name_service import Bench


@pytest.fixture(params=["names", "tor", "off"])
def every_mode(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param)


@pytest.fixture(params=["names", "tor"])
def serving(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param)
