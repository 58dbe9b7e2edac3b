# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input of every kind: one clear message, the right exit code, never a traceback, nothing left."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.people import Person


@contextmanager
def profile_file(person: Person, text: str | bytes, name: str = "broken.toml") -> Iterator[str]:
    path = person.home / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o644)
    try:
        yield str(path)
    finally:
        path.unlink()


def complaint(done: subprocess.CompletedProcess[str], code: int) -> str:
    """What torbox said, having failed with this exit code and printed nothing else."""
    assert done.returncode == code, (done.returncode, done.stderr)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines
    assert all(line.startswith("torbox: ") for line in lines), done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


USAGE = [
    (["run"], "no command"),
    (["run", "--"], "no command"),
    (["run", "--", ""], "command is empty"),
    (["run", "--no-such-option", "true"], "--no-such-option"),
    (["no-such-command"], "no-such-command"),
    (["run", "-v", "-q", "true"], "not allowed with"),
    (["run", "--profile"], "--profile"),
    (["run", "--profile", "", "true"], "profile"),
    (["run", "--profile", "brwoser", "true"], "did you mean 'browser'"),
    (["run", "--profile", "/no/such/file.toml", "true"], "/no/such/file.toml"),
    (["run", "--profile", "/", "true"], "directory"),
    (["run", "--profile", "../../etc/passwd", "true"], "passwd"),
    (["run", "--upstream", "gopher://x", "true"], "gopher"),
    (["run", "--upstream", "tor://", "true"], "upstream"),
    (["run", "--upstream", "tor://127.0.0.1:99999", "true"], "port"),
    (["run", "--upstream", "tor://user:secret@127.0.0.1:9050", "true"], "user and password"),
    (["run", "--upstream", "tor+unix:relative", "true"], "absolute"),
    (["run", "--upstream", "socks5://", "true"], "upstream"),
    (["run", "--upstream", "interface://x:1", "true"], "no scheme"),
    (["run", "--upstream", "../tor", "true"], "scheme"),
    (["run", "--upstream", "direct://x:1", "true"], "nothing may follow"),
    (["run", "--upstream", "block", "--enable-routing", "true"], "--enable-routing goes with"),
    (["run", "--host-loopback", "true"], "--host-loopback goes with"),
    (["shell", "--host-loopback"], "--host-loopback goes with"),
    (["run", "--name", "a/b", "true"], "--name"),
    (["run", "--name", "", "true"], "--name"),
    (["run", "--user", "no-such-user-here", "true"], "--user"),
    (["shell", "extra"], "extra"),
    (["profile"], "VERB"),
    (["profile", "show", "nonesuch"], "nonesuch"),
    (["profile", "check", "nonesuch"], "nonesuch"),
]


@pytest.mark.parametrize(("arguments", "wanted"), USAGE, ids=str)
def test_wrong_usage_is_said_in_one_message_and_exits_2(
    person: Person, arguments: list[str], wanted: str
) -> None:
    said = complaint(person.run(*arguments), 2)
    assert wanted in said
    assert "secret" not in said


PROFILES = [
    pytest.param("[net", "broken.toml", id="no TOML"),
    pytest.param("net = = 1", "broken.toml:1:7: ", id="no TOML either"),
    pytest.param(b"description = '\xff'", "broken.toml", id="not UTF-8"),
    pytest.param(bytes(range(256)), "broken.toml", id="binary"),
    pytest.param("[net]\nmtu = 'big'", "net.mtu", id="wrong type"),
    pytest.param("[net]\nmtu = 12", "1280", id="out of range"),
    pytest.param("[net.mtu]\nx = 1", "net.mtu", id="table for a value"),
    pytest.param("net = 1", "net", id="value for a table"),
    pytest.param("[net]\nupstraem = 'tor'", "did you mean 'net.upstream'", id="unknown key"),
    pytest.param("[nett]\nmtu = 1500", "did you mean 'net'", id="unknown table"),
    pytest.param("[net]\ndns = 'nmaes'", "did you mean 'names'", id="bad choice"),
    pytest.param("[net]\nupstream = 'gopher://x'", "gopher", id="bad upstream"),
    pytest.param("[net.hosts]\n'a.example' = '1.2.3.400'", "1.2.3.400", id="bad address"),
    pytest.param("[mounts]\nread_only = ['/no/such/directory']", "/no/such/directory", id="missing mount"),
    pytest.param("[mounts]\nread_only = ['/run']", "/run", id="forbidden mount"),
    pytest.param("[mounts]\nread_only = ['/srv']\nread_write = ['/srv']", "/srv", id="contradiction"),
    pytest.param("[home.files]\n'../x' = 'y'", "../x", id="home file outside"),
    pytest.param("extends = './broken.toml'", "broken.toml", id="extends itself"),
    pytest.param("extends = 'nonesuch'", "nonesuch", id="extends nothing"),
    pytest.param("#" * (2 << 20), "large", id="too large"),
]


