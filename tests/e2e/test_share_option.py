# SPDX-License-Identifier: GPL-3.0-or-later
"""`--share` as its user sees it: where the program starts, what it may write, and what is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.people import Person


@pytest.fixture
def work(person: Person) -> Iterator[Path]:
    """A directory in this person's home with a file in it, theirs."""
    path = person.home / f"torbox-test-{os.getpid()}"
    path.mkdir()
    (path / "file").write_text("old\n")
    for each in (path, path / "file"):
        os.chown(each, person.uid, -1)
    yield path
    shutil.rmtree(path)


def run(person: Person, directory: Path | str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        person.command("run", "--upstream", "block", *arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=dict(person.environment),
        cwd=directory,
        timeout=60,
    )


def test_the_current_directory_can_be_shared_and_is_where_the_program_starts(
    person: Person, work: Path
) -> None:
    done = run(person, work, "--share", ".", "--", "sh", "-c", "pwd; cat file; echo new > file")
    assert done.stdout == f"/home/user/{work.name}\nold\n", done.stderr
    assert (work / "file").read_text() == "new\n"
    assert (work / "file").stat().st_uid == person.uid


def test_read_only_it_cannot_be_written(person: Person, work: Path) -> None:
    done = run(person, work, "--share", ".:ro", "--", "sh", "-c", "pwd; echo new > file")
    assert done.stdout == f"/home/user/{work.name}\n"
    assert done.returncode != 0
    assert (work / "file").read_text() == "old\n"


def test_names_relative_to_the_current_directory_mean_the_same_inside(person: Person, work: Path) -> None:
    done = run(person, work, "--share", "file", "--", "sh", "-c", "pwd; cat file; ls -A; echo new > file")
    assert done.stdout == f"/home/user/{work.name}\nold\nfile\n", done.stderr
    assert (work / "file").read_text() == "new\n"


def test_without_it_nothing_of_the_current_directory_is_there(person: Person, work: Path) -> None:
    assert run(person, work, "--", "sh", "-c", "pwd; ls -A").stdout == "/home/user\n"


@pytest.mark.parametrize("path", ["/", "/proc", "/run", "/dev", "/sys", "/etc", "/no/such", ""])
def test_what_is_never_shared_is_refused_in_one_message(person: Person, path: str) -> None:
    done = run(person, "/", f"--share={path}", "--", "true")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("torbox: --share: ")


def test_nor_is_a_directory_without_a_place_left(person: Person) -> None:
    script = 'd=$(mktemp -d) && cd "$d" && rmdir "$d" && exec "$@"'
    command = person.command("run", "--upstream", "block", "--share", ".", "--", "true")
    done = subprocess.run(
        ["sh", "-c", script, "sh", *command],
        capture_output=True,
        text=True,
        env=dict(person.environment),
        timeout=60,
    )
    assert done.returncode == 2
    assert "the current directory, which is not there any more" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_path_that_the_shell_has_written_in_full_is_told_with_its_name_inside(
    person: Person, work: Path
) -> None:
    done = run(person, "/", "--share", f"{work}/file:ro", "--", "cat", f"{work}/file")
    if str(person.home) == "/home/user":
        pytest.skip("this user's home has the name that it has inside")
    assert f"torbox: warning: '{work}/file' is '/home/user/{work.name}/file' inside\n" in done.stderr
    assert done.returncode == 1


def test_a_program_that_is_shared_but_not_by_that_name_or_cannot_be_interpreted(
    person: Person, work: Path
) -> None:
    (work / "s.sh").write_text("#!/bin/no-such-shell\n")
    (work / "s.sh").chmod(0o755)
    done = run(person, work, "--share", ".", f"{work}/s.sh")
    assert done.returncode == 127
    assert f"torbox: It is '/home/user/{work.name}/s.sh' inside.\n" in done.stderr
    done = run(person, work, "--share", ".", "./s.sh")
    assert done.returncode == 127
    assert "its interpreter '/bin/no-such-shell' is not.\n" in done.stderr
