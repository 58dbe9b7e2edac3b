# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan is a value: what a sandbox will be follows from profile, command line and environment alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from torbox import plan
from torbox.errors import ProfileError, UsageError
from torbox.mounts import Bind, TextFile, Tmpfs
from torbox.plan import SandboxPlan
from torbox.profiles import load


def made(
    text: str = "", *, command: tuple[str, ...] = ("true",), upstream: str | None = None, **environ: str
) -> SandboxPlan:
    profile = load.loads(text)
    return plan.make(profile, command=command, upstream=upstream, environ=environ, home="/home/caller")


def test_the_environment_is_the_sandboxs_own() -> None:
    environment = made(
        SSH_AUTH_SOCK="/run/x", HOME="/home/caller", TZ="Europe/Paris", TERM="xterm"
    ).environment
    assert environment["HOME"] == "/home/user"
    assert environment["TZ"] == "UTC"
    assert environment["TERM"] == "xterm"
    assert set(environment) == {"HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "TZ", "TERM"}


def test_a_profile_passes_and_sets_variables() -> None:
    text = '[env]\npass = ["EDITOR", "UNSET"]\nset = { LANG = "de_DE.UTF-8" }\n'
    environment = made(text, EDITOR="vi").environment
    assert environment["EDITOR"] == "vi"
    assert environment["LANG"] == "de_DE.UTF-8"
    assert "UNSET" not in environment


def test_the_command_line_goes_before_the_profile() -> None:
    text = 'command = ["profiles"]\n[net]\nupstream = "block"\n'
    assert made(text, command=()).argv == ("profiles",)
    assert made(text, command=("mine", "-x")).argv == ("mine", "-x")
    assert made(text).upstream == "block"
    assert made(text, upstream="tor://127.0.0.1:1").upstream == "tor://127.0.0.1:1"


def test_routing_and_the_hosts_loopback_are_for_direct_alone_and_off_unless_asked_for() -> None:
    found = made('[net]\nupstream = "direct"\n')
    assert (found.routing, found.host_loopback) == (False, False)
    text = '[net]\nupstream = "direct"\nrouting = true\nhost_loopback = true\n'
    found = made(text)
    assert (found.routing, found.host_loopback) == (True, True)
    for other in ("block", "tor://127.0.0.1:1", ""):
        found = made(text, upstream=other)
        assert (found.routing, found.host_loopback) == (False, False)
    profile = load.loads("")
    for option in ("routing", "host_loopback"):
        wanted: dict[str, bool] = {option: True}
        found = plan.make(profile, command=("x",), upstream="direct", environ={}, home="/h", **wanted)
        assert [found.routing, found.host_loopback].count(True) == 1
        assert getattr(found, option)
        with pytest.raises(UsageError, match=r"^--[a-z-]+ goes with --upstream direct alone$"):
            plan.make(profile, command=("x",), upstream="block", environ={}, home="/h", **wanted)


def test_without_a_command_there_is_nothing_to_run() -> None:
    with pytest.raises(UsageError, match="no command"):
        made(command=())


def test_identity_and_hosts_are_files_of_the_sandboxs_etc() -> None:
    text = '[identity]\nhostname = "box"\nuser = "alice"\n[net.hosts]\n"a.example" = "192.0.2.1"\n'
    found = made(text)
    files = {op.target: op.text for op in found.mounts if isinstance(op, TextFile)}
    assert files["/etc/hostname"] == "box\n"
    assert "192.0.2.1 a.example\n" in files["/etc/hosts"]
    assert "alice:x:1000:1000:" in files["/etc/passwd"]
    assert files["/etc/group"].splitlines() == ["root:x:0:", "alice:x:1000:", "nogroup:x:65534:"]
    assert files["/etc/resolv.conf"].startswith("nameserver 10.0.2.2\n")
    assert found.directory == "/home/alice"
    assert any(
        isinstance(op, Tmpfs) and (op.target, op.mode) == ("/home/alice", 0o700) for op in found.mounts
    )


def test_home_files_are_in_the_fake_home_after_it_is_made() -> None:
    ops = made('[home.files]\n".config/x" = "text"\n').mounts
    (home,) = (op for op in ops if isinstance(op, Tmpfs) and op.target == "/home/user")
    assert ops.index(home) < ops.index(TextFile("/home/user/.config/x", "text"))


def test_a_script_among_the_home_files_goes_before_the_program_it_is_called_after() -> None:
    found = made('[home.files]\n".local/bin/tool" = "#!/bin/sh\\n"\n".toolrc" = "# #!"\n')
    files = [op for op in found.mounts if isinstance(op, TextFile) and "/home/" in op.target]
    assert [(op.target, op.mode) for op in files] == [
        ("/home/user/.local/bin/tool", 0o755),
        ("/home/user/.toolrc", 0o644),
    ]
    assert found.environment["PATH"].startswith("/home/user/.local/bin:/usr/local/bin:")
    assert ".local" not in made('[home.files]\n".toolrc" = ""\n').environment["PATH"]


def test_shared_paths_of_the_callers_home_appear_in_the_fake_one(tmp_path: Path) -> None:
    (tmp_path / "Books").mkdir()
    (tmp_path / "work").mkdir()
    profile = load.loads(f'[mounts]\nread_only = ["~/Books"]\nread_write = ["{tmp_path}/work"]\n')
    found = plan.make(profile, command=("true",), upstream=None, environ={}, home=str(tmp_path))
    binds = {(op.source, op.target, op.read_only) for op in found.mounts if isinstance(op, Bind)}
    assert (f"{tmp_path}/Books", "/home/user/Books", True) in binds
    assert (f"{tmp_path}/work", f"{tmp_path}/work", False) in binds


def test_every_path_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ProfileError) as caught:
        made('[mounts]\nread_only = ["/no/such/a"]\nread_write = ["/no/such/b"]\n')
    told = "is not there: no such file or directory on this machine"
    assert caught.value.faults == [
        f"profile: mounts.read_only: '/no/such/a' {told}",
        f"profile: mounts.read_write: '/no/such/b' {told}",
    ]