@pytest.mark.parametrize(("text", "wanted"), PROFILES)
def test_a_bad_profile_is_said_in_one_message_and_exits_2(
    person: Person, text: str | bytes, wanted: str
) -> None:
    with profile_file(person, text) as path:
        assert wanted in complaint(person.run("run", "--profile", path, "true"), 2)


def test_check_finds_what_a_run_would_stumble_over(person: Person) -> None:
    text = "[net]\nupstream = 'gopher://x'\n[mounts]\nread_only = ['/no/such/directory']\n"
    with profile_file(person, text) as path:
        said = complaint(person.run("profile", "check", path), 2)
    assert "broken.toml:2: net.upstream" in said
    assert "broken.toml:4: mounts.read_only" in said


def test_all_faults_of_a_profile_are_told_at_once(person: Person) -> None:
    text = "[net]\nmtu = 12\ndns = 'nmaes'\n[identity]\nuser = 'root'\n"
    with profile_file(person, text) as path:
        said = complaint(person.run("profile", "check", path), 2)
    assert all(key in said for key in ("net.mtu", "net.dns", "identity.user"))


@pytest.mark.parametrize(
    ("command", "code", "wanted"),
    [
        ("no-such-program", 127, "no-such-program: No such file or directory"),
        ("/no/such/program", 127, "/no/such/program: No such file or directory"),
        ("/etc/passwd", 126, "/etc/passwd: Permission denied"),
        ("/usr", 126, "/usr: "),
        ("/etc/passwd/x", 126, "/etc/passwd/x: Not a directory"),
    ],
)
def test_a_command_that_cannot_run_gives_126_or_127(
    person: Person, command: str, code: int, wanted: str
) -> None:
    assert wanted in complaint(person.run("run", "--upstream", "block", "--", command), code)


def test_a_script_without_an_interpreter_runs_as_env_would_have_it(person: Person) -> None:
    with profile_file(person, "echo ran $1\n", "script") as path:
        Path(path).chmod(0o755)
        with profile_file(person, f"[mounts]\nread_only = ['{path}']\n") as profile:
            command = ("run", "--upstream", "block", "--profile", profile, "--", path, "it")
            assert person.run(*command).stdout == "ran it\n"


@pytest.mark.parametrize(
    ("upstream", "wanted"),
    [
        ("tor://127.0.0.1:1", "127.0.0.1:1"),
        ("tor+unix:/no/such/socket", "/no/such/socket"),
        ("socks5://127.0.0.1:1", "127.0.0.1:1"),
        ("socks5://no-such-host.invalid:1080", "no-such-host.invalid"),
    ],
)
def test_an_upstream_that_does_not_answer_is_125_before_anything_starts(
    person: Person, upstream: str, wanted: str
) -> None:
    command = ("run", "--upstream", upstream, "--", "sh", "-c", "echo ran")
    assert wanted in complaint(person.run(*command), 125)


def test_a_name_is_held_while_its_sandbox_runs(person: Person) -> None:
    options = ("--upstream", "block", "--name", "one")
    first = subprocess.Popen(
        person.command("run", *options, "--", "sh", "-c", "echo up; read line"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=dict(person.environment),
        cwd="/",
        text=True,
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "up\n"
    said = complaint(person.run("run", *options, "--", "true"), 125)
    assert "is running" in said
    first.communicate("\n", timeout=20)
    assert person.run("run", *options, "--", "true").returncode == 0


def test_odd_bytes_in_arguments_reach_the_program_and_never_the_screen(person: Person) -> None:
    done = person.run("run", "--upstream", "block", "--", "printf", "%s", "a\tb\x1b[31m\udcff")
    assert done.returncode == 0
    said = complaint(person.run("run", "--upstream", "block", "--", "no\x1b[31msuch\n"), 127)
    assert "\x1b" not in said


def test_nothing_is_half_started_when_the_tun_cannot_be_opened(
    person: Person, closed_tun: Callable[[], None]
) -> None:
    closed_tun()
    said = complaint(person.run("run", "--upstream", "block", "--", "sh", "-c", "echo ran"), 125)
    assert "torbox: open the tun: /dev/net/tun: Permission denied" in said
    assert "chmod 0666" in said


def test_a_file_that_is_inside_and_no_program_is_not_said_to_be_missing(person: Person) -> None:
    done = person.run("run", "--upstream", "block", "--", "/etc/hosts")
    assert done.returncode == 126
    assert "Permission denied" in done.stderr
    assert "share it" not in done.stderr


def test_direct_without_leave_says_that_it_is_locked(person: Person) -> None:
    for options, told in (
        ((), True),
        (("--host-loopback",), False),
        (("--enable-routing",), False),
        (("-q",), False),
    ):
        done = person.run("run", "--upstream", "direct", *options, "--", "true")
        assert done.returncode == 0
        assert ("direct is locked" in done.stderr) == told, options
