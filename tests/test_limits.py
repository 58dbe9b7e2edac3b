# SPDX-License-Identifier: GPL-3.0-or-later
"""What sizes mean, and that rlimits are only ever lowered."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from torbox import limits
from torbox.errors import SetupError
from torbox.limits import Limits

GIB = 1 << 30


def of(whole: int = 16 * GIB, **said: object) -> Limits:
    usual = {"memory": "", "processes": 4096, "cpu": 0, "open_files": 16384, "file_size": ""}
    return limits.of_profile(**{**usual, **said}, is_said=bool(said), whole=whole)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ("", 0),
        ("4K", 4096),
        ("2M", 2 << 20),
        ("3G", 3 * GIB),
        ("1g", GIB),
        ("25%", 4 * GIB),
    ],
)
def test_sizes(size: str, wanted: int) -> None:
    assert limits.bytes_of(size, 16 * GIB) == wanted


def test_who_says_nothing_is_bounded_all_the_same() -> None:
    usual = of()
    assert usual.memory == 0
    assert usual.memory_of_each == 12 * GIB
    assert not usual.wants_group
    assert of(whole=2 * GIB).memory_of_each == 4 * GIB
    said = of(memory="1G")
    assert (said.memory, said.memory_of_each, said.wants_group) == (GIB, GIB, True)


def in_child(job: Callable[[], object]) -> str:
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = str(job())
        except SetupError as error:
            said = str(error)
        os.write(writable, said.encode())
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as file:
        said = file.read()
    os.waitpid(pid, 0)
    return said


NAMES = ("NPROC", "NOFILE", "FSIZE", "DATA")


def set_and_read(wanted: Limits, *, in_group: bool) -> dict[str, tuple[int, int]]:
    def job() -> object:
        limits.set_rlimits(wanted, in_group=in_group)
        return {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in NAMES}

    return dict(eval(in_child(job)))


def test_rlimits_are_set() -> None:
    wanted = Limits(processes=100, open_files=64, file_size=1 << 20, memory_of_each=GIB)
    read = set_and_read(wanted, in_group=False)
    assert {name: hard for name, (_, hard) in read.items()} == {
        "NPROC": 100,
        "NOFILE": 64,
        "FSIZE": 1 << 20,
        "DATA": GIB,
    }
    assert all(soft <= hard for soft, hard in read.values())


def test_memory_is_the_groups_where_there_is_one_that_limits_it() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    assert set_and_read(Limits(memory=GIB, memory_of_each=GIB), in_group=True)["DATA"] == before
    assert set_and_read(Limits(memory_of_each=GIB), in_group=True)["DATA"][1] == GIB


def test_what_is_lower_already_stays_so() -> None:
    def job() -> object:
        resource.setrlimit(resource.RLIMIT_NOFILE, (32, 48))
        limits.set_rlimits(Limits(open_files=1000), in_group=False)
        return resource.getrlimit(resource.RLIMIT_NOFILE)

    assert in_child(job) == "(32, 48)"


def test_a_limit_that_is_not_set_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    assert "an rlimit is not what" in in_child(
        lambda: limits.set_rlimits(Limits(processes=3), in_group=False)
    )


def test_the_sandboxs_programs_go_first_and_what_goes_earlier_stays_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = tmp_path / "oom_score_adj"
    monkeypatch.setattr(limits, "_OOM_SCORE_FILE", str(score))
    for before, after in (("0\n", "500"), ("-17\n", "500"), ("800\n", "800\n")):
        score.write_text(before)
        limits.go_first_when_memory_is_short()
        assert score.read_text().rstrip("\n") == after.rstrip("\n")


def test_what_is_in_force_is_told() -> None:
    said = limits.describe(of(memory="2G", cpu=150), "/sys/fs/cgroup/x")
    assert said.startswith("2 GiB of memory, 150 % of a processor, 4096 processes")
    assert said.endswith("by the control group /sys/fs/cgroup/x")
    assert "2 GiB of memory for each process" in limits.describe(of(memory="2G"), "")
    assert limits.describe(of(), "").endswith("by rlimits")


def test_what_will_be_in_force_is_told_before_it_is_tried() -> None:
    (line,) = of().lines()
    assert line.endswith("by rlimits")
    first, second = of(memory="2G", cpu=150).lines()
    assert first.startswith("2 GiB of memory, 150 % of a processor, 4096 processes")
    assert "by a control group" in first
    assert second == "else 2 GiB of memory for each process; by rlimits"


def test_processor_time_takes_a_control_group() -> None:
    limits.see_whether_rlimits_do(of(memory="2G"), "why")
    with pytest.raises(SetupError, match=r"limits\.cpu.*: why\nTry\n.* -p Delegate=yes "):
        limits.see_whether_rlimits_do(of(cpu=50), "why")


def test_it_is_said_why_memory_is_held_to_only_in_part() -> None:
    assert limits.shortfall(of(), "why") == ""
    said = limits.shortfall(of(memory="2G"), "this is systemd's")
    assert "(this is systemd's)" in said
    assert said.endswith("systemd-run --user --scope -p Delegate=yes torbox run …")
