# SPDX-License-Identifier: GPL-3.0-or-later
"""`torbox profile …` as scripts and people meet it: what is printed where, and the exit code."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from torbox.cli.entry import main
from torbox.profiles import load, search

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(search, "SYSTEM", tmp_path / "etc")
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("XDG_CONFIG_HOME", "SUDO_UID", "DOAS_USER"):  # nor become whoever ran the tests by sudo
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / ".config" / "torbox" / "profiles").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def run(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run torbox in this process: exit code, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        seen = capsys.readouterr()
        return code, seen.out, seen.err

    return run


def own(home: Path, name: str, text: str) -> None:
    (home / ".config" / "torbox" / "profiles" / f"{name}.toml").write_text(text)


def test_the_list_is_one_line_for_each_profile_when_nobody_looks(home: Path, run: Run) -> None:
    own(home, "mine", 'description = "my own"')
    own(home, "broken", "a =")
    code, out, err = run("profile", "list")
    rows = [line.split("\t") for line in out.splitlines()]
    shipped = {path.stem for path in search.shipped().iterdir()}
    assert [row[0] for row in rows] == sorted(shipped | {"broken", "mine"})
    told = {row[0]: row[1:] for row in rows}
    assert told["broken"][0] == "broken.toml:1: at its end: invalid value"
    assert told["mine"] == ["my own", str(home / ".config" / "torbox" / "profiles" / "mine.toml")]
    assert all(told[name][1] == "" for name in shipped)
    assert (code, err) == (0, "")


def drawn_list(home: Path, columns: int) -> str:
    """What `torbox profile list` draws on a terminal."""
    master, slave = pty.openpty()
    environ = {**os.environ, "HOME": str(home), "TERM": "xterm", "COLUMNS": str(columns)}
    subprocess.run([sys.executable, "-m", "torbox", "profile", "list"], stdout=slave, env=environ, check=True)
    os.close(slave)
    drawn = b""
    while select.select([master], [], [], 5)[0]:
        try:
            drawn += os.read(master, 65536)
        except OSError:  # EIO: all of it was read and nobody holds the other end
            break
    os.close(master)
    return drawn.decode()


def test_the_list_is_a_table_on_a_terminal_with_the_files_of_ones_own_alone(home: Path) -> None:
    drawn = drawn_list(home, 120)
    assert "what it is for" in drawn
    assert "browser" in drawn
    assert ".toml" not in drawn
    own(home, "mine", 'description = "my own"')
    drawn = drawn_list(home, 120)
    assert drawn.count(".toml") == 1
    assert "~/.config/torbox/profiles/mine.toml" in drawn
    assert "…" not in drawn


def test_show_prints_toml_that_is_the_same_profile(home: Path, run: Run) -> None:
    code, out, err = run("profile", "show", "browser")
    assert (code, err) == (0, "")
    again, profile = load.loads(out), load.load("browser", {}, home)
    assert (again.net, again.env, again.home) == (profile.net, profile.env, profile.home)


def test_show_resolved_tells_the_line_of_each_value(home: Path, run: Run) -> None:
    own(home, "mine", 'extends = "shell"\n\nnet.mtu = 1400\n')
    code, out, err = run("profile", "show", "--resolved", "mine")
    assert (code, err) == (0, "")
    assert "mtu = 1400  # mine.toml:3" in out.splitlines()
    assert out.startswith(f"# {home}/.config/torbox/profiles/mine.toml\n# {search.shipped()}/shell.toml\n")


def test_the_schema_is_printed_or_its_place(run: Run) -> None:
    code, out, err = run("profile", "schema")
    assert (code, err) == (0, "")
    assert json.loads(out)["properties"]["net"]["properties"]["mtu"]["maximum"] == 65520
    code, where, err = run("profile", "schema", "--path")
    assert (code, err) == (0, "")
    assert Path(where.removesuffix("\n")).read_text() == out


def test_new_prints_the_path_alone_and_says_what_it_hides(
    home: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    own = home / ".config" / "torbox" / "profiles"
    assert run("profile", "new", "mine", "--from", "shell") == (0, f"{own}/mine.toml\n", "")
    code, out, err = run("profile", "new", "browser", "--from", "browser")
    assert (code, out) == (0, f"{own}/browser.toml\n")
    assert err == f"torbox: browser now means this file and no longer {search.shipped()}/browser.toml\n"
    assert run("profile", "check", "mine", "browser")[0] == 0
    code, out, err = run("profile", "new", "mine")
    assert (code, out) == (2, "")
    assert "is not overwritten" in err


def test_new_makes_no_profile_of_roots(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    code, out, err = run("profile", "new", "mine")
    assert (code, out) == (2, "")
    assert "--user" in err


def test_check_is_silent_on_standard_output_and_zero_for_what_is_right(run: Run) -> None:
    code, out, err = run("profile", "check", "browser", "shell")
    assert (code, out) == (0, "")
    assert all(line.startswith("torbox: ") for line in err.splitlines())


def test_check_tells_every_fault_of_every_profile(home: Path, run: Run) -> None:
    own(home, "a", 'net.dns = "nmaes"\nnet.mtu = 1\n')
    own(home, "b", "[net")
    code, out, err = run("profile", "check", "a", "b", "zzz")
    assert (code, out) == (2, "")
    assert err.splitlines()[:4] == [
        "torbox: a.toml:1: net.dns: 'nmaes' is not one of names, tor, off; did you mean 'names'?",
        "torbox: a.toml:2: net.mtu: 1 is not a whole number of bytes from 1280 to 65520",
        "torbox: b.toml:1: at its end: expected ']' at the end of a table declaration",
        "torbox: no profile is called 'zzz'",
    ]


def test_check_tells_faults_in_the_order_of_lines_whichever_look_found_them(home: Path, run: Run) -> None:
    text = "[net]\nupstream = 'gopher://x'\nmtu = 1\n[mounts]\nread_only = ['/no/such']\n"
    text += "[identity]\nuser = 'root'\n"
    own(home, "base", text)
    own(home, "mine", "extends = 'base'\nx = 1\n[mounts]\nread_write = ['/nor/this']\n[net]\ndns = 'no'\n")
    code, _, err = run("profile", "check", "mine")
    assert code == 2
    spots = [line.split(": ")[1] for line in err.splitlines() if ".toml:" in line]
    assert spots == [f"mine.toml:{n}" for n in (2, 4, 6)] + [f"base.toml:{n}" for n in (2, 3, 5, 7)]


def test_root_without_another_user_is_told_how_to_name_one_to_the_command_it_gave(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for command in ("run true", "shell", "verify", "home list"):
        words = command.split()
        code, out, err = run(*words)
        assert (code, out) == (125, "")
        assert f"name one: torbox {words[0]} --user NAME" in err


@pytest.mark.parametrize(
    "command",
    [
        ("profile", "show", "brwoser"),
        ("profile", "check", "./nothing.toml"),
        ("profile", "show", "/"),
        ("profile", "show", "/dev/zero"),
        ("profile", "show", "a\0.toml"),
        ("profile", "show", "\udcff.toml"),
        ("profile", "show", ""),
        ("profile",),
        ("profile", "frobnicate"),
        ("profile", "show"),
        ("frobnicate",),
        ("profile", "list", "extra"),
        ("profile", "new"),
        ("profile", "new", "a/b"),
        ("profile", "new", "a.toml"),
        ("profile", "new", "a", "--from", "nonesuch"),
        ("profile", "new", "a", "--user", "no-such-user-here"),
        ("profile", "new", "a", "b"),
        ("profile", "schema", "extra"),
        ("profile", "show", "--resolved"),
        ("run", "--no-such-option", "true"),
        ("run", "-v", "-q", "true"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(run: Run, command: tuple[str, ...]) -> None:
    code, out, err = run(*command)
    assert (code, out) == (2, "")
    assert err
    assert all(line.startswith("torbox: ") and line.isprintable() for line in err.splitlines())
    assert "bug" not in err
