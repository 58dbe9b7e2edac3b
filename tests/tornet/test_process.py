# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of the network end with their starter, and say why when they fail."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tornet.process import Process, TornetError, find_program, wait_until

STARTER = """
import os, sys, time
from pathlib import Path
from tests.tornet.process import Process
print(Process("sleep", ["sleep", "1000"], Path(sys.argv[1])).pid, flush=True)
sys.stdin.read()
"""


def test_a_program_dies_with_its_starter(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", STARTER, str(tmp_path / "log")]
    starter = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        program = os.pidfd_open(pid)
        # Until it is itself it is setpriv, which may not have asked for its end yet.
        wait_until(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n", "sleep", 10)
        starter.kill()
    assert select.select([program], [], [], 10)[0] == [program]
    os.close(program)


def test_a_failure_shows_the_end_of_the_log(tmp_path: Path) -> None:
    process = Process(
        "the complainer", ["sh", "-c", "echo cannot do this; exit 3"], tmp_path / "complainer.log"
    )
    with pytest.raises(TornetError, match=r"the complainer failed with exit code 3\n +.*: cannot do this"):
        process.finish(10)


def test_a_process_that_dies_ends_the_waiting_for_it(tmp_path: Path) -> None:
    process = Process("the early bird", ["sh", "-c", "echo gone"], tmp_path / "bird.log")
    with pytest.raises(TornetError, match="the early bird died while waiting for worms"):
        wait_until(lambda: False, "worms", 10, [process])


def test_a_deadline_ends_the_waiting() -> None:
    with pytest.raises(TornetError, match=r"no worms within 0\.05 s"):
        wait_until(lambda: False, "worms", 0.05)


def test_a_missing_program_comes_with_its_package() -> None:
    with pytest.raises(TornetError, match="sudo apt-get install no-such-package"):
        find_program("no-such-program", "no-such-package")
