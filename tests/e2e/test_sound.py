# SPDX-License-Identifier: GPL-3.0-or-later
"""Sound, with a server that has the modules of a desktop: they act upon what a stream says of itself."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_desktop import Session, needs
from tests.support.people import Person

MODULES = (  # of those that Debian's default.pa loads, all that act upon streams
    "null-sink sink_name=speakers", "device-restore", "stream-restore", "augment-properties",
    "native-protocol-unix", "default-device-restore", "always-sink", "intended-roles", "suspend-on-idle",
    "position-event-sounds", "role-cork", "filter-heuristics", "filter-apply",
)  # fmt: skip
# Of a library that is not there; the server says that it has tried.
FILTER = (
    "--property=filter.apply=ladspa-sink",
    "--property=filter.apply.ladspa-sink.parameters=plugin=/nowhere/evil.so label=x",
)


@pytest.fixture
def session(person: Person) -> Iterator[Session]:
    """With a sound server, whose log is `log` in the runtime directory."""
    with tempfile.TemporaryDirectory(prefix="torbox-session-") as directory:
        if os.geteuid() == 0:
            os.chown(directory, person.uid, person.uid)
        with Session(person, Path(directory)) as found:
            loaded = [word for module in MODULES for word in ("-L", f"module-{module}")]
            logged = ("--log-level=info", f"--log-target=file:{directory}/log")
            server = ("pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", *logged, *loaded)
            found.environment |= {"HOME": directory, "PULSE_COOKIE": f"{directory}/cookie"}
            found.serve("pulse/native", *server)
            found.environment["PULSE_SERVER"] = f"unix:{directory}/pulse/native"
            yield found


def outside(session: Session, *words: str) -> str:
    done = subprocess.run(
        session.command(*words), env=session.environment, cwd="/", capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def eventually(session: Session, text: str) -> None:
    """Until the server has logged it: modules act when they come to it."""
    end = time.monotonic() + 20
    while text not in (session.runtime / "log").read_text():
        assert time.monotonic() < end, f"the server has not said: {text}"
        time.sleep(0.02)


PLAY = "head -c 100000 /dev/zero > sound; {} && echo played"


@needs("pulseaudio", "pactl", "paplay")
def test_properties_of_a_stream_make_the_server_load_nothing(session: Session) -> None:
    evil = " ".join(f"'{word}'" for word in ("paplay", "--raw", "--client-name=Firefox", *FILTER, "sound"))
    seen = session.run('sound = "play"', "sh", "-c", PLAY.format(evil))
    assert "played" in seen.stdout, seen.stderr
    eventually(session, 'application.name = "torbox"')
    eventually(session, "Freeing input")  # and what was to be done of it is done
    log = (session.runtime / "log").read_text()
    assert "ladspa" not in log
    assert "Firefox" not in log
    sound = session.runtime / "sound"
    sound.write_bytes(bytes(100000))
    sound.chmod(0o644)
    outside(session, "paplay", "--raw", *FILTER, str(sound))
    eventually(session, "Unable to load module-ladspa-sink")  # so it does, for others


@needs("pulseaudio", "pactl", "paplay")
def test_who_plays_decides_neither_where_nor_how_loud_nor_how_loud_others_are(session: Session) -> None:
    outside(session, "pactl", "load-module", "module-null-sink", "sink_name=tunnel")
    outside(session, "pactl", "set-default-sink", "speakers")
    play = "paplay --raw --volume=300000 --device=tunnel --client-name=Firefox --stream-name=Call sound"
    seen = session.run('sound = "play"', "sh", "-c", PLAY.format(play))
    assert "played" in seen.stdout, seen.stderr
    eventually(session, "Freeing input")
    log = (session.runtime / "log").read_text()
    assert "on speakers" in log
    assert "on tunnel" not in log
    assert "sink-input-by-application-name:torbox" in log
    assert "by-application-name:Firefox" not in log
    assert "Call" not in log
