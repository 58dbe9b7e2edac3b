# SPDX-License-Identifier: GPL-3.0-or-later
"""Each failure has its exit code and says its parts in order."""

from __future__ import annotations

import errno

from torbox.errors import CommandError, ProfileError, SetupError, UpstreamError, UsageError


def test_exit_codes_are_those_of_env_and_timeout() -> None:
    assert UsageError("x").exit_code == 2
    assert ProfileError(["x"]).exit_code == 2
    assert SetupError("x", 0).exit_code == 125
    assert UpstreamError("x").exit_code == 125
    assert CommandError("x", errno.EACCES).exit_code == 126
    assert CommandError("x", errno.ENOEXEC).exit_code == 126
    assert CommandError("x", errno.ENOENT).exit_code == 127


def test_a_setup_error_names_step_place_reason_and_remedy() -> None:
    error = SetupError("open the tun", errno.EACCES, "/dev/net/tun", advice="chmod it")
    assert str(error) == "open the tun: /dev/net/tun: Permission denied\nchmod it"


def test_a_profile_error_says_all_its_faults() -> None:
    assert str(ProfileError(["one", "two"])) == "one\ntwo"
