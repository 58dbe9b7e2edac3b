# SPDX-License-Identifier: GPL-3.0-or-later
"""Files, mounts and devices: nothing of the host's but what is shared, and no more right to it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from torbox.verify.probes.frame import Facts, probe, text_of

DEVICES = {
    "null",
    "zero",
    "full",
    "random",
    "urandom",
    "tty",
    "ptmx",
    "pts",
    "shm",
    "fd",
    "stdin",
    "stdout",
    "stderr",
}


@probe("files", "the caller's home, and everything else that is not shared")
def files(facts: Facts) -> Iterator[str]:
    for path in facts["files"]:
        if os.path.exists(path):
            yield f"{path} is there"
    for path in ("/etc/shadow", "/etc/ssh", "/root/.ssh", "/var/log", "/boot", "/run/user", "/var/lib/dpkg"):
        try:
            found = os.listdir(path) if os.path.isdir(path) else [text_of(path)]
        except OSError:
            continue
        if found and path not in facts["shared_paths"]:
            yield f"{path} can be read"
    if os.stat("/..").st_ino != os.stat("/").st_ino:
        yield "/.. leads out"


@probe("files", "the system is read-only")
def read_only(facts: Facts) -> Iterator[str]:
    for path in (
        "/usr",
        "/etc",
        "/",
        "/dev",
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/proc/sys/vm/drop_caches",
    ):
        try:
            if os.path.isdir(path):
                name = f"{path}/.torbox-verify"
                os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
                os.unlink(name)
            else:
                os.close(os.open(path, os.O_WRONLY))
        except OSError:
            continue
        yield f"{path} can be written"


@probe("files", "no mount takes setuid bits, and devices are where they belong")
def mounts(facts: Facts) -> Iterator[str]:
    for line in text_of("/proc/self/mounts").splitlines():
        _, target, _, options = line.split()[:4]
        flags = options.split(",")
        below_dev, below_proc = target.startswith("/dev/"), target.startswith("/proc/")
        if "nosuid" not in flags:
            yield f"{target} takes setuid bits"
        if "nodev" not in flags and not below_dev:
            yield f"{target} takes devices"
        if "noexec" not in flags and (below_dev or below_proc or target == "/proc"):
            yield f"{target} takes programs"
        if "ro" not in flags and below_proc:
            yield f"{target} can be written"


@probe("devices", "none but those that everybody has")
def devices(facts: Facts) -> Iterator[str]:
    for name in os.listdir("/dev"):
        if name not in DEVICES and name not in facts["devices"]:
            yield f"/dev/{name}"
    try:
        os.mknod("/tmp/.torbox-verify", 0o600 | 0o020000, os.makedev(1, 1))
    except OSError:
        return
    os.unlink("/tmp/.torbox-verify")
    yield "a device can be made"
