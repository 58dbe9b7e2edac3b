# SPDX-License-Identifier: GPL-3.0-or-later
"""What every sandbox has, as mount operations: programs of the host, and everything else empty or its own.

Whatever a sandboxed program may fill is in memory and bounded. A full one fails with ENOSPC, as a full
disk does; all of them, filled, leave the machine half of its memory (tmpfs(5): without a size each would
take half). A file costs the kernel about 1 KiB that no size counts, so their number is bounded too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from torbox.memory import tmpfs_size
from torbox.mounts import Bind, Cover, Devpts, Directory, MountOp, Proc, ReadOnly, Symlink, Tmpfs

HOME = "~"  # the home directory's name among SIZES, whatever its path
# In percent of memory, and files; the sum is what all of them can take together.
SIZES = {
    HOME: (20, 400_000),  # downloads, caches of browsers, a virtualenv or node_modules
    "/tmp": (15, 200_000),  # what is built, unpacked or played on the way
    "/dev/shm": (10, 20_000),  # buffers that processes share: few, large; browsers' are some 100 MB
    "/var/tmp": (4, 50_000),
    "/run": (1, 10_000),  # sockets, locks, pids
}

# What of the host's /etc programs need to run at all; none of it names the machine or its user.
_ETC = (
    "alternatives",
    "bash.bashrc",
    "bash_completion.d",
    "ca-certificates",
    "ca-certificates.conf",
    "chromium",
    "chromium.d",
    "crypto-policies",
    "debian_version",
    "fonts",
    "gai.conf",
    "gtk-3.0",
    "host.conf",
    "inputrc",
    "java-17-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "login.defs",
    "magic",
    "mailcap",
    "mime.types",
    "nanorc",
    "os-release",
    "pki",
    "profile",
    "profile.d",
    "protocols",
    "python3",
    "rpc",
    "services",
    "shells",
    "ssl",
    "terminfo",
    "vim",
    "wgetrc",
    "xdg",
)
# What in those is the machine's own all the same: keys, and certificates that name it or whose it is.
_TELLING = (
    "/etc/pki/consumer",
    "/etc/pki/entitlement",
    "/etc/pki/tls/certs/localhost.crt",  # mod_ssl's
    "/etc/pki/tls/private",
    "/etc/ssl/certs/ssl-cert-snakeoil.pem",  # Debian's, in the name of the host
    "/etc/ssl/private",
)
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


def memory(name: str, target: str, sizes: Mapping[str, str], mode: int = 0o755) -> Tmpfs:
    """The file system in memory that is called so in SIZES. `sizes` is the profile's, as in tmpfs(5)."""
    executable = name != "/dev/shm"
    if name in sizes:  # who asks for more room gets as many files as the kernel gives by default
        return Tmpfs(target, mode=mode, size=tmpfs_size(sizes[name]), executable=executable)
    percent, files = SIZES[name]
    return Tmpfs(target, mode=mode, size=tmpfs_size(f"{percent}%"), files=files, executable=executable)


def parts(sizes: Mapping[str, str] | None = None) -> list[MountOp]:
    """All but the home, in order. `sizes`: file systems in memory whose size is not to be the usual one."""
    sizes = sizes or {}
    ops: list[MountOp] = [Bind(os.path.realpath("/usr"), "/usr")]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = f"/{name}"
        if os.path.islink(path):
            ops.append(Symlink(path, os.readlink(path).lstrip("/")))
        else:
            ops.append(_of_the_host(path))
    ops += [
        Directory("/etc"),
        *(_of_the_host(f"/etc/{name}") for name in _ETC),
        Symlink("/etc/localtime", "/usr/share/zoneinfo/UTC"),
        Symlink("/etc/mtab", "/proc/self/mounts"),
        Tmpfs("/dev", size="64k"),
        *(Bind(f"/dev/{name}", f"/dev/{name}", read_only=False, device=True) for name in _DEVICES),
        Devpts("/dev/pts"),
        Symlink("/dev/ptmx", "pts/ptmx"),
        memory("/dev/shm", "/dev/shm", sizes, mode=0o1777),
        Symlink("/dev/fd", "/proc/self/fd"),
        Symlink("/dev/stdin", "/proc/self/fd/0"),
        Symlink("/dev/stdout", "/proc/self/fd/1"),
        Symlink("/dev/stderr", "/proc/self/fd/2"),
        ReadOnly("/dev"),
        Proc("/proc"),
        memory("/tmp", "/tmp", sizes, mode=0o1777),
        memory("/run", "/run", sizes),
        Directory("/var"),
        Symlink("/var/run", "/run"),
        Directory("/var/lib"),
        Directory("/var/cache"),
        _of_the_host("/var/cache/fontconfig"),
        memory("/var/tmp", "/var/tmp", sizes, mode=0o1777),
        Directory("/root", mode=0o700),
        *(Cover(path) for path in _TELLING if not os.path.islink(path)),
    ]
    return ops


def _of_the_host(path: str) -> Bind:
    """A path that is a symlink in some distributions, and that only the administrator can have made one."""
    return Bind(os.path.realpath(path), path, optional=True)
