# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that one worker gives addresses to and another is connected to."""

from __future__ import annotations

import os
import signal
from binascii import crc32
from collections.abc import Iterator
from itertools import pairwise

import pytest

from torbox.netstack import name_board
from torbox.netstack.name_board import RESERVE, NameBoard
from torbox.netstack.name_pool import NamePool

SMALL = 160  # indexes of a board in these tests: two parts of 80, with 10 names each


def pools(parts: int = 2, indexes: int = name_board.INDEXES) -> list[NamePool]:
    board = NameBoard(parts, indexes)
    return [NamePool(section=board.section(part)) for part in range(parts)]


def test_what_one_worker_gives_out_every_other_knows() -> None:
    workers = pools(8)
    addresses = [worker.address_for(b"n%d.example" % at, 4) for at, worker in enumerate(workers)]
    assert len(set(addresses)) == 8
    for reader in workers:
        for at, address in enumerate(addresses):
            assert reader.name_of(address) == b"n%d.example" % at
            assert reader.name_of(reader.address_for(b"n%d.example" % at, 6)) == b"n%d.example" % at


def test_an_address_that_nobody_gave_out_means_nothing_to_anybody() -> None:
    one, other = pools()
    assert one.name_of(bytes((198, 18, 0, 9))) is None
    assert one.name_of(bytes((198, 19, 255, 254))) is None  # in neither part, if they do not divide evenly
    assert other.name_of(bytes((198, 18, 0, 1))) is None
    assert other.name_of(bytes((198, 18, 0, 0))) is None


def test_a_name_of_any_length_is_read_as_it_was_posted() -> None:
    one, other = pools()
    for size in (1, 2, 252, 253):
        assert other.name_of(one.address_for(b"x" * size, 4)) == b"x" * size


def test_a_forgotten_name_is_forgotten_by_all_and_its_address_rests() -> None:
    one, other = pools(2, SMALL)
    first = one.address_for(b"first", 4)
    seen = {first}
    for number in range(one.limit):
        seen.add(one.address_for(b"n%d" % number, 4))
    assert other.name_of(first) is None
    for number in range(80 - 1 - one.limit):
        address = one.address_for(b"m%d" % number, 4)
        assert address not in seen, "an address came back before all others had been given out"
        seen.add(address)
        assert other.name_of(first) is None
    assert one.address_for(b"again", 4) == first
    assert other.name_of(first) == b"again"


def test_a_name_that_another_worker_uses_is_kept_and_one_that_it_stopped_using_is_not() -> None:
    one, other = pools(2, SMALL)
    kept = one.address_for(b"kept", 4)
    for number in range(30):
        assert other.name_of(kept) == b"kept"
        one.address_for(b"n%d" % number, 4)
    for number in range(2 * one.limit):
        one.address_for(b"m%d" % number, 4)
    assert other.name_of(kept) is None


def test_a_pool_whose_names_are_all_in_use_elsewhere_still_gives_out_new_ones() -> None:
    one, other = pools(2, SMALL)
    addresses = [one.address_for(b"n%d" % number, 4) for number in range(one.limit)]
    for address in addresses:
        assert other.name_of(address)
    new = one.address_for(b"new", 4)
    assert other.name_of(new) == b"new"
    assert len(one) == one.limit
    assert sum(other.name_of(address) is not None for address in addresses) == one.limit - 1


def test_names_of_one_worker_do_not_push_out_those_of_another() -> None:
    one, other = pools(2, SMALL)
    kept = other.address_for(b"kept", 4)
    for number in range(500):
        one.address_for(b"n%d" % number, 4)
    assert one.name_of(kept) == b"kept"
    assert len(one) == one.limit


@pytest.mark.parametrize("parts", range(2, 9))
def test_shares_are_apart_and_each_has_a_reserve(parts: int) -> None:
    board = NameBoard(parts)
    sections = [board.section(part) for part in range(parts)]
    for section, behind in pairwise(sections):
        assert section.first + section.span == behind.first
    assert sections[-1].first + sections[-1].span <= name_board.INDEXES
    assert all(section.limit * RESERVE <= section.span for section in sections)
    assert len(board._memory) < 6 << 20


@pytest.mark.parametrize("parts", [0, -1, name_board.INDEXES])
def test_a_board_has_room_for_each_of_its_parts(parts: int) -> None:
    with pytest.raises(ValueError, match="cannot be shared"):
        NameBoard(parts)


def test_a_slot_that_was_used_anew_while_it_was_read_is_not_taken_for_the_old_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The writer forgets the name and writes another, of the same checksum, between a look and the copy."""
    old, new = b"8755d764.example", b"4170cb18.example"
    assert crc32(old) == crc32(new)
    one, other = pools(2, SMALL)
    board = one._section.board  # type: ignore[union-attr]
    address = one.address_for(old, 4)
    slots = board._slots

    class Interrupted:
        def __getitem__(self, where: slice) -> bytes:
            for number in range(one.limit - 1):
                one.address_for(b"n%d" % number, 4)
            one.address_for(new, 4)
            return bytes(slots[where])

    monkeypatch.setattr(board, "_slots", Interrupted())
    assert other.name_of(address) is None
    assert bytes(slots[: len(new)]) == new


def test_a_name_that_is_half_written_when_its_head_is_seen_is_no_name() -> None:
    """As on a machine that lets a reader see the head's store before the name's."""
    one, other = pools(2, SMALL)
    address = one.address_for(b"first.example", 4)
    board = one._section.board  # type: ignore[union-attr]
    board._slots[3:6] = b"xxx"
    assert other.name_of(address) is None


@pytest.fixture
def busy_writer() -> Iterator[NamePool]:
    """The pool of a reader, while another process gives out addresses as fast as it can."""
    writer, reader = pools(2, SMALL)
    pid = os.fork()
    if not pid:
        number = 0
        while True:
            number += 1
            writer.address_for(b"%d.example" % number * (1 + number % 9), 4)
    try:
        yield reader
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_reader_beside_a_busy_writer_gets_whole_names_that_were_once_given_that_address(
    busy_writer: NamePool,
) -> None:
    own = bytes((198, 18, 0, 0))
    found: set[int] = set()
    while len(found) < 100:  # of them, at different times
        for index in range(80):
            name = busy_writer.name_of(own[:3] + bytes((index + 1,)))
            if name is not None:
                number = int(name.partition(b".")[0])
                assert name == b"%d.example" % number * (1 + number % 9)
                found.add(number)
