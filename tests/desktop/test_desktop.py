# SPDX-License-Identifier: GPL-3.0-or-later
"""What a profile's table [desktop] becomes: a value that is found, and what is opened and closed for it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from torbox import desktop, plan
from torbox.desktop import Shared, bus
from torbox.mounts import Bind, ReadOnly
from torbox.profiles import load


@pytest.fixture
def session(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A session's variables, and sockets in its runtime directory."""
    (tmp_path / "pulse").mkdir()
    names = ("wayland-0", "pipewire-0", "pulse/native", "bus")
    sockets = [socket.socket(socket.AF_UNIX) for _ in names]
    for each, name in zip(sockets, names, strict=True):
        each.bind(str(tmp_path / name))
    yield {"XDG_RUNTIME_DIR": str(tmp_path)}
    for each in sockets:
        each.close()


def found(text: str, environ: Mapping[str, str]) -> Shared:
    shared = desktop.find(load.loads(f"[desktop]\n{text}").desktop, environ, "/home/caller")
    assert shared is not None
    return shared


def targets(shared: Shared) -> dict[str, str]:
    return {op.target: op.source for op in shared.mounts if isinstance(op, Bind)}


def test_a_profile_that_wants_nothing_gets_nothing(session: dict[str, str]) -> None:
    assert desktop.find(load.loads("").desktop, session, "/home/caller") is None


def test_each_socket_has_a_place_inside_and_a_variable(session: dict[str, str]) -> None:
    shared = found(
        'wayland = true\npipewire = true\nsound = "play"\ndbus_talk = ["org.example.App"]', session
    )
    at = session["XDG_RUNTIME_DIR"]
    assert targets(shared) == {
        "/run/user/1000/wayland-0": f"{at}/wayland-0",
        "/run/user/1000/pulse/native": f"{shared.directory}/pulse",
        "/run/user/1000/pipewire-0": f"{at}/pipewire-0",
        "/run/user/1000/bus": f"{shared.directory}/bus",
    }
    assert shared.environment == {
        "XDG_RUNTIME_DIR": "/run/user/1000",
        "WAYLAND_DISPLAY": "wayland-0",
        "XDG_SESSION_TYPE": "wayland",
        "PULSE_SERVER": "unix:/run/user/1000/pulse/native",
        "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/user/1000/bus",
    }
    assert shared.bus_options == ("--talk=org.example.App",)
    assert [key for key, _ in shared.exposes] == ["wayland", "sound", "pipewire", "dbus"]
    assert "org.example.App" in shared.exposes[-1][1]
    assert [line.partition(":")[0] for line in shared.lines()] == [
        f"desktop.{key}" for key in ("wayland", "sound", "pipewire", "dbus")
    ]
    assert [warning.split()[0] for warning in shared.warnings] == ["PipeWire,"]


def test_neither_the_sound_server_nor_the_bus_is_there_itself(session: dict[str, str]) -> None:
    shared = found('sound = "record"\ndbus_own = ["org.example.App"]', session)
    at = session["XDG_RUNTIME_DIR"]
    assert not {f"{at}/pulse/native", f"{at}/bus"} & set(targets(shared).values())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('x11 = "untrusted"', ["desktop.x11"]),
        ("wayland = true", ["desktop.wayland"]),
        ('wayland = true\nx11 = "untrusted"', ["desktop.wayland", "desktop.x11"]),
        ('sound = "play"\ngpu = true', []),
    ],
)
def test_no_display_where_one_is_wanted_is_told_each_time(tmp_path: Path, text: str, why: list[str]) -> None:
    warnings = found(text, {"XDG_RUNTIME_DIR": str(tmp_path)}).warnings
    assert len(warnings) == bool(why)
    for warning in warnings:
        assert warning.startswith("no window can be opened: ")
        assert [part.split()[0] for part in warning.split(": ", 1)[1].split("; ")] == why


