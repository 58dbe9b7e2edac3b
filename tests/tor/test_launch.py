# SPDX-License-Identifier: GPL-3.0-or-later
"""The torrc that torbox writes, judged by the real tor, and the search for its binary."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from torbox.errors import UpstreamError
from torbox.tor import launch
from torbox.tor.places import Places


def configured(places: Places, user_torrc: Path | None = None) -> tuple[list[str], list[str]]:
    """The options as tor has understood them, those that are not its defaults, and its warnings."""
    places.prepare()
    places.torrc.write_text(launch.torrc(places, os.getpid(), user_torrc))
    argv = launch.command(launch.find_binary(os.environ), places)
    said = subprocess.run([*argv, "--dump-config", "short"], capture_output=True, text=True, check=True)
    lines = said.stdout.splitlines()
    warnings = [line for line in lines if "[warn]" in line and "running Tor as root" not in line]
    return [line for line in lines if "[" not in line], warnings


def test_tor_takes_the_torrc_without_a_warning(tmp_path: Path) -> None:
    options, warnings = configured(Places(tmp_path / "state", tmp_path / "run"))
    assert warnings == []
    assert f"DataDirectory {tmp_path}/state/data" in options


def test_tor_takes_paths_with_blanks_and_hashes(tmp_path: Path) -> None:
    user = tmp_path / "my #1 torrc"
    user.write_text("NumCPUs 3\n")
    options, _ = configured(Places(tmp_path / "a #state", tmp_path / "a #run"), user)
    assert "NumCPUs 3" in options
    plain = [line.replace('"', "").replace("\\", "") for line in options]
    assert f"SocksPort unix:{tmp_path}/a #run/socks IsolateSOCKSAuth ExtendedErrors" in plain
    assert f"ControlPort unix:{tmp_path}/a #run/control" in plain
    assert f"DataDirectory {tmp_path}/a #state/data" in plain


def test_the_users_lines_come_first_so_that_ours_count(tmp_path: Path) -> None:
    user = tmp_path / "torrc"
    user.write_text(f"AvoidDiskWrites 0\nClientOnly 0\nDataDirectory {tmp_path}/elsewhere\nNumCPUs 3\n")
    options, _ = configured(Places(tmp_path / "state", tmp_path / "run"), user)
    assert {"AvoidDiskWrites 1", "ClientOnly 1", f"DataDirectory {tmp_path}/state/data", "NumCPUs 3"} <= set(
        options
    )


def test_there_is_no_tcp_listener_and_no_log_of_destinations(tmp_path: Path) -> None:
    lines = launch.torrc(Places(tmp_path, tmp_path / "run"), 1, None).splitlines()
    assert [line for line in lines if "Port" in line] == [
        f'SocksPort "unix:\\"{tmp_path}/run/socks\\" IsolateSOCKSAuth ExtendedErrors"',
        f'ControlPort "unix:\\"{tmp_path}/run/control\\""',
    ]
    assert "SafeLogging 1" in lines
    assert "Log notice stdout" in lines


def test_a_path_that_tor_cannot_be_given_is_refused(tmp_path: Path) -> None:
    for name in ('quo"te', "back\\slash", "line\nend"):
        with pytest.raises(UpstreamError, match="tor cannot be given a path"):
            launch.torrc(Places(tmp_path / name, tmp_path / "run"), 1, None)


def test_tor_is_found_outside_of_an_ordinary_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sbin = tmp_path / "sbin"
    sbin.mkdir()
    (sbin / "tor").touch(0o755)
    monkeypatch.setattr(launch, "_DAEMONS", str(sbin))
    assert launch.find_binary({"PATH": str(tmp_path)}) == str(sbin / "tor")


def test_no_tor_is_an_error_with_the_apt_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_DAEMONS", "/nonexistent")
    with pytest.raises(UpstreamError, match="no tor is installed") as caught:
        launch.find_binary({"PATH": str(tmp_path)})
    assert "sudo apt-get install tor" in caught.value.advice
    assert caught.value.exit_code == 125
