# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens between the plan and the start of a sandbox."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from torbox import cgroup, plan
from torbox.cli import run
from torbox.errors import SetupError
from torbox.limits import Limits
from torbox.plan import SandboxPlan
from torbox.profiles import load


def planned(text: str, allow_missing: Sequence[str] = ()) -> SandboxPlan:
    profile = load.loads(text)
    return plan.make(
        profile, command=("true",), upstream="block", allow_missing=allow_missing, environ={}, home="/h"
    )


@pytest.fixture
def without_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose groups limit memory and processes, and no processor time; where its group is."""

    def make(wanted: Limits) -> cgroup.Group:
        if wanted.cpu:
            raise cgroup.NoGroup("nobody gives cpu")
        (tmp_path / "group").mkdir()
        return cgroup.Group(str(tmp_path / "group"))

    monkeypatch.setattr(cgroup, "make", make)
    return tmp_path / "group"


def test_processor_time_that_may_be_missing_takes_no_other_limit_with_it(without_cpu: Path) -> None:
    missing: list[str] = []
    the_plan = planned('[limits]\nmemory = "64M"\ncpu = 50\n', ["cpu-limit"])
    with run._group(the_plan, lambda name, _why: missing.append(name)) as (group, in_force, _):
        assert group is not None
        assert (in_force.memory, in_force.cpu) == (64 << 20, 0)
        assert without_cpu.is_dir()
    assert missing == ["cpu-limit"]
    assert not without_cpu.exists()


def test_and_stops_the_start_where_it_may_not_be(without_cpu: Path) -> None:
    with (
        pytest.raises(
            SetupError, match=r"processor time \(limits\.cpu\).*nobody gives cpu\nTry\n .*Delegate=yes"
        ),
        run._group(planned("[limits]\ncpu = 50\n"), lambda *_: None),
    ):
        pytest.fail("it was started")
    assert not without_cpu.exists()
