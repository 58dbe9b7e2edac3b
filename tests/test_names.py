# SPDX-License-Identifier: GPL-3.0-or-later
"""A name is held by one sandbox, and let go however that ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from torbox import names
from torbox.errors import InUseError, SetupError, UsageError


def test_a_name_is_held_once_and_free_again_afterwards(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    with names.claim("work", environ, "/nowhere"):
        with pytest.raises(InUseError, match="is running"), names.claim("work", environ, "/nowhere"):
            pass
        with names.claim("play", environ, "/nowhere"):
            pass
    with names.claim("work", environ, "/nowhere"):
        pass
    assert list((tmp_path / "torbox").iterdir()) == []


def test_an_x_server_is_held_once_and_no_name_is_in_its_way(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    with names.claim_display(0, environ, "/nowhere"):
        with (
            pytest.raises(InUseError, match=r"another sandbox has windows on the X server :0.*pid"),
            names.claim_display(0, environ, "/nowhere"),
        ):
            pass
        with names.claim_display(1, environ, "/nowhere"), names.claim("X0", environ, "/nowhere"):
            pass
    assert list((tmp_path / "torbox").iterdir()) == []


def test_the_file_of_a_killed_sandbox_does_not_hold_the_name(tmp_path: Path) -> None:
    (tmp_path / "torbox").mkdir()
    (tmp_path / "torbox" / "work.lock").write_text("4194999\n")
    with names.claim("work", {"XDG_RUNTIME_DIR": str(tmp_path)}, "/nowhere"):
        pass


@pytest.mark.parametrize("name", ["", "a/b", "..", ".x", "-x", "a b", "a\n", "x" * 65, "ä"])
def test_names_that_could_be_paths_or_options_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="--name"), names.claim(name, {"HOME": str(tmp_path)}, str(tmp_path)):
        pass


def test_the_run_directory_is_private_and_not_a_link(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert Path(names.run_directory(environ, "/nowhere")).stat().st_mode & 0o777 == 0o700
    (tmp_path / "torbox").rmdir()
    (tmp_path / "torbox").symlink_to("/tmp")
    with pytest.raises(SetupError, match="not this user's directory"):
        names.run_directory(environ, "/nowhere")


def test_without_a_runtime_directory_the_state_directory_serves(tmp_path: Path) -> None:
    assert names.run_directory({}, str(tmp_path)) == str(tmp_path / ".local/state/torbox/run")
