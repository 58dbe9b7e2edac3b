# SPDX-License-Identifier: GPL-3.0-or-later
"""Where no Tor runs, torbox starts one: shared by its sandboxes, gone when none needs it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.people import Person
from tests.support.processes import descendants, wait_until_gone
from tests.tornet.network import TorNetwork
from torbox.upstream import discover


@pytest.fixture
def no_other_tor() -> None:
    found = discover.discover()
    if found is not None:
        pytest.skip(f"a Tor runs at {found}, so torbox would use that")


@pytest.fixture
def configured(person: Person, tornet: TorNetwork, no_other_tor: None) -> Iterator[Path]:
    """The person's torrc makes torbox's own tor a client of the private network."""
    settings = person.home / ".config"
    torrc = settings / "torbox" / "torrc"
    made = [each for each in (torrc.parent, settings) if not each.exists()]
    torrc.parent.mkdir(parents=True, exist_ok=True)
    assert not torrc.exists(), f"{torrc} is this user's own"
    torrc.write_text(tornet.membership)
    torrc.chmod(0o644)
    for directory in (torrc.parent, torrc.parent.parent):
        directory.chmod(0o755)
    before = keepers(person)
    try:
        yield torrc
    finally:
        torrc.unlink()
        for each in made:
            each.rmdir()
        # The keeper lets tor linger for the next run; this test's user has no next run.
        started = keepers(person) - before
        everything = started.union(*(descendants(pid) for pid in started))
        for pid in started:
            os.kill(pid, signal.SIGTERM)
        wait_until_gone(everything)


def keepers(person: Person) -> set[int]:
    """The keepers of torbox's own tor that run as this person."""
    found = set()
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (directory / "cmdline").read_bytes().split(b"\0")
            if directory.stat().st_uid == person.uid and b"torbox.tor.keeper" in words:
                found.add(int(directory.name))
    return found


def test_without_any_tor_one_is_started_and_shared(
    person: Person, tornet: TorNetwork, configured: Path
) -> None:
    first = subprocess.Popen(
        person.command("run", "--", "sh", "-c", "curl -sS $0 && read line", tornet.site_url),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(person.environment),
        cwd="/",
        text=True,
    )
    assert first.stdout is not None
    assert any("This page came through Tor" in line for line in first.stdout)
    second = person.run("run", "-q", "--", "curl", "-sS", tornet.site_url)
    assert "This page came through Tor" in second.stdout
    assert second.stderr == ""
    _, said = first.communicate("\n", timeout=30)
    assert said == "torbox: starting Tor …\n"


def test_when_torboxs_own_tor_is_killed_the_user_is_told(
    person: Person, tornet: TorNetwork, configured: Path
) -> None:
    process = subprocess.Popen(
        person.command("run", "-q", "--", "sh", "-c", "echo up; read line"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(person.environment),
        cwd="/",
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "up\n"
    for keeper in keepers(person):
        os.kill(keeper, signal.SIGKILL)
    assert "has ended: nothing leaves" in process.stderr.readline()
    process.communicate("\n", timeout=20)
    assert process.returncode == 0
