# SPDX-License-Identifier: GPL-3.0-or-later
"""What of /proc tells of the machine is covered, and stays what it was for who wants a /proc inside."""

from __future__ import annotations

from pathlib import Path

from tests.support.directories import profile
from tests.support.people import Person
from torbox.identity import BOOT_ID
from torbox.mounts import Cover, Replacement
from torbox.procfs import covers

TOLD = """
for name in names.split():
    path = '/proc/' + name
    try:
        told = os.listdir(path) if os.path.isdir(path) else open(path, 'rb').read(1)
    except FileNotFoundError:
        continue
    if told: print(name)
for path in ('/proc/sysrq-trigger', '/proc/sys/kernel/random/boot_id'):
    try: open(path, 'r+b').write(b'x')
    except OSError: continue
    if os.path.exists('/proc/sysrq-trigger') and path.endswith('boot_id'): print('WROTE', path)
print(open('/proc/sys/kernel/random/boot_id').read().strip())
"""


def inside(person: Person, script: str, *options: str) -> str:
    done = person.run("run", "--upstream", "block", *options, "--", "python3", "-c", script)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_telling_files_are_empty_and_the_boot_id_is_everybodys(person: Person) -> None:
    names = " ".join(op.target.removeprefix("/proc/") for op in covers() if isinstance(op, Cover))
    assert inside(person, f"import os; names = '{names}'\n{TOLD}") == BOOT_ID
    assert Path("/proc/sys/kernel/random/boot_id").read_text().strip() != BOOT_ID


def test_what_programs_need_to_show_a_load_is_there(person: Person) -> None:
    names = ("cpuinfo", "meminfo", "stat", "loadavg", "vmstat", "version", "filesystems", "uptime")
    assert inside(person, f"print(all(open('/proc/' + n).read() for n in {names}))") == "True"


def test_only_a_proc_that_is_not_covered_lets_a_sandbox_inside_mount_its_own(person: Person) -> None:
    nested = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "true")
    assert person.run("run", "--upstream", "block", "--", *nested).returncode == 1
    with profile('extends = "default"\n[mounts]\ncover_proc = false\n') as path:
        done = person.run("run", "--upstream", "block", "--profile", path, "--", *nested)
    assert done.returncode == 0


def test_the_boot_id_is_a_replacement_and_everything_else_is_nothing() -> None:
    assert [op.target for op in covers() if isinstance(op, Replacement)] == [
        "/proc/sys/kernel/random/boot_id"
    ]
    assert all(op.target.startswith("/proc/") for op in covers())


def test_what_nobody_here_has_heard_of_is_covered_too(tmp_path: Path) -> None:
    for name in ("1", "4711", "spl", "stat"):
        (tmp_path / name).mkdir()
    (tmp_path / "hostid").write_text("of a module that comes next year")
    (tmp_path / "device-tree").symlink_to("/sys/firmware")
    usual = {op.target for op in covers(str(tmp_path)) if isinstance(op, Cover)}
    assert {"/proc/spl", "/proc/hostid"} <= usual
    assert not {"/proc/1", "/proc/4711", "/proc/stat", "/proc/device-tree"} & usual


def test_nothing_is_seen_but_what_is_meant_to_be(person: Person) -> None:
    script = """
import os
for name in os.listdir('/proc'):
    path = '/proc/' + name
    if name.isdigit() or os.path.islink(path): continue
    try: told = os.listdir(path) if os.path.isdir(path) else open(path, 'rb').read(1)
    except OSError: continue
    if told: print(name)
"""
    load = {"cpuinfo", "filesystems", "loadavg", "meminfo", "stat", "uptime", "version", "vmstat"}
    assert set(inside(person, script).split()) <= load | {"sys", "sysvipc", "tty"}
