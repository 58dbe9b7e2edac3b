# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks of the sandbox that show in nothing but themselves: each test fails when just its lock is missing."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.people import Person
from tests.support.processes import descendants, wait_until_gone
from torbox import sandbox, system
from torbox.errors import SetupError
from torbox.mounts import Cover


def said(person: Person, *command: str, **how: Any) -> str:
    """What a program prints in a sandbox; `how` is the caller's umask and the like."""
    done = subprocess.run(
        person.command("run", "-q", "--upstream", "block", "--", *command),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=dict(person.environment),
        cwd="/",
        timeout=60,
        text=True,
        **how,
    )
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


@contextmanager
def sleeping(person: Person, *left_open: int) -> Iterator[subprocess.Popen[str]]:
    """Torbox while its program sleeps."""
    process = subprocess.Popen(
        person.command("run", "-q", "--upstream", "block", "--", "sh", "-c", "echo UP; exec sleep 1000"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(person.environment),
        cwd="/usr",
        text=True,
        pass_fds=left_open,
        start_new_session=True,
    )
    assert process.stdout is not None
    below: set[int] = set()
    with process.stdout:
        try:
            assert process.stdout.readline() == "UP\n"
            below = descendants(process.pid)
            yield process
        finally:
            process.kill()
            process.wait()
            for pid in below:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def named(pids: set[int], name: str) -> int:
    (found,) = (pid for pid in pids if Path(f"/proc/{pid}/comm").read_text() == f"{name}\n")
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("kind", ["user", "net", "uts", "mnt", "ipc", "pid", "cgroup", "time"])
def test_the_program_has_a_namespace_of_every_kind_of_its_own(person: Person, kind: str) -> None:
    inside = said(person, "readlink", f"/proc/self/ns/{kind}").strip()
    assert inside.startswith(f"{kind}:[")
    assert inside != os.readlink(f"/proc/self/ns/{kind}")


def test_no_mount_takes_setuid_bits_and_only_devices_that_are_meant_are_devices(person: Person) -> None:
    mounts = {}
    for line in said(person, "cat", "/proc/self/mounts").splitlines():
        _, target, kind, options = line.split()[:4]
        mounts[target] = (kind, set(options.split(",")))
    assert {target for target, (_, options) in mounts.items() if "nosuid" not in options} == set()
    devices = {target for target, (_, options) in mounts.items() if "nodev" not in options}
    assert devices == {
        "/dev/pts",
        *(f"/dev/{n}" for n in ("null", "zero", "full", "random", "urandom", "tty")),
    }
    writable = {target for target, (_, options) in mounts.items() if "rw" in options}
    own = {"/tmp", "/run", "/var/tmp", "/dev/shm", "/home/user", "/proc"}
    assert writable == own | devices
    assert {mounts[target][0] for target in own} == {"tmpfs", "proc"}
    not_executable = {target for target, (_, options) in mounts.items() if "noexec" in options}
    telling = {op.target for op in system.parts() if isinstance(op, Cover)}
    covered = {target for target in mounts if target.startswith("/proc/") or target in telling}
    assert covered
    assert not_executable == devices | covered | {"/dev/shm", "/proc"}


def test_hosts_and_machine_id_are_the_sandboxs_own(person: Person) -> None:
    text = said(person, "cat", "/etc/hosts", "/etc/hostname", "/etc/machine-id")
    assert text.splitlines() == [
        "127.0.0.1 localhost",
        "::1 localhost ip6-localhost ip6-loopback",
        "127.0.1.1 host",
        "host",
        "9a27c1e0b5d84f3e8a61d2f47c0b93e5",
    ]


def test_the_callers_umask_does_not_get_in(person: Person) -> None:
    assert said(person, "sh", "-c", "umask", umask=0o077) == "0022\n"


def test_the_machines_domain_does_not_get_in(person: Person) -> None:
    if os.geteuid():
        pytest.skip("needs root: a machine with a NIS domain is made")
    script = 'echo secret.example > /proc/sys/kernel/domainname && exec "$@"'
    machine = ["unshare", "--uts", "sh", "-c", script, "sh"]
    show = ("cat", "/proc/sys/kernel/domainname")
    command = [*machine, *person.command("run", "-q", "--upstream", "block", "--", *show)]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(person.environment), cwd="/")
    assert done.stdout == "(none)\n", done.stderr


def test_no_process_of_the_sandbox_keeps_what_its_caller_left_open(person: Person) -> None:
    if os.geteuid():
        pytest.skip("needs root: the descriptors of undumpable processes are read")
    with open("/etc/os-release") as left_open, sleeping(person, left_open.fileno()) as process:
        below = descendants(process.pid)
        assert len(below) == 4  # holder, init, program, worker
        for pid in below:
            links = {}
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(FileNotFoundError):  # a module that is being imported just then
                    links[descriptor.name] = os.readlink(descriptor)
            assert {"0", "1", "2"} <= links.keys()
            assert os.path.realpath("/etc/os-release") not in links.values(), (pid, links)
        worker = named(below, "torbox-net")
        for stream in (0, 1, 2):
            assert os.readlink(f"/proc/{worker}/fd/{stream}") == "/dev/null"
        assert os.readlink(f"/proc/{worker}/cwd") == "/"


