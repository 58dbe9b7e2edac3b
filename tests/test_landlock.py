# SPDX-License-Identifier: GPL-3.0-or-later
"""Versions of Landlock; what each right does is in test_confinement.py, where it is used."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from torbox import landlock


def raising(number: int) -> Callable[..., int]:
    def call(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_kernel_without_it_has_version_0(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "_call", raising(number))
    assert landlock.abi() == 0


def test_one_that_forbids_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "_call", raising(errno.EPERM))
    with pytest.raises(PermissionError):
        landlock.abi()


@pytest.mark.parametrize("version", range(1, 10))
def test_each_version_is_asked_for_what_it_knows(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def call(number: int, *arguments: object) -> int:
        if number == 444:
            asked.append(arguments[0]._obj)  # type: ignore[attr-defined]
            return os.open(os.devnull, os.O_RDONLY)
        return 0

    monkeypatch.setattr(landlock, "_call", call)
    landlock.restrict(version, readable="/", port=9050)
    (attr,) = asked
    assert attr.handled_access_fs == (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)) - 1
    assert attr.handled_access_net == (3 if version >= 4 else 0)
    assert attr.scoped == (3 if version >= 6 else 0)
