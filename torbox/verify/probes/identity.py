# SPDX-License-Identifier: GPL-3.0-or-later
"""Who and where: what tells one machine and its user from another."""

from __future__ import annotations

import os
from collections.abc import Iterator

from torbox.verify.probes.frame import Facts, probe, seen, text_of


@probe("identity", "names and numbers of this machine and its user")
def identity(facts: Facts) -> Iterator[str]:
    host = facts["host"]
    yield from (f"{what} is the host's" for what, told in (
        ("host name", os.uname().nodename), ("host name", said_by("/etc/hostname")),
        ("file of hosts", said_by("/etc/hosts")),
        ("NIS domain", said_by("/proc/sys/kernel/domainname")),
        ("machine-id", said_by("/etc/machine-id")),
        ("D-Bus machine-id", said_by("/var/lib/dbus/machine-id")),
        ("boot id", said_by("/proc/sys/kernel/random/boot_id")),
    ) if told and told == host.get(what))  # fmt: skip
    for path in ("/etc/passwd", "/etc/group", "/etc/hostname", "/proc/self/cgroup"):
        yield from (f"{path} tells {name}" for name in seen(facts, text_of(path)))
    yield from (
        f"/proc/self/mountinfo tells {name}" for name in seen(facts, _mounts_but(facts["shared_paths"]))
    )
    if any(not line.endswith(":/") for line in text_of("/proc/self/cgroup").splitlines()):
        yield "/proc/self/cgroup tells of the host's groups"
    if [os.getuid(), os.getgid()] != facts["ids"]:
        yield "the user's number"
    for kind, number in zip(("uid", "gid"), facts["ids"], strict=True):
        if any(int(line.split()[1]) != number for line in text_of(f"/proc/self/{kind}_map").splitlines()):
            yield f"/proc/self/{kind}_map tells the user's number"
    if os.environ.get("TZ") != "UTC" or os.path.realpath("/etc/localtime") not in facts["utc"]:
        yield "the time zone"
    if float(text_of("/proc/uptime").split()[0]) > facts["uptime_at_most"]:
        yield "the machine's uptime"


def _mounts_but(shared: list[str]) -> str:
    """mountinfo without what is mounted where the profile shares something: that tells where it is from."""
    lines = text_of("/proc/self/mountinfo").splitlines()
    return "\n".join(line for line in lines if _unescaped(line.split()[4]) not in shared)


def _unescaped(path: str) -> str:
    """Blanks and their like stand in octal there, proc_pid_mountinfo(5)."""
    for code in ("040", "011", "012", "134"):
        path = path.replace(f"\\{code}", chr(int(code, 8)))
    return path


def said_by(path: str) -> str:
    try:
        return text_of(path).strip()
    except OSError:
        return ""


@probe("identity", "nothing of the hardware: /sys, DMI, serial numbers, addresses of network cards")
def hardware(facts: Facts) -> Iterator[str]:
    for path in (
        "/sys/class/dmi/id",
        "/sys/class/net",
        "/sys/firmware",
        "/proc/scsi/scsi",
        "/proc/device-tree",
    ):
        if path not in facts["shared_paths"] and os.path.isdir(path) and os.listdir(path):
            yield path
    for path in (
        "/proc/partitions",
        "/proc/diskstats",
        "/proc/swaps",
        "/proc/modules",
        "/proc/cmdline",
        "/proc/interrupts",
    ):
        try:
            told = text_of(path).strip().splitlines()
        except OSError:
            continue
        if len(told) > 1 or (path.endswith("cmdline") and told):
            yield f"{path} can be read"
