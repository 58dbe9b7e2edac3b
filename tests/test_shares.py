# SPDX-License-Identifier: GPL-3.0-or-later
"""What a profile may share, and what it may not however it is called."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from torbox import plan, shares, syscalls, userns, ways
from torbox.errors import ProfileError
from torbox.mounts import Bind, Symlink
from torbox.plan import SandboxPlan
from torbox.profiles import load
from torbox.profiles.checks import why_never_shared

Path_or_text = Path | str


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def made(
    home: Path,
    read_only: list[Path_or_text] | None = None,
    read_write: list[Path_or_text] | None = None,
    files: str = "",
    **environ: str,
) -> SandboxPlan:
    text = f"[mounts]\nread_only = {texts(read_only)}\nread_write = {texts(read_write)}\n{files}"
    return plan.make(
        load.loads(text, "p.toml"), command=("true",), upstream=None, environ=environ, home=str(home)
    )


def texts(paths: list[Path_or_text] | None) -> str:
    return json.dumps([str(path) for path in paths or []])


def shared(found: SandboxPlan) -> list[tuple[str, str, bool]]:
    """The profile's own binds, and those that hold something in place for them."""
    first = next(i for i, op in enumerate(found.mounts) if op.target == found.environment["HOME"])
    return [(op.source, op.target, op.read_only) for op in found.mounts[first:] if isinstance(op, Bind)]


def fault(
    home: Path,
    read_only: list[Path_or_text] | None = None,
    read_write: list[Path_or_text] | None = None,
    files: str = "",
    **environ: str,
) -> str:
    """The one fault of a profile that shares this."""
    with pytest.raises(ProfileError) as caught:
        made(home, read_only, read_write, files, **environ)
    (told,) = caught.value.faults
    assert told.startswith("p.toml: mounts.")
    return told


def pretend(monkeypatch: pytest.MonkeyPatch, leads: dict[str, Path]) -> None:
    """Let these paths lead there, as they might on another machine."""
    follow = shares.follow
    monkeypatch.setattr(
        shares, "follow", lambda path: ways.Way(str(leads[path]), ()) if path in leads else follow(path)
    )


# -- symlinks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["read_only", "read_write"])
def test_a_symlink_that_a_program_inside_could_have_made_is_not_followed(home: Path, key: str) -> None:
    (home / "work").mkdir()
    (home / "work" / "out").symlink_to("/srv")
    told = fault(home, **{key: ["~/work/out"]})  # type: ignore[arg-type]
    assert told == (
        f"p.toml: mounts.{key}: '~/work/out' leads through the symlink '{home}/work/out', which a program "
        "inside could have put there: if '/srv' is meant, write that"
    )


def test_nor_one_above_what_is_shared_nor_one_that_another_leads_to(home: Path) -> None:
    (home / "work").mkdir()
    (home / "work" / "sub").symlink_to("../../..")
    (home / "short").symlink_to("work/sub")
    assert "leads through the symlink" in fault(home, ["~/work/sub/etc"])
    assert f"the symlink '{home}/work/sub'" in fault(home, ["~/short"])


def test_a_symlink_of_the_home_directory_itself_is_followed(home: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "books").mkdir(parents=True)
    (home / "Books").symlink_to("../data/books")
    assert shared(made(home, ["~/Books"])) == [(f"{tmp_path}/data/books", "/home/user/Books", True)]


def test_a_home_directory_that_anybody_may_write_to_is_no_exception(home: Path, tmp_path: Path) -> None:
    (home / "Books").symlink_to(tmp_path)
    home.chmod(0o1777)
    assert "leads through the symlink" in fault(home, ["~/Books"])


def test_a_symlink_in_a_directory_of_the_systems_is_followed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "homes").symlink_to(tmp_path)  # as /home is one where the homes are on another disk
    (home / "x").mkdir()
    assert "leads through the symlink" in fault(tmp_path / "homes" / "home", ["~/x"])
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    monkeypatch.setattr(os, "access", lambda path, mode: True)  # another's, which the user may write to
    assert "leads through the symlink" in fault(tmp_path / "homes" / "home", ["~/x"])
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert shared(made(tmp_path / "homes" / "home", ["~/x"])) == [(f"{home}/x", "/home/user/x", True)]


