# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker does without is told whatever the reason's text is, and does not hide what follows."""

from __future__ import annotations

import pytest

from torbox.relay import report


@pytest.mark.parametrize(
    "why", ["", "no such thing", "set up: /a\nb: denied", "\n\n", "a\0b", "\x01\x02", "\udc80"]
)
@pytest.mark.parametrize("rest", [report.READY, report.FAILED + b"why\nnot"])
def test_a_missing_protection_is_told_with_its_reason(why: str, rest: bytes) -> None:
    said = report.emit_missing("landlock", why) + report.emit_missing("seccomp", "x") + rest
    told = why.replace("\n", " ").replace("\udc80", "?")
    assert report.parse_missing(said) == ([("landlock", told), ("seccomp", "x")], rest)