def test_and_is_not_where_there_is_one_by_either_way(session: dict[str, str]) -> None:
    assert found('wayland = true\nx11 = "untrusted"', {**session, "DISPLAY": ""}).warnings == ()


def test_what_is_not_there_is_left_out_and_told(tmp_path: Path) -> None:
    text = 'wayland = true\nx11 = "trusted"\nsound = "play"\npipewire = true\ndbus_talk = ["org.example.App"]'
    shared = found(text, {"XDG_RUNTIME_DIR": str(tmp_path), "DISPLAY": "elsewhere:0"})
    assert targets(shared) == {}
    assert [note.split()[0] for note in shared.notes] == [
        f"desktop.{key}" for key in ("wayland", "x11", "sound", "pipewire", "dbus")
    ]
    assert shared.exposes == ()
    with desktop.opened(shared) as opened:
        assert opened.watched is None


def test_a_program_with_wayland_has_no_untrusted_x11_besides(session: dict[str, str]) -> None:
    shared = found('wayland = true\nx11 = "untrusted"', {**session, "DISPLAY": ":0"})
    assert shared.display == ""
    assert shared.notes == ("desktop.x11 is left out: the program has Wayland",)


def test_the_plan_has_the_sockets_after_all_else_and_the_variables_before_the_profiles(
    session: dict[str, str],
) -> None:
    profile = load.loads('[desktop]\nwayland = true\n[env.set]\nWAYLAND_DISPLAY = "mine"')
    made = plan.make(profile, command=("x",), upstream="block", environ=session, home="/home/caller")
    assert isinstance(made.mounts[-1], Bind)
    assert made.mounts[-1].target == "/run/user/1000/wayland-0"
    assert made.environment["WAYLAND_DISPLAY"] == "mine"


def test_devices_go_in_before_dev_is_read_only(session: dict[str, str]) -> None:
    shared = found("wayland = true", session)
    device = Bind("/dev/null", "/dev/dri/renderD128", device=True)
    from dataclasses import replace

    laid = replace(shared, devices=(device,)).lay([Bind("/usr", "/usr"), ReadOnly("/dev")])
    assert laid.index(device) < laid.index(ReadOnly("/dev"))


def test_what_is_made_for_a_sandbox_is_this_users_alone_and_goes_with_it(session: dict[str, str]) -> None:
    shared = found('sound = "play"', session)
    with desktop.opened(shared) as opened:
        assert os.stat(shared.directory).st_mode & 0o777 == 0o700
        assert os.listdir(shared.directory) == ["pulse"]
        assert opened.watched is not None
        opened.take_away_names()
        assert not os.path.exists(shared.directory)
    with desktop.opened(shared):
        pass
    assert not os.path.exists(shared.directory)


@pytest.mark.skipif(not shutil.which("dbus-daemon") or not shutil.which(bus.PROXY), reason="needs a bus")
def test_the_bus_is_there_for_every_client_after_its_names_are_gone(
    session: dict[str, str], tmp_path: Path
) -> None:
    address = f"unix:path={tmp_path}/real-bus"
    command = [
        "dbus-daemon",
        "--session",
        "--nofork",
        "--nopidfile",
        f"--address={address}",
        "--print-address=1",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        daemon.stdout.readline()
        shared = found('dbus_talk = ["org.example.A"]', {**session, "DBUS_SESSION_BUS_ADDRESS": address})
        with desktop.opened(shared) as opened:
            os.link(f"{shared.directory}/bus", tmp_path / "inside")  # as a mount keeps it
            opened.take_away_names()
            for _ in range(2):
                asked = ["dbus-send", f"--bus=unix:path={tmp_path}/inside", "--print-reply"]
                asked += ["--dest=org.freedesktop.DBus", "/", "org.freedesktop.DBus.ListNames"]
                done = subprocess.run(asked, capture_output=True, text=True, timeout=20)
                assert "org.freedesktop.DBus" in done.stdout, done.stderr
        assert not os.path.exists(shared.directory)
        daemon.terminate()
