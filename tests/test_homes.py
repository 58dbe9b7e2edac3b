# SPDX-License-Identifier: GPL-3.0-or-later
"""What the home inside is made of, by its mode, and how kept homes are held, listed and removed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from torbox import homes, plan
from torbox.errors import InUseError, ProfileError, SetupError, UsageError
from torbox.mounts import Bind, Cover, MountOp, Overlay, TextFile, Tmpfs
from torbox.plan import SandboxPlan
from torbox.profiles import load

FILES = '[home.files]\n".config/x" = "text"\n'


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "me").mkdir()
    return tmp_path / "me"


def made(
    home: Path | str, text: str, directory: str = "", environ: Mapping[str, str] | None = None
) -> SandboxPlan:
    profile = load.loads(text, "box")
    return plan.make(
        profile, command=("true",), upstream=None, environ=environ or {}, home=str(home), directory=directory
    )


def of_home(found: SandboxPlan) -> list[MountOp]:
    return [op for op in found.mounts if op.target.startswith("/home")]


def fault(home: Path | str, text: str, **environ: str) -> str:
    with pytest.raises(ProfileError) as caught:
        made(home, text, environ=environ)
    (told,) = caught.value.faults
    return told


def test_a_fake_home_is_in_memory_and_kept_nowhere(home: Path) -> None:
    found = made(home, FILES)
    memory, file = of_home(found)
    assert isinstance(memory, Tmpfs)
    assert file == TextFile("/home/user/.config/x", "text")
    assert found.home is None
    assert found.warnings == ()


def test_a_kept_home_is_an_overlay_over_nothing_called_after_its_profile(home: Path) -> None:
    found = made(home, "home.mode = 'persist'\n" + FILES)
    path = f"{home}/.local/share/torbox/homes/box"
    assert of_home(found) == [
        Overlay("/home/user", f"{path}/nothing", f"{path}/home", f"{path}/work", origin="box: home.mode"),
        TextFile("/home/user/.config/x", "text", once=True),
    ]
    assert found.home == homes.Store("box", path, ("home", "nothing", "work"))
    assert found.warnings == ()
    assert not Path(path).exists()  # a plan makes nothing
    other = made(home, "home.mode = 'persist'\nhome.name = 'work'")
    assert other.home is not None
    assert other.home.path == f"{home}/.local/share/torbox/homes/work"


def test_kept_homes_are_where_the_environment_says_without_symlinks(home: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to("disk")
    found = made(home, "home.mode = 'persist'", environ={"XDG_DATA_HOME": f"{tmp_path}/data"})
    assert found.home is not None
    assert found.home.path == f"{tmp_path}/disk/torbox/homes/box"
    found = made(home, "home.mode = 'persist'", environ={"XDG_DATA_HOME": "relative"})
    assert found.home is not None
    assert found.home.path.startswith(f"{home}/.local/share/")


def test_an_overlay_is_ones_own_home_with_its_changes_in_memory_or_kept(home: Path) -> None:
    (home / ".config" / "torbox").mkdir(parents=True)
    found = made(home, "home.mode = 'overlay'\n" + FILES)
    overlay, *covers, file = of_home(found)
    assert isinstance(overlay, Overlay)
    assert (overlay.lower, overlay.upper, overlay.size) == (str(home), "", "20%")
    assert Cover("/home/user/.config/torbox") in covers
    assert Cover("/home/user/.local/state/torbox") in covers
    assert Cover("/home/user/.local/share/torbox") in covers
    assert file == TextFile("/home/user/.config/x", "text", once=True)
    assert found.home is None
    (warning,) = found.warnings
    assert "can read all of your home" in warning
    found = made(home, "home = { mode = 'overlay', keep_changes = true }")
    assert found.home is not None
    assert found.home.parts == ("changes", "changes-work")
    overlay = of_home(found)[0]
    assert isinstance(overlay, Overlay)
    assert overlay.upper == f"{home}/.local/share/torbox/homes/box/changes"


def test_ones_own_home_is_writable_with_a_warning_and_no_file_of_the_profile_in_it(home: Path) -> None:
    found = made(home, "home.mode = 'host'\n" + FILES)
    bind, *covers = of_home(found)
    assert isinstance(bind, Bind)
    assert (bind.source, bind.target, bind.read_only) == (str(home), "/home/user", False)
    assert Cover("/home/user/.config/torbox") in covers
    assert not any(isinstance(op, TextFile) for op in of_home(found))
    (warning,) = found.warnings
    assert "change and delete all" in warning


def test_torboxs_directories_are_covered_where_symlinks_lead(home: Path) -> None:
    (home / "dotfiles" / "torbox").mkdir(parents=True)
    (home / ".config").symlink_to("dotfiles")
    covers = [op.target for op in of_home(made(home, "home.mode = 'host'")) if isinstance(op, Cover)]
    assert "/home/user/dotfiles/torbox" in covers
    assert "/home/user/.config" not in covers


@pytest.mark.parametrize("mode", ["overlay", "host"])
def test_who_is_in_the_home_starts_where_they_are(home: Path, mode: str) -> None:
    (home / "work").mkdir()
    text = f"home.mode = '{mode}'"
    assert made(home, text, str(home / "work")).directory == "/home/user/work"
    assert made(home, text, str(home)).directory == "/home/user"
    assert made(home, text, f"{home}s").directory == "/home/user"
    assert made(home, "", str(home / "work")).directory == "/home/user"


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["overlay", "host"])
def test_homes_that_are_none_are_refused(home: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"home.mode = '{mode}'"
    for path in ("/", "/proc", "/tmp", "/etc", "/run/user/1000", "/var"):
        assert "never shared as a whole" in fault(path, text)
    (home / "file").touch()
    assert (
        fault(home / "file", text) == f"box: home.mode: your home directory, '{home}/file', is no directory"
    )
    assert "No such file" in fault(home / "no-such", text)
    own = home / ".local" / "share" / "torbox" / "homes"
    own.mkdir(parents=True)
    assert "lies in a directory of torbox's own" in fault(own, text, XDG_DATA_HOME=f"{home}/.local/share")
    (home / "round").symlink_to("round")
    assert "Too many levels of symbolic links" in fault(home / "round", text)
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert "is not yours" in fault(home, text)


def test_a_kept_home_in_a_kept_home_is_refused(home: Path) -> None:
    inside = f"{home}/.local/share/torbox/homes/other/home"
    assert "lies in a home that is kept" in fault(home, "home.mode = 'persist'", XDG_DATA_HOME=inside)


@pytest.mark.parametrize("name", ["a/b", "..", ".x", "-x", "a b", "x" * 65, "ä"])
def test_names_that_are_no_directory_of_torboxs_are_refused(home: Path, name: str) -> None:
    with pytest.raises(ProfileError, match="letters, digits, dots"):
        load.loads(f"home.name = '{name}'")
    profile = load.loads("home.mode = 'persist'", name)
    with pytest.raises(ProfileError, match="give the home another than the profile's"):
        plan.make(profile, command=("true",), upstream=None, environ={}, home=str(home))


def test_what_is_read_only_is_not_writable_as_part_of_ones_own_home(home: Path) -> None:
    (home / "a" / "b").mkdir(parents=True)
    told = fault(home, f"home.mode = 'host'\nmounts.read_only = ['{home}/a/b']")
    assert "could be written all the same: '~' of home.mode has it, too" in told
    found = made(home, "home.mode = 'host'\nmounts.read_only = ['~/a/b']")
    binds = [(op.target, op.read_only) for op in of_home(found) if isinstance(op, Bind)]
    # What is above is held in place, or it could be moved and another put there.
    assert binds == [("/home/user", False), ("/home/user/a", False), ("/home/user/a/b", True)]


@pytest.mark.parametrize("mode", ["overlay", "host"])
def test_a_share_whose_place_is_a_symlink_in_ones_own_home_is_refused(home: Path, mode: str) -> None:
    (home.parent / "books").mkdir()
    (home / "Books").symlink_to("../books")
    told = fault(home, f"home.mode = '{mode}'\nmounts.read_only = ['~/Books']")
    assert "a symlink is in its way" in told


# -- held, listed, removed -------------------------------------------------------------------------


@pytest.fixture
def store(home: Path) -> homes.Store:
    found = made(home, "home.mode = 'persist'").home
    assert found is not None
    return found


def test_what_is_missing_is_made_and_is_the_callers_alone(store: homes.Store) -> None:
    with homes.held(store):
        assert sorted(os.listdir(store.path)) == ["home", "lock", "nothing", "work"]
        for path in (os.path.dirname(store.path), store.path, f"{store.path}/home"):
            assert os.stat(path).st_mode & 0o777 == 0o700
    Path(store.path, "home").chmod(0)
    Path(store.path, "home", "kept").parent.chmod(0o755)
    with homes.held(store):
        assert os.stat(f"{store.path}/home").st_mode & 0o777 == 0o700


def test_one_sandbox_uses_a_home_at_a_time(store: homes.Store, home: Path) -> None:
    with homes.held(store):
        told = rf"'box' is used by another sandbox \(pid {os.getpid()}\)"
        with pytest.raises(InUseError, match=told), homes.held(store):
            pass
        with pytest.raises(InUseError, match="is used by another"):
            homes.reset("box", {}, str(home))
        assert homes.kept({}, str(home)) == [homes.Kept("box", store.path, ("home",), str(os.getpid()))]
    with homes.held(store):
        pass


def test_a_home_whose_torbox_was_killed_is_free(store: homes.Store) -> None:
    script = (
        "import sys, signal, os; from torbox import homes\n"
        "with homes.held(homes.Store('box', sys.argv[1], ('home',))): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert (
        subprocess.run([sys.executable, "-c", script, store.path], cwd=Path(__file__).parents[1]).returncode
        == -9
    )
    with homes.held(store):
        pass


@pytest.mark.parametrize("part", ["", "/home", "/nothing", "/lock"])
def test_files_and_symlinks_where_directories_must_be_stop_the_start(
    store: homes.Store, part: str, tmp_path: Path
) -> None:
    with homes.held(store):
        pass
    (tmp_path / "elsewhere").mkdir()
    path = Path(store.path + part)
    path.rename(tmp_path / "aside")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SetupError, match=f"use the home: {path}"), homes.held(store):
        pass
    assert os.listdir(tmp_path / "elsewhere") == []
    if part != "/lock":
        path.unlink()
        path.write_text("the user's")
        with pytest.raises(SetupError, match=r"Not a directory|File exists"), homes.held(store):
            pass
        assert path.read_text() == "the user's"


def test_a_directory_that_cannot_be_made_is_an_error_that_names_it(store: homes.Store, home: Path) -> None:
    (home / ".local").write_text("a file")
    with pytest.raises(SetupError, match=rf"use the home: {home}/.local"), homes.held(store):
        pass
    assert (home / ".local").read_text() == "a file"


def test_a_home_is_removed_whole_and_nothing_else(store: homes.Store, home: Path) -> None:
    (home / "dear").mkdir()
    with homes.held(store):
        (Path(store.path) / "home" / "out").symlink_to(home / "dear")
        (Path(store.path) / "home" / "a" / "b").mkdir(parents=True)
    base = os.path.dirname(store.path)
    os.makedirs(f"{base}/.removed-1/box/left")  # by a removal that was killed
    os.mkdir(f"{base}/other")
    homes.reset("box", {}, str(home))
    assert os.listdir(base) == ["other"]
    assert (home / "dear").is_dir()
    assert [each.name for each in homes.kept({}, str(home))] == ["other"]


@pytest.mark.parametrize("name", ["bxo", "../../../..", "", "/", ".removed-1"])
def test_what_is_no_kept_home_is_not_removed(store: homes.Store, home: Path, name: str) -> None:
    with homes.held(store):
        pass
    with pytest.raises(UsageError, match=r"there is no home called.*\ntorbox home list "):
        homes.reset(name, {}, str(home))
    assert os.path.isdir(store.path)


def test_without_any_there_are_none(home: Path) -> None:
    assert homes.kept({}, str(home)) == []
