# SPDX-License-Identifier: GPL-3.0-or-later
"""Who torbox becomes, and what it advises when the kernel says no."""

from __future__ import annotations

import errno
import os
import pwd

import pytest

from torbox import userns
from torbox.errors import SetupError, UsageError


def sysctls(**values: str):
    return lambda path: values.get(path.rsplit("/", 1)[1], "")


@pytest.mark.parametrize(
    ("number", "values", "wanted"),
    [
        (errno.EACCES, {"apparmor_restrict_unprivileged_userns": "1"}, "AppArmor"),
        (errno.EPERM, {"unprivileged_userns_clone": "0"}, "kernel.unprivileged_userns_clone=1"),
        (errno.ENOSPC, {}, "user.max_user_namespaces"),
        (errno.EPERM, {"max_user_namespaces": "0"}, "user.max_user_namespaces"),
        (errno.EPERM, {}, "container"),
        (errno.EINVAL, {}, "built without"),
        (errno.ENOMEM, {}, ""),
    ],
)
def test_each_refusal_of_the_kernel_has_its_advice(number: int, values: dict[str, str], wanted: str) -> None:
    assert wanted in userns.unshare_advice(number, sysctls(**values))


def as_root(monkeypatch: pytest.MonkeyPatch, **environment: str) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in ("SUDO_UID", "DOAS_USER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_an_ordinary_user_stays_who_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert userns.resolve_user(None) is None
    with pytest.raises(UsageError, match="only root"):
        userns.resolve_user("somebody-else")


def test_root_without_another_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    as_root(monkeypatch)
    with pytest.raises(SetupError, match="does not run programs as root") as caught:
        userns.resolve_user(None)
    assert "torbox run --user NAME" in caught.value.advice
    with pytest.raises(SetupError) as caught:
        userns.resolve_user(None, "torbox home")
    assert "torbox home --user NAME" in caught.value.advice


def test_root_goes_to_the_user_of_sudo_or_the_one_named(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = pwd.getpwnam("nobody")
    as_root(monkeypatch, SUDO_UID=str(nobody.pw_uid))
    assert userns.resolve_user(None) == nobody
    as_root(monkeypatch)
    assert userns.resolve_user("nobody") == nobody


@pytest.mark.parametrize("name", ["root", "0", "no-such-user-here", "99999999999999999999"])
def test_root_cannot_go_to_root_or_to_nobody_at_all(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    as_root(monkeypatch)
    with pytest.raises(UsageError, match="--user"):
        userns.resolve_user(name)


def test_sudo_from_root_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    as_root(monkeypatch, SUDO_UID="0")
    with pytest.raises(UsageError, match="that is root"):
        userns.resolve_user(None)
