# SPDX-License-Identifier: GPL-3.0-or-later
"""The assembler of filters, and how they are installed."""

from __future__ import annotations

import pytest

from tests.support.filters import run
from torbox import bpf
from torbox.bpf import Line, assemble
from torbox.errors import SetupError


def test_labels_become_distances() -> None:
    lines: list[str | Line] = [
        Line(bpf.LOAD, 0),
        Line(bpf.JUMP_EQUAL, 5, if_true="yes", if_false="no"),
        "no",
        Line(bpf.RETURN, 1),
        "yes",
        Line(bpf.RETURN, 2),
    ]
    assert assemble(lines) == [(0x20, 0, 0, 0), (0x15, 1, 0, 5), (0x06, 0, 0, 1), (0x06, 0, 0, 2)]
    assert run(assemble(lines), 5) == 2
    assert run(assemble(lines), 6) == 1


def test_jumps_that_no_instruction_can_hold_are_refused() -> None:
    filler = [Line(bpf.LOAD, 0)] * 256
    with pytest.raises(ValueError, match="a jump of 256"):
        assemble([Line(bpf.JUMP_EQUAL, 1, if_true="far"), *filler, "far", Line(bpf.RETURN, 0)])
    with pytest.raises(ValueError, match="a jump of -1"):
        assemble(["back", Line(bpf.JUMP_EQUAL, 1, if_true="back")])


def test_bits_are_compared_after_a_mask_and_one_by_one() -> None:
    lines: list[str | Line] = [
        Line(bpf.LOAD, bpf.argument(1)),
        Line(bpf.JUMP_ANY_SET, 0x100, if_true="flag"),
        Line(bpf.AND, 0xF),
        Line(bpf.JUMP_EQUAL, 2, if_true="two"),
        Line(bpf.RETURN, 0),
        "two",
        Line(bpf.RETURN, 2),
        "flag",
        Line(bpf.RETURN, 3),
    ]
    assert run(assemble(lines), 0, (0, 0x82)) == 2
    assert run(assemble(lines), 0, (0, 0x182)) == 3
    assert run(assemble(lines), 0, (2, 0x83)) == 0


def test_a_machine_whose_numbers_are_not_known_is_an_error() -> None:
    with pytest.raises(SetupError, match="the numbers of riscv64 are not known"):
        bpf.machine_named("riscv64", "step")


def test_this_kernel_takes_filters() -> None:
    bpf.see_whether_there("step")
