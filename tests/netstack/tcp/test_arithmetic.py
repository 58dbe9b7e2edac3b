# SPDX-License-Identifier: GPL-3.0-or-later
"""The small nouns: sequence numbers, round-trip times, options."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torbox.netstack.tcp import options
from torbox.netstack.tcp.rtt import RTO_INITIAL_S, RTO_MAX_S, RTO_MIN_S, RttEstimator
from torbox.netstack.tcp.sequence import MASK, after, before, distance


@given(start=st.integers(0, MASK), step=st.integers(-(1 << 31) + 1, (1 << 31) - 1))
def test_sequence_numbers_are_compared_across_the_wrap(start: int, step: int) -> None:
    end = (start + step) & MASK
    assert distance(start, end) == step
    assert before(start, end) == (step > 0)
    assert after(start, end) == (step < 0)


def test_the_first_sample_sets_the_time_out_as_rfc_6298_says() -> None:
    rtt = RttEstimator()
    assert rtt.rto_s == RTO_INITIAL_S
    rtt.sample(0.5)
    assert (rtt.srtt_s, rtt.variation_s, rtt.rto_s) == (0.5, 0.25, 1.5)
    rtt.sample(0.9)
    assert rtt.variation_s == pytest.approx(0.75 * 0.25 + 0.25 * 0.4)
    assert rtt.srtt_s == pytest.approx(0.5 + 0.4 / 8)


def test_the_time_out_has_a_floor_and_a_ceiling() -> None:
    rtt = RttEstimator()
    rtt.sample(0.000_05)
    assert rtt.rto_s == RTO_MIN_S
    for _ in range(40):
        rtt.back_off()
    assert rtt.rto_s == RTO_MAX_S
    rtt.sample(100.0)
    assert rtt.base_s == RTO_MAX_S


@given(mss=st.integers(1, 65535), scale=st.integers(-1, 14))
def test_our_options_are_read_back(mss: int, scale: int) -> None:
    emitted = options.emit(mss, scale)
    assert len(emitted) % 4 == 0
    found = options.parse(emitted)
    assert (found.mss, found.window_scale) == (mss, scale)


@given(st.binary(max_size=40))
def test_no_options_are_too_strange(data: bytes) -> None:
    found = options.parse(data)
    assert 0 <= found.mss <= 65535
    assert -1 <= found.window_scale <= 14


@pytest.mark.parametrize(
    ("data", "mss", "scale"),
    [
        (b"", 0, -1),
        (b"\2\4\5\xb4\4\2\x08\x0a" + bytes(8) + b"\1\3\3\7", 1460, 7),  # as Linux sends them
        (b"\3\3\xff", 0, 14),
        (b"\0\2\4\5\xb4", 0, -1),
        (b"\x63\0\2\4\5\xb4", 0, -1),
        (b"\2\3\5\xb4", 0, -1),
        (b"\2\4\5", 0, -1),
        (b"\2", 0, -1),
    ],
)
def test_options_up_to_the_first_malformed_one_count(data: bytes, mss: int, scale: int) -> None:
    found = options.parse(data)
    assert (found.mss, found.window_scale) == (mss, scale)


@given(
    values=st.binary(min_size=11, max_size=11),
    spoiled=st.none() | st.tuples(st.integers(0, 19), st.integers(0, 255)),
)
def test_the_options_of_linux_are_read_at_once_as_one_by_one(
    values: bytes, spoiled: tuple[int, int] | None
) -> None:
    data = bytearray(b"\2\4" + values[:2] + b"\4\2\x08\x0a" + values[2:10] + b"\1\3\3" + values[10:])
    if spoiled is not None:
        data[spoiled[0]] = spoiled[1]
    at_once, one_by_one = options.parse(bytes(data)), options.parse(b"\1" + data)
    for name in ("mss", "window_scale", "sack", "timestamp", "echo"):
        assert getattr(at_once, name) == getattr(one_by_one, name)
