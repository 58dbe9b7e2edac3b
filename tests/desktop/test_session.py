# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a session keeps its sockets, by its variables or without."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from torbox.desktop import session


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Path]:
    """A runtime directory with a socket of each kind."""
    (tmp_path / "pulse").mkdir()
    names = ("wayland-0", "wayland-7", "pipewire-0", "pulse/native", "bus", "other%bus")
    sockets = [socket.socket(socket.AF_UNIX) for _ in names]
    for each, name in zip(sockets, names, strict=True):
        each.bind(str(tmp_path / name))
    yield tmp_path
    for each in sockets:
        each.close()


def test_a_session_that_says_nothing_has_its_sockets_in_the_runtime_directory(runtime: Path) -> None:
    at = str(runtime)
    assert session.runtime_directory({"XDG_RUNTIME_DIR": at}) == at
    assert session.wayland({}, at) == f"{at}/wayland-0"
    assert session.pipewire({}, at) == f"{at}/pipewire-0"
    assert session.pulse({}, at) == f"{at}/pulse/native"
    assert session.bus({}, at) == f"{at}/bus"


def test_its_variables_go_before_that(runtime: Path, tmp_path: Path) -> None:
    at = str(runtime)
    assert session.wayland({"WAYLAND_DISPLAY": "wayland-7"}, at) == f"{at}/wayland-7"
    assert session.wayland({"WAYLAND_DISPLAY": f"{at}/wayland-7"}, "") == f"{at}/wayland-7"
    assert session.pulse({"PULSE_SERVER": f"{{id}}unix:{at}/bus tcp:other"}, at) == f"{at}/bus"
    address = f"tcp:host=x;unix:path={at}/other%25bus,guid=1"
    assert session.bus({"DBUS_SESSION_BUS_ADDRESS": address}, "") == f"{at}/other%bus"
    assert session.bus({"DBUS_SESSION_BUS_ADDRESS": "unix:abstract=/tmp/dbus-x,guid=1"}, "") == "@/tmp/dbus-x"


def test_what_is_not_there_or_no_socket_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "wayland-0").write_text("no socket")
    for found in (session.wayland, session.pipewire, session.pulse, session.bus):
        assert found({}, str(tmp_path)) == ""
        assert found({}, "") == ""


def test_a_runtime_directory_of_another_user_does_not_count() -> None:
    assert session.runtime_directory({"XDG_RUNTIME_DIR": "/nonexistent"}) in (
        "",
        session.runtime_directory({}),
    )
