# SPDX-License-Identifier: GPL-3.0-or-later
"""Real windows of real browsers on a real X server: they are typed into, and kept apart."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support import display
from tests.support.display import Display
from tests.support.people import Person
from tests.tornet.network import TorNetwork
from torbox.profiles import load

pytestmark = pytest.mark.skipif(bool(display.missing()), reason=f"needs {display.missing()}")
TITLE = "torbox test site"


@pytest.fixture
def screen(person: Person) -> Iterator[Display]:
    with display.display(person.uid) as found:
        yield found


def as_user(person: Person) -> tuple[str, ...]:
    """What makes a program one of this person's, outside of any sandbox."""
    if os.geteuid() != 0:
        return ()
    return ("setpriv", f"--reuid={person.uid}", f"--regid={person.uid}", "--clear-groups", "--")


@contextlib.contextmanager
def started(command: list[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A program in the background; it is told to end with the block."""
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    program = subprocess.Popen(command, env=dict(environment), cwd="/", start_new_session=True, **quiet)
    try:
        yield program
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGTERM)
        program.wait(20)


@contextlib.contextmanager
def firefox_outside(person: Person, screen: Display, home: Path) -> Iterator[None]:
    """The same user's Firefox, on the same display, with a profile of the same name; without a network."""
    profile = load.load("browser", {}, Path("/nonexistent"))
    for name, text in profile.home.files.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", str(person.uid), str(home)], check=True)
    alone = ["unshare", "--user", "--map-current-user", "--net", "--pid", "--fork", "--kill-child"]
    environment = {**person.environment, **profile.env.variables, **screen.environment, "HOME": str(home)}
    with started([*as_user(person), *alone, "firefox-esr", "about:blank"], environment):
        outside = screen.wait_for("Mozilla Firefox")
        yield
        assert screen.windows("Mozilla Firefox") == [outside]


@pytest.mark.skipif(shutil.which("firefox-esr") is None, reason="needs firefox-esr")
def test_firefox_opens_a_window_that_the_one_outside_does_not_swallow(
    person: Person, tornet: TorNetwork, screen: Display
) -> None:
    upstream = "tor://{}:{}".format(*tornet.socks_address)
    run = person.command(
        "run", "--profile", "browser", "--upstream", upstream, "firefox-esr", tornet.site_url
    )
    before = len(tornet.site_visits())
    home = person.home / "outside"
    try:
        with firefox_outside(person, screen, home):
            with started(run, {**person.environment, **screen.environment}):
                window = screen.wait_for(TITLE)
                screen.visit(window, f"{tornet.site_url}typed", "Error response")
            screen.wait_until_gone("Error response")
    finally:
        shutil.rmtree(home, ignore_errors=True)
    visits = tornet.site_visits()[before:]
    assert {visit.split()[1] for visit in visits} <= set(tornet.exits)
    assert any('"GET /typed ' in visit for visit in visits)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_chromium_opens_a_window_and_is_clicked_on(
    person: Person, tornet: TorNetwork, screen: Display
) -> None:
    upstream = "tor://{}:{}".format(*tornet.socks_address)
    run = person.command("run", "--profile", "chromium", "--upstream", upstream, "chromium", tornet.site_url)
    before = len(tornet.site_visits())
    with started(run, {**person.environment, **screen.environment}):
        window = screen.wait_for(TITLE)
        deadline = time.monotonic() + 60
        while sum('"GET / ' in visit for visit in tornet.site_visits()[before:]) < 2:
            assert time.monotonic() < deadline
            screen.click(window, 104 - 10, 72 - 10)  # the round arrow
            screen.tool("xdotool", "sleep", "1")
    screen.wait_until_gone("Chromium")
    assert {visit.split()[1] for visit in tornet.site_visits()[before:]} <= set(tornet.exits)
