# SPDX-License-Identifier: GPL-3.0-or-later
"""The trial of a sandbox's steps is real, ends at the first fault, and changes nothing here."""

from __future__ import annotations

import os
import pwd
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.people import open_tun_device
from torbox import cgroup, doctor, landlock, mounts, netns, syscalls, trial, userns
from torbox.errors import SetupError


@pytest.fixture
def user() -> Iterator[pwd.struct_passwd | None]:
    """Whom the trial is to become: as root somebody ordinary."""
    if os.geteuid() != 0:
        yield None
        return
    with open_tun_device():
        yield pwd.getpwnam("nobody")


def test_every_step_goes_well_and_leaves_this_process_where_it_is(user: pwd.struct_passwd | None) -> None:
    def here() -> list[str]:
        return [os.readlink(path) for path in sorted(Path("/proc/self/ns").iterdir())]

    before = here(), os.getresuid(), os.environ.copy()
    outcomes = trial.attempt(user)
    assert [(outcome.step, outcome.fault) for outcome in outcomes] == [(step, "") for step in trial.STEPS]
    assert (here(), os.getresuid(), os.environ.copy()) == before


def test_a_missing_tun_driver_ends_the_trial_with_what_to_do(
    user: pwd.struct_passwd | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(netns, "TUN_PATH", "/nonexistent")
    outcomes = trial.attempt(user)
    assert [outcome.step for outcome in outcomes] == ["user namespaces", "time namespace", "tun device"]
    assert "No such file or directory" in outcomes[-1].fault
    assert "modprobe tun" in outcomes[-1].advice


def test_a_network_stack_that_cannot_be_confined_is_the_last_outcome(
    user: pwd.struct_passwd | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(landlock, "abi", refuse)
    outcome = trial.attempt(user)[-1]
    assert outcome.step == "confinement"
    assert "Landlock: Operation not permitted" in outcome.fault
    assert "--allow-missing landlock" in outcome.advice


def test_refused_namespaces_are_the_first_and_only_outcome(
    user: pwd.struct_passwd | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(flags: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(syscalls, "unshare", refuse)
    (outcome,) = trial.attempt(user)
    assert outcome.step == "user namespaces"
    assert "Operation not permitted" in outcome.fault
    assert outcome.advice


def test_maps_that_cannot_be_written_are_a_fault_of_the_namespaces(
    user: pwd.struct_passwd | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int, uid: int, gid: int) -> None:
        raise SetupError("map the user", 1, advice="Ask for it.")

    monkeypatch.setattr(userns, "write_maps", refuse)
    (outcome,) = trial.attempt(user)
    assert (outcome.step, outcome.advice) == ("user namespaces", "Ask for it.")
    assert outcome.fault.startswith("map the user")


def test_a_fault_that_nobody_thought_of_is_told_and_goes_no_further(
    user: pwd.struct_passwd | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(netns, "configure", lambda tun, *, ipv6: 1 // 0)
    assert trial.attempt(user)[-1].fault == "ZeroDivisionError: integer division or modulo by zero"


def test_a_process_that_is_killed_is_a_fault_of_its_step(
    user: pwd.struct_passwd | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No default action reaches the first process of a PID namespace from within, but it can leave.
    monkeypatch.setattr(mounts, "build", lambda ops: os._exit(9))
    last = trial.attempt(user)[-1]
    assert (last.step, last.fault) == ("file system", "the process that tried it ended without a word")


def test_a_step_that_hangs_is_given_up(
    user: pwd.struct_passwd | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_DEADLINE_S", 0.5)
    monkeypatch.setattr(netns, "open_tun", lambda queues, mtu: signal.pause())
    last = trial.attempt(user)[-1]
    assert (last.step, last.fault) == ("tun device", "no end within 0.5 s")


def test_homes_that_are_overlays_are_tried_too(
    user: pwd.struct_passwd | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trial.overlay(user) == trial.Outcome("homes", "can be kept, and be overlays of one's own")
    mount = syscalls.mount

    def refuse(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
        if kind == "overlay":
            raise PermissionError(1, "Operation not permitted")
        mount(source, target, kind, flags, options)

    monkeypatch.setattr(syscalls, "mount", refuse)
    outcome = trial.overlay(user)
    assert "Operation not permitted" in outcome.fault
    assert "Linux 5.11" in outcome.advice
    (check,) = (each for each in doctor.examine() if each.name == "homes")
    assert (check.ok, check.needed) == (False, False)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"memory", "pids", "cpu"}, ""),
        ({"memory", "pids"}, "none with cpu can be made here"),
        (cgroup.NoGroup("nobody gives any"), "nobody gives any"),
    ],
)
def test_whether_a_sandbox_can_be_limited_as_a_whole_is_told_and_not_needed(
    given: set[str] | Exception, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def available() -> set[str]:
        if isinstance(given, Exception):
            raise given
        return given

    monkeypatch.setattr(cgroup, "available", available)
    (check,) = (each for each in doctor.examine() if each.name == "control groups")
    assert (check.ok, check.needed) == (not fault, False)
    if fault:
        assert check.detail == fault
        assert "Delegate=yes" in check.advice
    else:
        assert "can be limited" in check.detail
