# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from torbox.relay.spin import LEAST_S, SHORT_SLEEP_S, SPIN_S, Spin


def test_waiting_in_vain_is_given_up_and_taken_up_again_when_it_would_have_paid() -> None:
    spin = Spin()
    assert spin.span_s == SPIN_S
    spans = []
    while spin.span_s:
        spin.slept(SHORT_SLEEP_S * 2)
        spans.append(spin.span_s)
    assert spans[0] == SPIN_S / 2
    assert len(spans) < 5
    assert all(span >= LEAST_S for span in spans[:-1])
    spin.slept(SHORT_SLEEP_S * 2)
    assert spin.span_s == 0
    spin.slept(SHORT_SLEEP_S / 2)
    assert spin.span_s == SPIN_S
