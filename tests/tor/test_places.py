# SPDX-License-Identifier: GPL-3.0-or-later
"""Where torbox's own tor lives: by the XDG variables, private, and with paths that sockets can have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from torbox.errors import UpstreamError
from torbox.tor.places import Places, user_torrc


def test_the_xdg_directories_are_used(tmp_path: Path) -> None:
    environ = {"HOME": "/home/a", "XDG_STATE_HOME": "/state", "XDG_RUNTIME_DIR": str(tmp_path)}
    assert Places.of(environ) == Places(Path("/state/torbox/tor"), tmp_path / "torbox")


def test_without_them_it_is_the_home(tmp_path: Path) -> None:
    state = Path("/home/a/.local/state/torbox/tor")
    assert Places.of({"HOME": "/home/a"}) == Places(state, state / "run")
    assert Places.of({"HOME": "/home/a", "XDG_STATE_HOME": "relative"}) == Places(state, state / "run")


def test_a_runtime_directory_that_is_not_ours_is_not_used(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    for runtime in (gone, str(link), "/proc/1/task" if os.getuid() else "/proc/self/fd/0"):
        assert Places.of({"HOME": "/home/a", "XDG_RUNTIME_DIR": runtime}).run.is_relative_to("/home/a")


def test_directories_are_made_private_and_mended(tmp_path: Path) -> None:
    places = Places(tmp_path / "state", tmp_path / "run")
    places.run.mkdir(mode=0o755)
    places.prepare()
    assert [path.stat().st_mode & 0o777 for path in places] == [0o700, 0o700]


def test_a_symlink_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "real")
    with pytest.raises(UpstreamError, match="run is not a directory of yours"):
        Places(tmp_path / "state", tmp_path / "run").prepare()


def test_a_path_too_long_for_a_socket_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    places = Places(tmp_path / ("long" * 30), tmp_path / ("long" * 30) / "run")
    with pytest.raises(UpstreamError, match="too many for a Unix socket's path") as caught:
        Places(tmp_path / "state", places.run).prepare()
    assert "XDG_RUNTIME_DIR" in caught.value.advice
    assert not places.run.exists()


def test_what_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UpstreamError, match=r"file/state: Not a directory"):
        Places(tmp_path / "file" / "state", tmp_path / "run").prepare()


def test_the_users_torrc_is_used_if_there_is_one(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    assert user_torrc(environ) is None
    torrc = tmp_path / ".config" / "torbox" / "torrc"
    torrc.parent.mkdir(parents=True)
    torrc.touch()
    assert user_torrc(environ) == torrc
