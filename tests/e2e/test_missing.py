# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernels and containers that lack a protection: nothing starts unless the user says so, and it is told."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from tests.support.people import ROOT, Person
from torbox import syscalls

COLUMN = {"x86_64": 0, "aarch64": 1}[os.uname().machine]
KEYCTL = (250, 219)[COLUMN]
PRCTL = (157, 167)[COLUMN]
UNSHARE = (272, 97)[COLUMN]
LANDLOCK = 444
SET_SECCOMP, SET_SECUREBITS = 22, 28
STACKS_OWN = syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWNET
FAULTS = {
    "keyring": f"{KEYCTL}={errno.EPERM}",
    "landlock": f"{LANDLOCK}={errno.EPERM}",
    "seccomp": f"{PRCTL}:{SET_SECCOMP}={errno.EINVAL}",
    "securebits": f"{PRCTL}:{SET_SECUREBITS}={errno.EPERM}",
    "stack-namespaces": f"{UNSHARE}:{STACKS_OWN}={errno.EPERM}",
}


def run(person: Person, faults: list[str], *options: str) -> subprocess.CompletedProcess[str]:
    """Torbox where these system calls fail, with a program that outlives the stack's sealing."""
    environment = {**person.environment, "PYTHONPATH": f"{ROOT}:{person.environment['PYTHONPATH']}"}
    torbox = person.command("run", "--upstream", "block", *options, "--", "sh", "-c", "sleep 0.5; echo runs")
    command = [sys.executable, "-P", "-m", "tests.support.filters", *faults, "--", *torbox]
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment,
        cwd="/",
        timeout=60,
    )


@pytest.mark.parametrize("name", FAULTS)
def test_a_protection_that_cannot_be_applied_stops_the_start(person: Person, name: str) -> None:
    done = run(person, [FAULTS[name]])
    assert (done.returncode, done.stdout) == (125, "")
    assert f"--allow-missing {name}" in done.stderr


@pytest.mark.parametrize("name", FAULTS)
def test_allowed_to_be_missing_it_is_said_aloud_and_the_program_runs(person: Person, name: str) -> None:
    done = run(person, [FAULTS[name]], "-q", "--allow-missing", name)
    assert (done.returncode, done.stdout) == (0, "runs\n"), done.stderr
    assert done.stderr.startswith("torbox: WITHOUT")
    assert done.stderr.count("\n") == 1


def test_what_is_allowed_to_be_missing_and_is_there_is_applied_in_silence(person: Person) -> None:
    options = [option for name in FAULTS for option in ("--allow-missing", name)]
    done = run(person, [], *options)
    assert (done.returncode, done.stdout, done.stderr) == (0, "runs\n", "")


def test_a_kernel_without_landlock_or_keys_misses_nothing(person: Person) -> None:
    faults = [f"{LANDLOCK}={errno.ENOSYS}", f"{KEYCTL}={errno.ENOSYS}"]
    done = run(person, faults)
    assert (done.returncode, done.stdout, done.stderr) == (0, "runs\n", "")


def test_no_time_namespace_stops_the_start(person: Person) -> None:
    change = (
        "import os.path; there = os.path.exists\n"
        "os.path.exists = lambda path: path != '/proc/self/timens_offsets' and there(path)"
    )
    for options, code in (((), 125), (("--allow-missing", "time-namespace"), 0)):
        done = subprocess.run(
            person.altered(change, "run", "--upstream", "block", *options, "--", "true"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=dict(person.environment),
            cwd="/",
            timeout=60,
        )
        assert done.returncode == code
        assert "--allow-missing time-namespace" in done.stderr
        assert "no time namespace" in done.stderr


def test_verify_looks_at_a_sandbox_that_lacks_the_same(person: Person) -> None:
    environment = {**person.environment, "PYTHONPATH": f"{ROOT}:{person.environment['PYTHONPATH']}"}
    torbox = person.command("verify", "--upstream", "block", "--allow-missing", "securebits")
    command = [sys.executable, "-P", "-m", "tests.support.filters", FAULTS["securebits"], "--", *torbox]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment,
        cwd="/",
        timeout=90,
    )
    assert "held  " in done.stdout, done.stderr
    assert "WITHOUT user 0 without privileges" in done.stderr


def test_an_unknown_name_is_a_usage_error(person: Person) -> None:
    done = person.run("run", "--allow-missing", "namespaces", "true")
    assert done.returncode == 2
    assert "There are cpu-limit, keyring," in done.stderr
