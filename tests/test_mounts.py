# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of mounts is data: what is in it can be said before anything is mounted."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from torbox import syscalls, userns
from torbox.errors import SetupError
from torbox.mounts import Bind, Directory, MountOp, Proc, Symlink, TextFile, Tmpfs, build, system


def test_no_bind_reaches_what_sockets_and_secrets_live_in() -> None:
    forbidden = (
        "/run",
        "/tmp",
        "/home",
        "/opt",
        "/root",
        "/var/run",
        "/var/lib",
        "/proc",
        "/sys",
        "/dev/shm",
    )
    for op in system():
        if isinstance(op, Bind):
            assert not any(op.source == path or op.source.startswith(path + "/") for path in forbidden), op


def test_everything_of_the_host_is_read_only_but_a_few_devices() -> None:
    writable = {op.source for op in system() if isinstance(op, Bind) and not op.read_only}
    assert writable == {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")}


def test_nothing_of_etc_that_names_the_machine_or_its_user_is_bound() -> None:
    telling = {
        "passwd",
        "group",
        "hosts",
        "hostname",
        "resolv.conf",
        "nsswitch.conf",
        "machine-id",
        "localtime",
    }
    telling |= {"shadow", "fstab", "ssh", "NetworkManager", "adjtime", "timezone"}
    bound = {op.source.removeprefix("/etc/") for op in system() if isinstance(op, Bind)}
    assert not bound & telling


def test_run_tmp_and_shm_are_empty_and_proc_is_new() -> None:
    ops = system()
    fresh = {op.target for op in ops if isinstance(op, Tmpfs)}
    assert {"/run", "/tmp", "/dev/shm", "/var/tmp", "/dev"} <= fresh
    assert Proc("/proc") in ops


# -- carried out, in namespaces of a process's own ---------------------------------------------------


def built(ops: Sequence[MountOp], look: Callable[[], str] = lambda: "built", limit: int | None = None) -> str:
    """What `look` finds in a root made of `ops`, or the SetupError. `limit`: of a file's size, in bytes."""
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            uid, gid = os.getuid(), os.getgid()
            syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
            userns.write_maps(os.getpid(), uid, gid)
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
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
