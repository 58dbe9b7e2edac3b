# SPDX-License-Identifier: GPL-3.0-or-later
"""What a program can do with what is shared, tried by the program, and what the next one gets of it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.directories import profile
from tests.support.people import Person


@pytest.fixture
def work(person: Person) -> Iterator[Path]:
    """A directory in this person's home, theirs."""
    path = person.home / f"torbox-test-{os.getpid()}"
    path.mkdir()
    own(person, path)
    yield path
    shutil.rmtree(path)


def own(person: Person, *paths: Path) -> None:
    for path in paths:
        os.chown(path, person.uid, -1)


def run(person: Person, text: str, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a shell's script with this profile."""
    with profile(text) as path:
        arguments = ("run", "--upstream", "block", "--profile", path, "--", "sh", "-c", script)
        return person.run(*arguments, environment=environment)


def test_a_symlink_left_in_a_share_opens_nothing_to_the_next_program(person: Person, work: Path) -> None:
    (work / "out").mkdir()
    own(person, work / "out")
    name = work.name
    left = f"cd ~/{name} && rmdir out && ln -s / out"
    assert run(person, f"mounts.read_write = ['~/{name}']", left).returncode == 0
    assert (work / "out").is_symlink()
    done = run(person, f"mounts.read_write = ['~/{name}/out']", f"ls ~/{name}/out")
    assert done.returncode == 2
    assert done.stdout == ""
    assert (
        f"p.toml:1: mounts.read_write: '~/{name}/out' leads through the symlink '{work}/out'" in done.stderr
    )


def test_read_only_below_read_write_is_read_only_and_stays_where_it_is(person: Person, work: Path) -> None:
    (work / "a" / ".git").mkdir(parents=True)
    (work / "a" / ".git" / "config").write_text("old")
    own(person, work / "a", work / "a" / ".git", work / "a" / ".git" / "config")
    name = work.name
    renames = (
        "import os, sys\nfor name in sys.argv[1:]:\n try: os.rename(name, 'moved')\n except OSError: pass"
    )
    script = (
        f"cd ~/{name}; touch new a/new; echo evil > a/.git/config; rm -r a/.git; "
        f'python3 -c "{renames}" a/.git a; cat a/.git/config; echo; ls -A'
    )
    text = f"mounts = {{ read_only = ['~/{name}/a/.git'], read_write = ['~/{name}'] }}"
    done = run(person, text, script)
    assert done.stdout.split() == ["old", "a", "new"]
    assert sorted(os.listdir(work / "a")) == [".git", "new"]
    assert (work / "a" / ".git" / "config").read_text() == "old"


def test_nothing_is_made_in_what_is_shared(person: Person, work: Path) -> None:
    (work / "in").mkdir()
    own(person, work / "in")
    text = f"mounts = {{ read_only = ['~/{work.name}/in'], read_write = ['~/{work.name}'] }}"
    assert run(person, text, "true").returncode == 0
    assert os.listdir(work) == ["in"]


def test_a_file_of_the_hosts_can_take_the_place_of_the_sandboxs_time_zone(person: Person) -> None:
    script = "test ! -L /etc/localtime && cmp /etc/localtime /usr/share/zoneinfo/UTC && echo same"
    done = run(person, "mounts.read_only = ['/etc/localtime']", script)
    host = Path("/etc/localtime").read_bytes() == Path("/usr/share/zoneinfo/UTC").read_bytes()
    assert "File exists" not in done.stderr
    assert (done.stdout == "same\n") == host


def test_a_socket_of_var_run_is_where_it_was_asked_for(person: Person) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: a socket is made in /run")
    path = f"/run/torbox-test-{os.getpid()}.socket"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        try:
            script = f"test -S /var{path} && test -S {path} && echo there"
            done = run(person, f"mounts.read_only = ['/var{path}']", script)
            assert done.stdout == "there\n", done.stderr
        finally:
            os.unlink(path)


def test_a_socket_in_opt_is_not_there_unless_it_is_shared(person: Person) -> None:
    done = run(person, "", "test -e /opt && echo there")
    assert done.stdout == ""


def test_torboxs_own_settings_cannot_be_shared(person: Person, work: Path) -> None:
    (work / "torbox").mkdir()
    own(person, work / "torbox")
    done = run(person, f"mounts.read_write = ['{work}']", "true", XDG_CONFIG_HOME=str(work))
    # Root under sudo takes nothing of its caller's directories: there the share is an ordinary one.
    expected = 0 if person.name == "root under sudo" else 2
    assert done.returncode == expected, done.stderr
    assert ("directory of torbox's own" in done.stderr) == bool(expected)


def test_a_file_of_the_home_is_whole_or_nothing_starts(person: Person) -> None:
    text = "[home.files]\nuser = '''" + "x" * 4000 + "'''\n"
    with profile(text) as path:
        command = person.command("run", "--upstream", "block", "--profile", path, "--", "cat", "user")
        done = subprocess.run(
            ["bash", "-c", 'ulimit -f 1; exec "$@"', "bash", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=dict(person.environment),
            cwd="/",
            timeout=60,
        )
    assert done.returncode == 125
    assert done.stdout == ""
    assert "/home/user/user: File too large" in done.stderr
