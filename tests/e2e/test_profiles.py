# SPDX-License-Identifier: GPL-3.0-or-later
"""Profiles as files: what is none is said so at once, and a new one is whole, the user's, and usable."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.directories import open_directory, profile
from tests.support.people import Person
from tests.test_bad_input import complaint

NO_PROFILES = [
    "directory",
    "pipe",
    "device",
    "large",
    "binary",
    "latin",
    "loop",
    "nested",
    "socket",
    "dangling",
]


@pytest.fixture
def no_profiles(person: Person) -> Iterator[Path]:
    """Files of every kind that is no profile, and profiles that extend each."""
    with open_directory() as directory:
        (directory / "directory.toml").mkdir()
        os.mkfifo(directory / "pipe.toml")
        (directory / "device.toml").symlink_to("/dev/zero")
        (directory / "large.toml").write_bytes(b"a = 1\n" * (10 << 20))
        (directory / "binary.toml").write_bytes(bytes(range(256)) * 100)
        (directory / "latin.toml").write_bytes(b"# caf\xe9\n")
        (directory / "loop.toml").symlink_to("loop.toml")
        (directory / "nested.toml").write_text("a = " + "[" * 500_000)
        (directory / "dangling.toml").symlink_to("nothing")
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(directory / "socket.toml"))
            for name in NO_PROFILES:
                (directory / f"of-{name}.toml").write_text(f'extends = "./{name}.toml"\n')
            yield directory


@pytest.mark.parametrize("name", NO_PROFILES)
def test_what_is_no_profile_is_said_so_soon_wherever_it_is_named(
    person: Person, no_profiles: Path, name: str
) -> None:
    for verb in (["run", "--dry-run", "--profile"], ["profile", "check"], ["profile", "show", "--resolved"]):
        for file in (f"{name}.toml", f"of-{name}.toml"):
            command = ["true"] if "run" in verb else []
            said = complaint(person.run(*verb, str(no_profiles / file), *command, timeout_s=10), 2)
            assert len(said.splitlines()) == 1
            assert f"{name}.toml" in said
    said = complaint(person.run("profile", "new", "mine", "--from", str(no_profiles / f"of-{name}.toml")), 2)
    assert f"{name}.toml" in said
    assert not (person.home / ".config" / "torbox").exists()


def test_a_new_profile_is_the_users_own_and_can_be_run(person: Person) -> None:
    try:
        done = person.run("profile", "new", "mine", "--from", "curl")
        assert (done.returncode, done.stderr) == (0, "")
        path = Path(done.stdout.removesuffix("\n"))
        assert path == person.home / ".config" / "torbox" / "profiles" / "mine.toml"
        for made in (path, *path.parents[:3]):
            assert made.stat().st_uid == person.uid
        assert person.run("profile", "check", str(path)).returncode == 0
        ran = person.run("run", "--profile", "mine", "--upstream", "block", "--", "cat", ".curlrc")
        assert (ran.returncode, ran.stdout) == (0, 'user-agent = "curl"\n')
        assert "is not overwritten" in complaint(person.run("profile", "new", "mine"), 2)
    finally:
        shutil.rmtree(person.home / ".config" / "torbox", ignore_errors=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a caller of sudo is looked at")
def test_under_sudo_profiles_are_those_of_the_caller_and_not_roots(everyone: Sequence[Person]) -> None:
    person = next(each for each in everyone if each.name == "root under sudo")
    with open_directory() as roots_home:
        environment = {"HOME": str(roots_home)}  # as sudo sets it
        try:
            made = person.run("profile", "new", "mine", environment=environment)
            assert made.stdout == f"{person.home}/.config/torbox/profiles/mine.toml\n", made.stderr
            assert "\nmine\t" in person.run("profile", "list", environment=environment).stdout
            for verb in ("show", "check"):
                assert person.run("profile", verb, "mine", environment=environment).returncode == 0
            assert os.listdir(roots_home) == []
        finally:
            shutil.rmtree(person.home / ".config" / "torbox", ignore_errors=True)


def test_of_many_who_make_one_profile_at_once_one_does(person: Person) -> None:
    command = person.command("profile", "new", "mine", "--from", "shell")
    try:
        racers = [
            subprocess.Popen(
                command, env=person.environment, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            for _ in range(4)
        ]
        for racer in racers:
            racer.communicate(timeout=30)
        assert sorted(racer.returncode for racer in racers) == [0, 2, 2, 2]
        own = person.home / ".config" / "torbox" / "profiles"
        assert os.listdir(own) == ["mine.toml"]
        assert own.joinpath("mine.toml").read_text().endswith("\n")
    finally:
        shutil.rmtree(person.home / ".config" / "torbox", ignore_errors=True)


def test_check_tells_what_is_wrong_here_beside_what_is_wrong_anywhere(person: Person) -> None:
    text = "[net]\nmtu = 12\nupstream = 'gopher://x'\n[mounts]\nread_only = [\n'/no/such/directory',\n]\n"
    with profile(text) as path:
        said = complaint(person.run("profile", "check", path), 2)
    assert [line.split(": ")[1:3] for line in said.splitlines() if "p.toml" in line] == [
        ["p.toml:2", "net.mtu"],
        ["p.toml:3", "net.upstream"],
        ["p.toml:6", "mounts.read_only"],
    ]