@pytest.mark.parametrize(
    ("points_to", "told"),
    [
        ("/", "leads to '/', which is never shared as a whole"),
        ("/etc", "leads to '/etc', which is never shared as a whole"),
        ("/var", "leads to '/var', which is never shared as a whole"),
        ("/etc/passwd", "leads to '/etc/passwd', which is not shared: the sandbox has its own"),
        ("/proc/1", "leads to '/proc/1', which is not shared: the sandbox has its own"),
        ("/dev/null", "leads to '/dev/null', which is not shared: the sandbox has its own"),
    ],
)
def test_what_a_symlink_leads_to_is_judged_as_if_it_were_written(
    home: Path, points_to: str, told: str
) -> None:
    (home / "x").symlink_to(points_to)
    assert told in fault(home, ["~/x"])


def test_symlinks_that_lead_round_or_nowhere_are_faults(home: Path) -> None:
    (home / "round").symlink_to("round")
    assert "Too many levels of symbolic links" in fault(home, ["~/round"])
    (home / "nowhere").symlink_to("/no/such")
    assert "is not there" in fault(home, ["~/nowhere"])


# -- places of the host that are not shared --------------------------------------------------------


@pytest.mark.parametrize("path", ["/run/user", "/run/user/1000", "/var/run/user/1000", "/var", "/var/run"])
def test_directories_full_of_sockets_are_not_shared_nor_what_is_above_them(path: str) -> None:
    assert why_never_shared(path) == "is never shared as a whole: name what is needed of it"


def test_other_directories_of_run_are_not_shared_either(home: Path) -> None:
    assert "where daemons have their sockets" in fault(home, ["/run/lock"])


