# SPDX-License-Identifier: GPL-3.0-or-later
"""Who talks with whom in the tests of the stack: packed addresses by IP version."""

from __future__ import annotations

import pytest

GUESTS = {4: bytes((10, 0, 2, 100)), 6: bytes.fromhex("fd00" + "00" * 12 + "0100")}
GATEWAYS = {4: bytes((10, 0, 2, 2)), 6: bytes.fromhex("fd00" + "00" * 13 + "02")}
REMOTES = {4: bytes((192, 0, 2, 7)), 6: bytes.fromhex("20010db8" + "00" * 11 + "07")}
GROUPS = {4: bytes((224, 0, 0, 251)), 6: bytes.fromhex("ff02" + "00" * 13 + "fb")}
VERSIONS = pytest.mark.parametrize("version", [4, 6])
