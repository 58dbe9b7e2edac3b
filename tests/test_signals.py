# SPDX-License-Identifier: GPL-3.0-or-later
"""Signals reach the program, its end reaches the caller, and nothing outlives torbox."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE_S
from tests.support.people import Person
from tests.support.processes import descendants, wait_until_gone

ANNOUNCE = r"""
import os, signal, time
def say(number, frame):
    os.write(1, signal.Signals(number).name.encode() + b"\n")  # print may be at work already
for each in (1, 2, 3, 10, 12, 15):
    signal.signal(each, say)
print("STARTED", flush=True)
while True:
    time.sleep(0.05)
"""


@contextmanager
def running(person: Person, *command: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        person.command("run", "-q", "--upstream", "block", "--", *command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=person.environment,
        cwd="/",
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process.stdout:
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("number", ["SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGTERM"])
def test_a_signal_to_torbox_reaches_the_program(person: Person, number: str) -> None:
    with running(person, "python3", "-c", ANNOUNCE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "STARTED\n"
        process.send_signal(signal.Signals[number])
        assert process.stdout.readline() == f"{number}\n"


def test_a_program_killed_by_a_signal_gives_128_and_the_signal(person: Person) -> None:
    assert person.run("run", "--upstream", "block", "sh", "-c", "kill -9 $$").returncode == 137
    assert person.run("run", "--upstream", "block", "sh", "-c", "kill -TERM $$").returncode == 143


def test_who_waits_for_torbox_sees_that_the_program_was_interrupted(person: Person) -> None:
    """So a shell's loop ends with it. One that exits by itself is taken at its word."""
    run = ("run", "--upstream", "block", "sh", "-c")
    assert person.run(*run, "kill -INT $$").returncode == -signal.SIGINT
    assert person.run(*run, "exit 130").returncode == 130
    with running(person, "sh", "-c", "echo STARTED; exec sleep 1000") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == -signal.SIGINT


def test_kill_9_on_torbox_ends_every_process_of_the_sandbox(person: Person) -> None:
    with running(person, "sh", "-c", "sleep 1000 & setsid sleep 1000 & echo STARTED; wait") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "STARTED\n"
        inside = descendants(process.pid)
        assert len(inside) >= 6  # namespaces' holder, init, worker, sh, two sleeps
        process.kill()
        process.wait()
        wait_until_gone(inside)


def test_background_processes_end_with_the_program(person: Person) -> None:
    done = person.run("run", "--upstream", "block", "sh", "-c", "setsid sleep 4321 & exit 3")
    assert done.returncode == 3
    commands = [
        path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK)
    ]
    assert b"sleep\x004321\x00" not in commands


def test_when_the_worker_dies_the_program_is_ended_and_torbox_says_so(person: Person) -> None:
    process = subprocess.Popen(
        person.command("run", "--upstream", "block", "--", "sh", "-c", "echo STARTED; exec sleep 1000"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=person.environment,
        cwd="/",
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "STARTED\n"
        inside = descendants(process.pid)
        worker = max(
            pid for pid in inside if Path(f"/proc/{pid}/stat").read_text().split()[3] == str(process.pid)
        )
        os.kill(worker, signal.SIGKILL)
        _, errors = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == 125
    assert "torbox: run the network" in errors
    wait_until_gone(inside)


def test_a_run_leaves_no_process_behind(person: Person) -> None:
    with running(person, "sh", "-c", "echo STARTED; read line") as process:
        assert process.stdout is not None
        process.stdout.readline()
        inside = descendants(process.pid)
        process.wait(timeout=20)
        wait_until_gone(inside)


def run_altered(person: Person, change: str) -> subprocess.CompletedProcess[str]:
    """`echo it ran` by a torbox in which `change` has been executed first."""
    return subprocess.run(
        person.altered(change, "run", "--upstream", "block", "--", "echo", "it ran"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=person.environment,
        cwd="/",
        text=True,
        timeout=20,
    )


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM])
def test_a_signal_that_asks_for_the_end_ends_what_is_still_being_built(
    person: Person, number: signal.Signals
) -> None:
    """Not even a stack that never gets ready keeps torbox from it."""
    change = f"""
import os, signal, threading
from torbox.network import Workers
def start(workers, tun):
    os.kill(os.getpid(), {int(number)})
    while True:
        signal.pause()
Workers.start = start
"""
    done = run_altered(person, change)
    assert (done.returncode, done.stdout, done.stderr) == (-number, "", "")


def test_a_program_that_ends_before_it_could_be_one_and_cannot_say_why_gives_125(person: Person) -> None:
    change = """
import torbox.handshake, torbox.seccomp
def fail(*arguments, **others):
    raise MemoryError
def install():
    torbox.handshake.send = fail
    fail()
torbox.seccomp.install = install
"""
    done = run_altered(person, change)
    assert (done.returncode, done.stdout) == (125, "")
