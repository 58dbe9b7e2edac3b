# SPDX-License-Identifier: GPL-3.0-or-later
"""Mount operations carried out, in namespaces of a process's own."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from torbox import syscalls, userns
from torbox.errors import SetupError
from torbox.mounts import Bind, Directory, MountOp, Overlay, Symlink, TextFile, Tmpfs, build


def built(
    ops: Sequence[MountOp],
    look: Callable[[], str] = lambda: "built",
    limit: int | None = None,
    before: Callable[[], None] = lambda: None,
) -> str:
    """What `look` finds in a root made of `ops`, or the SetupError. `limit`: of a file's size, in bytes.

    `before` is called in the new mount namespace.
    """
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            uid, gid = os.getuid(), os.getgid()
            syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
            userns.write_maps(os.getpid(), uid, gid)
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            before()
            build(ops)
            said = look()
        except SetupError as error:
            said = str(error)
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writable, said.encode())
        os._exit(0)
    os.close(writable)
    with open(readable) as file:
        said = file.read()
    os.waitpid(pid, 0)
    return said


def can_write(path: str) -> bool:
    try:
        os.close(os.open(f"{path}/new", os.O_WRONLY | os.O_CREAT))
    except OSError:
        return False
    return True


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A directory with a symlink to somewhere else in it, as a program inside might leave one."""
    (tmp_path / "work" / "real").mkdir(parents=True)
    (tmp_path / "secret" / "etc").mkdir(parents=True)
    (tmp_path / "work" / "link").symlink_to("../secret")
    return tmp_path / "work"


@pytest.mark.parametrize("way", ["link", "link/etc"])
def test_a_symlink_that_came_into_a_source_since_it_was_judged_stops_the_start(work: Path, way: str) -> None:
    told = built([Bind(f"{work}/{way}", "/x", origin="p.toml: mounts.read_only: ~/x")])
    assert told.startswith(
        "build the file system: p.toml: mounts.read_only: ~/x: Too many levels of symbolic links"
    )


@pytest.mark.parametrize("way", ["link", "link/etc", "link/new"])
def test_nothing_is_mounted_or_made_by_way_of_a_symlink_in_what_is_shared(work: Path, way: str) -> None:
    # The symlink leads to a directory of the sandbox's own, where things may be made.
    before = [Directory("/secret"), Directory("/secret/etc"), Bind(str(work), "/x", read_only=False)]
    for op in (
        Bind(str(work / "real"), f"/x/{way}"),
        Tmpfs(f"/x/{way}"),
        TextFile(f"/x/{way}/file", ""),
        Directory(f"/x/{way}"),
    ):
        assert built([*before, op]).startswith(f"build the file system: {op.target}: ")


def test_an_absolute_symlink_in_a_target_leads_nowhere_either(work: Path) -> None:
    (work / "root").symlink_to("/")
    told = built([Directory("/etc"), Bind(str(work), "/x"), Bind(str(work / "real"), "/x/root/etc")])
    assert "Too many levels of symbolic links" in told


def test_nothing_is_made_in_a_directory_of_the_hosts(work: Path) -> None:
    bind = Bind(str(work), "/x", read_only=False)
    for op in (
        Bind(str(work / "real"), "/x/new"),
        Bind(str(work / "real"), "/x/new/below"),
        Bind("/etc/services", "/x/new"),
        Tmpfs("/x/new"),
        TextFile("/x/new", ""),
        Symlink("/x/new", "real"),
        Directory("/x/new"),
        Directory("/x/real", mode=0),
    ):
        assert "/x/" in built([bind, op]), op
    assert sorted(os.listdir(work)) == ["link", "real"]
    assert (work / "real").stat().st_mode & 0o777


def test_a_mount_below_another_is_on_what_is_there(work: Path) -> None:
    ops = [Bind(str(work), "/x", read_only=False), Bind(f"{work}/real", "/x/real")]
    assert built(ops, lambda: f"{can_write('/x')} {can_write('/x/real')}") == "True False"


def test_a_mount_that_another_covers_is_an_error(work: Path) -> None:
    told = built([Bind(f"{work}/real", "/x/real", origin="p.toml: ~/x"), Bind(f"{work.parent}/secret", "/x")])
    assert told == "build the file system: p.toml: ~/x: No such file or directory"
    told = built([Bind(f"{work}/real", "/x"), Bind(str(work), "/x")])
    assert told == "build the file system: /x: something else covers it"
    told = built([Bind(f"{work}/real", "/x/real"), Bind(str(work), "/x", read_only=False)])
    assert told == "build the file system: /x/real: it is not read-only"


def test_a_source_that_is_not_there_is_an_error_unless_it_may_be_missing(work: Path) -> None:
    assert "No such file" in built([Bind("/no/such", "/x")])
    assert built([Bind("/no/such", "/x", optional=True)], lambda: str(os.listdir("/"))) == "[]"


def test_a_file_can_be_mounted_over_one_of_the_sandboxs_own(work: Path) -> None:
    (work / "file").write_text("the host's")
    ops = [TextFile("/etc/x", "the sandbox's"), Bind(f"{work}/file", "/etc/x")]
    assert built(ops, lambda: Path("/etc/x").read_text()) == "the host's"


