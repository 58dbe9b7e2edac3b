# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses that stand for names."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torbox.netstack import name_pool
from torbox.netstack.name_pool import NamePool

POOL4 = ipaddress.ip_network("198.18.0.0/15")
POOL6 = ipaddress.ip_network("fd00:746f:7262:6f78::/64")


def test_a_name_has_one_address_of_each_family_and_both_mean_it() -> None:
    pool = NamePool()
    address4, address6 = pool.address_for(b"example.com", 4), pool.address_for(b"example.com", 6)
    assert ipaddress.ip_address(address4) == ipaddress.ip_address("198.18.0.1")
    assert ipaddress.ip_address(address6) == ipaddress.ip_address("fd00:746f:7262:6f78::c612:1")
    assert pool.name_of(address4) == pool.name_of(address6) == b"example.com"
    assert pool.address_for(b"EXAMPLE.com", 4) == address4
    assert pool.address_for(b"other.com", 4) != address4
    assert len(pool) == 2


def test_addresses_of_the_pool_are_known_whether_they_mean_a_name_or_not() -> None:
    pool = NamePool()
    for inside in ("198.18.0.0", "198.19.255.255", "fd00:746f:7262:6f78::1", "fd00:746f:7262:6f78:1::"):
        assert pool.contains(ipaddress.ip_address(inside).packed)
        assert pool.name_of(ipaddress.ip_address(inside).packed) is None
    for outside in ("198.17.255.255", "198.20.0.0", "fd00::2", "fd00:746f:7262:6f79::1", "::c612:1"):
        assert not pool.contains(ipaddress.ip_address(outside).packed)
        assert pool.name_of(ipaddress.ip_address(outside).packed) is None


def test_the_least_recently_used_name_is_forgotten() -> None:
    pool = NamePool(limit=3)
    addresses = {name: pool.address_for(name, 4) for name in (b"a", b"b", b"c")}
    pool.name_of(addresses[b"a"])
    pool.address_for(b"b", 6)
    pool.address_for(b"d", 4)
    assert pool.name_of(addresses[b"c"]) is None
    assert pool.name_of(addresses[b"a"]) == b"a"
    assert pool.name_of(addresses[b"b"]) == b"b"
    assert len(pool) == 3
    assert pool.forgotten == 1


def test_a_forgotten_address_comes_back_only_after_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_pool, "INDEXES", 50)
    pool = NamePool(limit=10)
    first = pool.address_for(b"first", 4)
    seen = {first}
    for number in range(49):
        address = pool.address_for(b"n%d" % number, 4)
        assert address not in seen
        seen.add(address)
    assert pool.name_of(first) is None
    assert pool.address_for(b"again", 4) == first


def test_an_address_in_use_is_passed_over_when_the_turn_comes_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_pool, "INDEXES", 20)
    pool = NamePool(limit=5)
    kept = pool.address_for(b"kept", 4)
    for number in range(60):
        pool.name_of(kept)
        assert pool.address_for(b"n%d" % number, 4) != kept
    assert pool.name_of(kept) == b"kept"
    assert len(pool) == 5


@pytest.mark.parametrize("limit", [0, -1, name_pool.INDEXES])
def test_a_pool_must_have_room_and_a_reserve(limit: int) -> None:
    with pytest.raises(ValueError, match="a pool holds"):
        NamePool(limit)


@given(st.integers(0, name_pool.INDEXES - 1))
def test_every_index_has_an_address_of_its_own_within_the_ranges(index: int) -> None:
    address4 = name_pool._address4(index)
    assert ipaddress.ip_address(address4) in POOL4
    assert address4[3] not in (0, 255)
    assert ipaddress.ip_address(name_pool.POOL6_PREFIX + address4) in POOL6
    assert name_pool._index(address4) == index
    assert name_pool._index(name_pool.POOL6_PREFIX + address4) == index
