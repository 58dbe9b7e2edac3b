# SPDX-License-Identifier: GPL-3.0-or-later
"""A protection that cannot be applied stops the start, or is told where the user allows it to be missing."""

from __future__ import annotations

import pytest

from torbox.allowance import NOTHING, WHAT, Allowance, check, sentence
from torbox.errors import SetupError, UsageError


def test_what_is_missing_stops_the_start_and_says_how_it_need_not() -> None:
    with pytest.raises(SetupError) as caught, NOTHING.of("keyring"):
        raise SetupError("step", 1, "detail", advice="Do this.")
    assert caught.value.message == "step: detail: Operation not permitted"
    assert caught.value.advice.splitlines() == [
        "Do this.",
        "If you want the program to run without it: --allow-missing keyring",
    ]


def test_what_may_be_missing_is_told_once_and_the_start_goes_on() -> None:
    told: list[tuple[str, str]] = []
    allowance = Allowance(frozenset({"keyring"}), lambda *what: told.append(what))
    for _ in range(2):
        with allowance.of("keyring"):
            raise SetupError("step", 1)
    assert told == [("keyring", "step: Operation not permitted")]
    with pytest.raises(SetupError), allowance.of("landlock"):
        raise SetupError("step", 1)


def test_a_name_that_is_none_is_a_usage_error() -> None:
    assert check(["keyring", "landlock", "keyring"]) == {"keyring", "landlock"}
    with pytest.raises(UsageError, match="--allow-missing namespaces") as caught:
        check(["namespaces"])
    assert all(name in caught.value.advice for name in WHAT)


def test_it_is_said_aloud() -> None:
    assert sentence("landlock", "why").startswith("WITHOUT Landlock around")