def test_a_file_and_a_directory_are_not_mounted_over_each_other(work: Path) -> None:
    assert "/x" in built([Directory("/x"), Bind("/etc/services", "/x")])
    assert "/x" in built([TextFile("/x", ""), Bind(f"{work}/real", "/x")])


def test_a_file_is_whole_or_the_start_fails() -> None:
    file = TextFile("/x", "x" * 4096)
    assert built([file], lambda: str(len(Path("/x").read_text())), limit=4096) == "4096"
    told = built([file], limit=1024)
    assert told.startswith("build the file system: /x: File too large\n")
    assert "ulimit -f" in told
    assert "No space left" in built([Tmpfs("/d", size="4k"), TextFile("/d/x", "x" * 9000)])


# -- overlays --------------------------------------------------------------------------------------


@pytest.fixture
def layers(work: Path) -> Overlay:
    """A directory of the host below one for what is changed."""
    for name in ("upper", "overlay-work"):
        (work.parent / name).mkdir()
    (work / "file").write_text("old")
    return Overlay(
        "/x", str(work), f"{work.parent}/upper", f"{work.parent}/overlay-work", origin="p.toml: home"
    )


def change() -> str:
    Path("/x/file").write_text("new")
    (Path("/x/real") / "made").touch()
    Path("/x/link").unlink()
    return f"{Path('/x/file').read_text()} {sorted(os.listdir('/x'))}"


def test_what_is_changed_in_an_overlay_is_in_its_upper_layer_alone(work: Path, layers: Overlay) -> None:
    assert built([layers], change) == "new ['file', 'real']"
    assert (work / "file").read_text() == "old"
    assert os.listdir(work / "real") == []
    assert (work / "link").is_symlink()
    assert (work.parent / "upper" / "file").read_text() == "new"
    assert built([layers], lambda: Path("/x/file").read_text()) == "new"


def test_without_an_upper_layer_it_is_in_memory_and_bounded(work: Path) -> None:
    overlay = Overlay("/x", str(work), size="64k")
    (work / "file").write_text("old")
    before = sorted(os.listdir(work.parent))
    assert built([Directory("/run"), overlay], change) == "new ['file', 'real']"
    assert built([Directory("/run"), overlay], lambda: str(os.listdir("/run"))) == "[]"
    fill = "No space left"
    assert fill in built([overlay], lambda: str(Path("/x/big").write_bytes(b"x" * 100_000)))
    assert (work / "file").read_text() == "old"
    assert sorted(os.listdir(work.parent)) == before


def test_things_are_made_and_mounted_in_an_overlay_but_not_by_way_of_symlinks(
    work: Path, layers: Overlay
) -> None:
    ops = [layers, TextFile("/x/new/file", "text"), Bind(str(work.parent / "secret"), "/x/place")]
    assert built(ops, lambda: Path("/x/new/file").read_text()) == "text"
    assert not (work / "new").exists()
    for op in (TextFile("/x/link/file", ""), Bind(str(work / "real"), "/x/link/etc"), Tmpfs("/x/link")):
        assert "Too many levels of symbolic links" in built([layers, op])
    assert os.listdir(work.parent / "secret") == ["etc"]


def test_a_file_that_is_made_once_leaves_what_is_there_alone(work: Path, layers: Overlay) -> None:
    for target, found in (("/x/file", "old"), ("/x/other", "text")):
        op = TextFile(target, "text", once=True)
        assert built([layers, op], lambda target=target: Path(target).read_text()) == found
    assert "File exists" in built([layers, TextFile("/x/file", "text")])


def test_names_that_mean_something_in_options_of_mounts_mean_nothing(work: Path) -> None:
    odd = work / "a,b:c\\d e\n%41"
    for name in ("lower", "upper", "work"):
        (odd / name).mkdir(parents=True)
    (odd / "lower" / "file").write_text("old")
    overlay = Overlay("/x", *(str(odd / name) for name in ("lower", "upper", "work")))
    assert built([overlay], lambda: Path("/x/file").read_text()) == "old"


@pytest.mark.parametrize("which", ["lower", "upper", "work"])
def test_a_layer_is_not_opened_by_way_of_a_symlink(work: Path, layers: Overlay, which: str) -> None:
    told = built([replace(layers, **{which: f"{work}/link"})])
    assert told.startswith("build the file system: p.toml: home: Too many levels of symbolic links")
    told = built([replace(layers, **{which: f"{work}/no-such"})])
    assert told.startswith("build the file system: p.toml: home: No such file or directory")


def test_an_overlay_with_another_mount_below_it_is_refused_and_the_reason_told(layers: Overlay) -> None:
    def mount_one() -> None:
        syscalls.mount("none", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
        syscalls.mount("tmpfs", f"{layers.lower}/real", "tmpfs", 0)
        syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)  # for whom it is a locked one
        userns.write_maps(os.getpid(), userns.UID_INSIDE, userns.GID_INSIDE)

    told = built([layers], before=mount_one)
    assert told.startswith("build the file system: p.toml: home: Invalid argument\n")
    assert f"another is mounted below {layers.lower}" in told
