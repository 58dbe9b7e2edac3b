# SPDX-License-Identifier: GPL-3.0-or-later
"""Limits held by the kernel's own control groups, where there are those of version 2 and root runs this."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_limits_inside import BOMB
from tests.support.directories import profile
from tests.support.people import Person
from torbox import cgroup

CONTROLLERS = {"memory", "pids", "cpu"}
MOUNTED = cgroup.mount_point()
HAS_THEM = MOUNTED is not None and set(Path(MOUNTED, "cgroup.controllers").read_text().split()) >= CONTROLLERS

pytestmark = pytest.mark.machine(
    os.geteuid() == 0 and HAS_THEM, "root, and control groups of version 2 with memory, pids and cpu"
)


@contextlib.contextmanager
def subtree(person: Person) -> Iterator[Path]:
    """A group given to this person, as systemd gives one to a user's session."""
    assert MOUNTED is not None
    top = Path(MOUNTED, f"torbox-test-{os.getpid()}")
    leaf = top / "leaf"
    enable = Path(MOUNTED, "cgroup.subtree_control")
    try:
        enable.write_text("+memory +pids +cpu")
        leaf.mkdir(parents=True)
        (top / "cgroup.subtree_control").write_text("+memory +pids +cpu")
        for path in (top, top / "cgroup.procs", leaf, leaf / "cgroup.procs"):
            os.chown(path, person.uid, person.uid)
        yield leaf
    finally:
        for path in (leaf, top):
            cgroup.Group(str(path)).close()  # the workers may take a moment to end
        assert not top.exists()


def in_group(person: Person, leaf: Path, text: str, script: str) -> subprocess.CompletedProcess[str]:
    """Torbox, started as one of the group's processes."""
    with profile(f'extends = "default"\n[limits]\n{text}\n') as path:
        command = person.command(
            "run", "-v", "--upstream", "block", "--profile", path, "--", "python3", "-c", script
        )
        enter = f'echo $$ > {leaf}/cgroup.procs && exec "$@"'
        return subprocess.run(
            ["sh", "-c", enter, "sh", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=dict(person.environment),
            cwd="/",
            timeout=60,
        )


def test_a_control_group_holds_a_fork_bomb(person: Person) -> None:
    with subtree(person) as leaf:
        done = in_group(person, leaf, "processes = 60", BOMB)
        assert "by the control group" in done.stderr
        assert 30 <= int(done.stdout) <= 60, done.stderr
        assert [each.name for each in leaf.parent.iterdir() if each.is_dir()] == ["leaf"]


def test_a_control_group_holds_all_processes_together_and_files_in_memory(person: Person) -> None:
    script = (
        "import os, signal\n"
        "def hog():\n"
        "    with open('/tmp/hog', 'ab', 0) as file:\n"
        "        for _ in range(100): file.write(bytes(1 << 20))\n"
        "    held = [bytearray(b'x' * (1 << 20)) for _ in range(300)]\n"
        "statuses = []\n"
        "for _ in range(2):\n"
        "    pid = os.fork()\n"
        "    if not pid: hog(); os._exit(0)\n"
        "    statuses.append(os.waitpid(pid, 0)[1])\n"
        "print(statuses)"
    )
    with subtree(person) as leaf:
        done = in_group(person, leaf, 'memory = "256M"', script)
    assert done.stdout == "[9, 9]\n", done.stderr  # the hog is killed, and nobody else


def test_a_control_group_holds_processor_time(person: Person) -> None:
    script = (
        "import time; end, before = time.monotonic() + 1, time.process_time()\n"
        "while time.monotonic() < end: pass\n"
        "print(time.process_time() - before < 0.5)\n"
        "print(open('/proc/self/cgroup').read())"
    )
    with subtree(person) as leaf:
        done = in_group(person, leaf, "cpu = 20", script)
    assert done.stdout.split() == ["True", "0::/"], done.stderr