def test_the_worker_cannot_be_read_by_the_callers_other_programs(person: Person) -> None:
    with sleeping(person) as process:
        worker = named(descendants(process.pid), "torbox-net")
        assert Path(f"/proc/{worker}/cmdline").read_bytes().strip(b"\0") == b"torbox-net"
        assert os.stat(f"/proc/{worker}/environ").st_uid == 0  # proc(5): whose it is if it is undumpable


@pytest.mark.parametrize("who", ["init", "torbox-net"])
def test_a_stopped_process_dies_with_torbox_too(person: Person, who: str) -> None:
    # One that runs would notice by itself that its supervisor is gone; the kernel kills the other.
    with sleeping(person) as process:
        below = descendants(process.pid)
        os.kill(named(below, who), signal.SIGSTOP)
        process.kill()
        process.wait()
        wait_until_gone(below)


def test_the_program_dies_with_the_process_that_made_its_namespaces(person: Person) -> None:
    with sleeping(person) as process:
        below = descendants(process.pid)
        os.kill(parent_of(named(below, "init")), signal.SIGKILL)
        assert process.wait(timeout=20) == 125
        wait_until_gone(below)


def test_a_working_directory_outside_of_the_root_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "chdir", lambda _path: None)
    monkeypatch.setattr(os, "getcwd", lambda: "(unreachable)/home")
    with pytest.raises(SetupError, match="outside the sandbox"):
        sandbox._enter_working_directory(cast(Any, SimpleNamespace(directory="/home")))


def test_becoming_a_user_drops_every_group(person: Person) -> None:
    if os.geteuid():
        pytest.skip("needs root: torbox is started with groups")
    groups = said(person, "grep", "Groups:", "/proc/self/status", extra_groups=[0, 4, 27])
    assert groups.split() == ["Groups:"]


BREAK = r"""
import importlib, os, sys
module, name, how, *arguments = sys.argv[1:]
def broken(*_, **__):
    if how == "fails":
        raise OSError(5, "broken on purpose")
    os._exit(1)
setattr(importlib.import_module(module), name, broken)
from torbox.cli import main
sys.exit(main(arguments))
"""
STEPS = (
    "torbox.privileges die_with_parent",
    "torbox.userns enter_namespaces",
    "torbox.userns start_clocks_anew",
    "torbox.netns open_tun",
    "torbox.netns configure",
    "torbox.relay.worker run_worker",
    "torbox.mounts build",
    "torbox.privileges hide_this_process",
    "torbox.privileges give_up",
    "torbox.init prepare",
    "torbox.seccomp install",
)


@pytest.mark.parametrize("how", ["fails", "dies"])
@pytest.mark.parametrize("step", STEPS)
def test_when_a_step_fails_or_its_process_dies_nothing_runs(person: Person, step: str, how: str) -> None:
    python = person.command()[:-2]
    arguments = ("run", "-q", "--upstream", "block", "--", "echo", "RAN")
    done = subprocess.run(
        [*python, "-c", BREAK, *step.split(), how, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=dict(person.environment),
        cwd="/",
        timeout=60,
        text=True,
    )
    assert done.stdout == ""
    if step.endswith("install") and how == "dies":
        assert (
            done.returncode == 1
        )  # its own end before it became the program: the program's, as init sees it
    else:
        assert done.returncode == 125, done.stderr
        # Not by what watches over a worker that serves already: nothing was started beside this one.
        stage = "start the network stack: " if "run_worker" in step else ""
        assert done.stderr.startswith(f"torbox: {stage}")
        assert "Traceback" not in done.stderr


def test_when_the_user_cannot_be_mapped_nothing_runs(person: Person) -> None:
    python = person.command()[:-2]
    arguments = ("run", "-q", "--upstream", "block", "--", "echo", "RAN")
    done = subprocess.run(
        [*python, "-c", BREAK, "torbox.userns", "write_maps", "fails", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=dict(person.environment),
        cwd="/",
        timeout=60,
        text=True,
    )
    assert (done.returncode, done.stdout) == (125, "")


def test_nobody_inside_mounts_the_control_groups(person: Person) -> None:
    attempt = (
        "import ctypes; print(*(ctypes.CDLL(None).unshare(0x10000000 | each) for each in (0x02000000, 0)))"
    )
    assert said(person, "python3", "-c", attempt).split() == ["-1", "0"]  # but a user namespace is to be had
    # The first of these takes a limit away, where it can; that of all above it stays.
    shell = "echo 9 > /proc/sys/user/max_cgroup_namespaces; unshare -C true || unshare -UC true || echo none"
    assert said(person, "unshare", "-Ur", "sh", "-c", shell) == "none\n"
    mount = "mkdir /tmp/groups && mount -t cgroup2 none /tmp/groups || echo refused"
    assert said(person, "unshare", "-Urm", "sh", "-c", mount) == "refused\n"