def test_a_memory_stick_is_shared_and_what_holds_them_is_not(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = os.stat
    monkeypatch.setattr(
        os, "stat", lambda path, **how: stat(home if str(path).startswith("/run/media/") else path, **how)
    )
    assert "where daemons have their sockets" in fault(home, ["/run/media/me"])
    stick = "/run/media/me/STICK"
    assert shared(made(home, read_write=[stick])) == [(stick, stick, False)]


@pytest.mark.parametrize(
    ("name", "speaks"),
    [
        ("bus", "D-Bus"),
        ("bus_0", "D-Bus"),
        ("system_bus_socket", "D-Bus"),
        ("dbus-XWo7hCaN", "D-Bus"),
        ("docker.sock", "a container engine"),
        ("S.gpg-agent", "an agent"),
        ("agent.815", "an agent"),
        ("two\nlines/bus", "D-Bus"),
    ],
)
def test_sockets_that_lead_out_of_the_sandbox_are_refused(home: Path, name: str, speaks: str) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        (home / name).parent.mkdir(exist_ok=True)
        server.bind(str(home / name))
        assert f"is not shared: it is a socket of {speaks}" in fault(home, [f"~/{name}"])


def test_sockets_that_the_environment_names_are_known_by_any_name(home: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(home / "x"))
        assert "an agent" in fault(home, ["~/x"], SSH_AUTH_SOCK=f"{home}/x")
        assert "D-Bus" in fault(home, ["~/x"], DBUS_SESSION_BUS_ADDRESS=f"unix:path={home}/x,guid=1")
        assert shared(made(home, ["~/x"])) == [(f"{home}/x", "/home/user/x", True)]


def test_a_directory_may_be_called_bus(home: Path) -> None:
    (home / "bus").mkdir()
    assert shared(made(home, read_write=["~/bus"])) == [(f"{home}/bus", "/home/user/bus", False)]


# -- torbox's own ----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["read_only", "read_write"])
@pytest.mark.parametrize(
    "path",
    [".config", ".config/torbox", ".config/torbox/profiles", ".local", ".local/state", ".local/state/torbox"],
)
def test_torboxs_own_directories_are_not_shared_nor_what_holds_them(home: Path, key: str, path: str) -> None:
    (home / path).mkdir(parents=True)
    told = fault(home, **{key: [f"~/{path}"]})  # type: ignore[arg-type]
    assert "directory of torbox's own" in told
    assert "directory of torbox's own" in fault(home, **{key: [home / path]})  # type: ignore[arg-type]


def test_nor_is_the_whole_home(home: Path) -> None:
    assert "directory of torbox's own" in fault(home, read_write=[home])


@pytest.mark.parametrize(
    "variable", ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"]
)
def test_torboxs_directories_are_where_the_environment_says(
    home: Path, tmp_path: Path, variable: str
) -> None:
    (tmp_path / "elsewhere" / "other").mkdir(parents=True)
    place = str(tmp_path / "elsewhere")
    assert "directory of torbox's own" in fault(home, read_write=[place], **{variable: place})
    made(home, read_write=[f"{place}/other"], **{variable: place})


def test_what_a_symlink_makes_torboxs_own_is_not_shared_either(home: Path) -> None:
    for name in ("dotfiles/torbox", "links", "other", ".config"):
        (home / name).mkdir(parents=True)
    (home / ".config" / "torbox").symlink_to("../links/way/torbox")
    (home / "links" / "way").symlink_to("../dotfiles")
    assert "directory of torbox's own" in fault(home, read_write=["~/dotfiles"])
    assert "directory of torbox's own" in fault(home, read_write=["~/links"])
    made(home, read_write=["~/other"])


def test_what_a_bind_mount_of_the_hosts_shows_a_second_time_is_torboxs_own_too(home: Path) -> None:
    """In a mount namespace of the test's own, since only there may it mount."""
    (home / ".config" / "torbox").mkdir(parents=True)
    (home / "second").mkdir()
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            uid, gid = os.getuid(), os.getgid()
            syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
            userns.write_maps(os.getpid(), uid, gid)
            syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
            own = os.open(home / ".config" / "torbox", os.O_PATH)
            syscalls.move_mount(syscalls.open_tree(own), os.open(home / "second", os.O_PATH))
            told = fault(home, ["~/second"])
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        os.write(writable, told.encode())
        os._exit(0)
    os.close(writable)
    with open(readable) as file:
        told = file.read()
    os.waitpid(pid, 0)
    assert "directory of torbox's own" in told


def test_a_program_cannot_write_its_own_profile_nor_torbox(home: Path) -> None:
    (home / "work").mkdir()
    for key, told in (("read_only", ""), ("read_write", f"'{home}/work/box.toml' decides how")):
        (home / "work" / "box.toml").write_text(f"[mounts]\n{key} = ['~/work']\n")
        profile = load.load(str(home / "work" / "box.toml"), {}, home)
        faults = [""]
        try:
            plan.make(profile, command=("true",), upstream=None, environ={}, home=str(home))
        except ProfileError as error:
            faults = error.faults
        assert told in faults[0]
        assert bool(told) == bool(faults[0])
    assert "decides how" in fault(home, read_write=[Path(shares.__file__).parent])


# -- where it appears ------------------------------------------------------------------------------


def test_what_is_above_is_mounted_first_whatever_the_order(home: Path) -> None:
    (home / "proj" / ".git").mkdir(parents=True)
    assert shared(made(home, ["~/proj/.git"], ["~/proj"])) == [
        (f"{home}/proj", "/home/user/proj", False),
        (f"{home}/proj/.git", "/home/user/proj/.git", True),
    ]
    assert shared(made(home, ["~/proj"], ["~/proj/.git"])) == [
        (f"{home}/proj", "/home/user/proj", True),
        (f"{home}/proj/.git", "/home/user/proj/.git", False),
    ]


def test_directories_above_a_read_only_path_are_held_in_place(home: Path) -> None:
    for name in ("x", "y"):
        (home / "proj" / "a" / "b" / name).mkdir(parents=True)
    assert shared(made(home, ["~/proj/a/b/x", "~/proj/a/b/y"], ["~/proj"])) == [
        (f"{home}/proj", "/home/user/proj", False),
        (f"{home}/proj/a", "/home/user/proj/a", False),
        (f"{home}/proj/a/b", "/home/user/proj/a/b", False),
        (f"{home}/proj/a/b/x", "/home/user/proj/a/b/x", True),
        (f"{home}/proj/a/b/y", "/home/user/proj/a/b/y", True),
    ]


@pytest.mark.parametrize("other", ["~/x/", "/home/user/x"])
def test_two_paths_for_one_place_are_a_fault(home: Path, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "x").mkdir()
    if other.startswith("/"):
        pretend(monkeypatch, {other: home / "x"})
    told = fault(home, ["~/x"], [other])
    assert told == (
        f"p.toml: mounts.read_write: '{other}' and '~/x' of mounts.read_only would be at the same place: "
        "one of them must go"
    )


@pytest.mark.parametrize("path", [".config/app", ".config/app/settings.ini"])
def test_a_share_over_a_file_of_the_fake_home_is_a_fault(home: Path, path: str) -> None:
    (home / path).mkdir(parents=True)
    told = fault(home, [f"~/{path}"], files='[home.files]\n".config/app/settings.ini" = ""')
    assert "'.config/app/settings.ini' of home.files would be at the same place" in told


def test_a_share_beside_a_file_of_the_fake_home_is_none(home: Path) -> None:
    (home / ".config" / "other").mkdir(parents=True)
    made(home, ["~/.config/other"], files='[home.files]\n".config/app/settings.ini" = ""')


def test_what_lies_in_another_share_must_be_what_is_there(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "link").symlink_to("../b")
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    told = fault(home, [tmp_path / "a", tmp_path / "a" / "link"])
    assert told == (
        f"p.toml: mounts.read_only: '{tmp_path}/a/link' leads to '{tmp_path}/b', but inside it would be "
        f"below '{tmp_path}/a', where a symlink is in its way: write where it leads"
    )


def test_a_share_over_the_home_inside_is_a_fault(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, {"/home": Path("/usr")})  # no home of the caller's in it
    assert "would cover '/home/user', the home directory inside" in fault(home, ["/home"])


def test_targets_go_round_the_sandboxs_own_symlinks(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, dict.fromkeys(("/var/run/x.sock", "/etc/localtime"), home / "file"))
    (home / "file").touch()
    found = made(home, ["/var/run/x.sock", "/etc/localtime"])
    assert shared(found) == [
        (f"{home}/file", "/run/x.sock", True),
        (f"{home}/file", "/etc/localtime", True),
    ]
    assert not any(isinstance(op, Symlink) and op.target == "/etc/localtime" for op in found.mounts)


# -- what would be in two places ---------------------------------------------------------------------


def test_what_is_read_only_is_not_writable_by_another_path(home: Path) -> None:
    (home / "proj" / "docs").mkdir(parents=True)
    told = fault(home, [home / "proj" / "docs"], ["~/proj"])
    assert told == (
        f"p.toml: mounts.read_only: '{home}/proj/docs' could be written all the same: '~/proj' of "
        "mounts.read_write has it, too, and would be at '/home/user/proj/docs' inside"
    )
    assert "could be written all the same" in fault(home, [home / "proj"], ["~/proj"])
    made(home, ["~/proj/docs"], ["~/proj"])  # the one covers the other
    made(home, ["~/proj"], [home / "proj" / "docs"])  # what is meant to be written may be


def test_nor_by_a_bind_mount_of_the_hosts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("proj/docs", "alias"):
        (home / name).mkdir(parents=True)
    identity = ways._identity
    monkeypatch.setattr(
        ways, "_identity", lambda path: identity(path.replace(f"{home}/alias", f"{home}/proj"))
    )
    assert "would be at '/home/user/alias' inside" in fault(home, ["~/proj/docs"], ["~/alias"])


def test_every_fault_is_told_at_once(home: Path) -> None:
    with pytest.raises(ProfileError) as caught:
        made(home, ["~/no", "/no/such"], [home])
    assert len(caught.value.faults) == 3
