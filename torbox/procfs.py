# SPDX-License-Identifier: GPL-3.0-or-later
"""What of /proc tells of the machine and not of the sandbox, and what stands in its place; proc(5).

A /proc of one's own is one's own for processes, mounts and the network alone. The rest is the host's: its
keys' numbers, disks, interrupts, boot line and boot id, which tell one machine from another. Those files are
covered by nothing, and so is whatever else a module has put there (ZFS its pools by name and the host's id,
in spl). What programs need to run and to show a load stays: cpuinfo, meminfo, stat, loadavg, vmstat, version,
filesystems. Where a kernel has no such file there is nothing to cover.

What tells of the machine in the directories of processes (mountinfo, timens_offsets) stays too: they come
and go with processes, and nothing can be mounted in what is not there yet. docs/decisions/0009 weighs it.

A covered /proc keeps a sandbox inside from mounting one of its own (the kernel's mount_too_revealing), which
bubblewrap and podman want to; a profile can leave it uncovered for them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from torbox.identity import BOOT_ID
from torbox.mounts import Cover, MountOp, Replacement

_FILES = (
    "bootconfig",
    "buddyinfo",
    "cgroups",
    "cmdline",
    "config.gz",
    "consoles",
    "crypto",
    "devices",
    "diskstats",
    "dma",
    "execdomains",
    "fb",
    "interrupts",
    "iomem",
    "ioports",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "locks",
    "mdstat",
    "misc",
    "modules",
    "mtrr",
    "pagetypeinfo",
    "partitions",
    "sched_debug",
    "schedstat",
    "slabinfo",
    "softirqs",
    "swaps",
    "sysrq-trigger",
    "timer_list",
    "version_signature",
    "vmallocinfo",
    "zoneinfo",
)
_DIRECTORIES = (
    "acpi",
    "asound",
    "bus",
    "driver",
    "dynamic_debug",
    "fs",  # mounted file systems by their disks' names
    "irq",
    "pressure",
    "scsi",
    "sys/dev",  # drives by name and serial number (cdrom, mac_hid, raid)
    "sys/kernel/spl",  # ZFS: the host's id
)
# What is left to be seen: the sandbox's own, and what tells a load or what kernel this is.
_SEEN = frozenset((
    *("cpuinfo", "filesystems", "loadavg", "meminfo", "stat", "uptime", "version", "vmstat"),
    *("sys", "sysvipc", "tty"),
))  # fmt: skip


def covers(proc: str = "/proc") -> list[MountOp]:
    """Operations for a /proc that is mounted already. `proc` has the same files."""
    names = dict.fromkeys((*_FILES, *_DIRECTORIES, *_others(proc)))
    return [
        *(Cover(f"/proc/{name}") for name in names),
        Replacement("/proc/sys/kernel/random/boot_id", f"{BOOT_ID}\n"),
    ]


def _others(proc: str) -> Iterable[str]:
    """What is there, and neither a process nor a symlink, which leads to the reader's own, nor to be seen."""
    with os.scandir(proc) as entries:
        names = {each.name for each in entries if not each.name.isdecimal() and not each.is_symlink()}
    return sorted(names - _SEEN)
