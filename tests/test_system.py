# SPDX-License-Identifier: GPL-3.0-or-later
"""What every sandbox has is data, so it can be judged before anything is mounted."""

from __future__ import annotations

import os

from tests.support.directories import profile
from tests.support.people import Person
from torbox import memory, system
from torbox.mounts import Bind, Cover, Proc, Tmpfs
from torbox.profiles.checks import MEMORY


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
    for op in system.parts():
        if isinstance(op, Bind):
            assert not any(op.source == path or op.source.startswith(path + "/") for path in forbidden), op


def test_everything_of_the_host_is_read_only_but_a_few_devices() -> None:
    writable = {op.source for op in system.parts() if isinstance(op, Bind) and not op.read_only}
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
    bound = {op.source.removeprefix("/etc/") for op in system.parts() if isinstance(op, Bind)}
    assert not bound & telling


def test_run_tmp_and_shm_are_empty_and_proc_is_new() -> None:
    ops = system.parts()
    fresh = {op.target for op in ops if isinstance(op, Tmpfs)}
    assert {"/run", "/tmp", "/dev/shm", "/var/tmp", "/dev"} <= fresh
    assert Proc("/proc") in ops


def test_all_that_is_in_memory_together_is_at_most_half_of_it() -> None:
    sized = {op.target: op for op in system.parts() if isinstance(op, Tmpfs) and op.target != "/dev"}
    sized["~"] = system.memory("~", "~", {})
    assert sized.keys() == system.SIZES.keys() == set(MEMORY)
    assert sum(percent for percent, _ in system.SIZES.values()) <= 50
    assert all(op.size == memory.tmpfs_size(f"{system.SIZES[name][0]}%") for name, op in sized.items())
    assert all(op.files for op in sized.values())
    assert sum(op.files for op in sized.values()) * 1024 < 1 << 30  # bytes of the kernel's, in no size


HELD = """
import os, sys
memory = int(sys.argv[1])
for path in ('/home/user', '/tmp', '/dev/shm', '/var/tmp', '/run'):
    found = os.statvfs(path)
    print(path, round(100 * found.f_blocks * found.f_frsize / memory), found.f_files)
"""


def held(person: Person, *options: str) -> dict[str, tuple[int, int]]:
    """Percent of memory and number of files that each may hold, by its path, as the program sees it."""
    done = person.run(
        "run", "--upstream", "block", *options, "--", "python3", "-c", HELD, str(memory.total())
    )
    assert done.returncode == 0, done.stderr
    return {
        path: (int(percent), int(files)) for path, percent, files in map(str.split, done.stdout.splitlines())
    }


def test_a_program_cannot_fill_the_machines_memory_with_files(person: Person) -> None:
    usual = {path.replace("~", "/home/user"): bound for path, bound in system.SIZES.items()}
    assert held(person) == usual
    with profile('[mounts]\nsizes = { "~" = "40%", "/tmp" = "1m" }\n') as path:
        found = held(person, "--profile", path)
    assert found["/home/user"][0] == 40
    assert found["/home/user"][1] > usual["/home/user"][1] or os.sysconf("SC_PHYS_PAGES") < 800_000
    assert found["/tmp"][0] == 0
    assert found["/run"] == usual["/run"]


def test_certificates_of_the_machines_own_are_not_there(person: Person) -> None:
    covered = {op.target for op in system.parts() if isinstance(op, Cover)}
    assert {"/etc/ssl/private", "/etc/ssl/certs/ssl-cert-snakeoil.pem"} <= covered
    assert person.run("run", "--upstream", "block", "--", "cat", *sorted(covered)).stdout == ""
    script = "ls -A /etc/ssl/private; test -s /etc/ssl/certs/ca-certificates.crt && echo trusted"
    there = person.run("run", "--upstream", "block", "--", "sh", "-c", script)
    assert "trusted" in there.stdout.splitlines()[-1:] or not os.path.exists(
        "/etc/ssl/certs/ca-certificates.crt"
    )
