# SPDX-License-Identifier: GPL-3.0-or-later
"""Who the sandbox says it is: the texts of its /etc, as pure functions.

Everything here is the same for every user of torbox unless a profile says otherwise, so that a
run does not stand out: the user is `user`, the host `host`, the machine-id one that all share.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# 128 random bits, drawn once for all users of torbox; machine-id(5) wants 32 lower-case hex digits.
MACHINE_ID = "9a27c1e0b5d84f3e8a61d2f47c0b93e5"
# Likewise, a random UUID (version 4), as random(4) has it.
BOOT_ID = "4c1fd1f6-2e0b-4d6a-9f57-1c8be3a7d902"


def hosts(hostname: str, entries: Mapping[str, Iterable[str]]) -> str:
    """hosts(5): the loopback names, the sandbox's own, then the profile's."""
    lines = [
        "127.0.0.1 localhost",
        "::1 localhost ip6-localhost ip6-loopback",
        f"127.0.1.1 {hostname}",
    ]
    lines += [f"{address} {name}" for name, addresses in entries.items() for address in addresses]
    return "\n".join(lines) + "\n"


def resolv_conf(gateway: str) -> str:
    """resolv.conf(5): the gateway answers every name, and nobody else is asked."""
    return f"nameserver {gateway}\noptions edns0\n"


def nsswitch_conf() -> str:
    """nsswitch.conf(5): files and DNS alone, so that no daemon of the host is ever asked for a name."""
    databases = ("passwd", "group", "shadow", "networks", "protocols", "services", "ethers", "rpc")
    lines = [f"{database}: files" for database in databases]
    lines.insert(3, "hosts: files dns")
    return "\n".join(lines) + "\n"


def passwd(user: str, uid: int, gid: int, home: str, shell: str) -> str:
    """passwd(5)."""
    return (
        "root:x:0:0:root:/root:/usr/sbin/nologin\n"
        f"{user}:x:{uid}:{gid}:{user}:{home}:{shell}\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    )


def group(user: str, gid: int) -> str:
    """group(5)."""
    return f"root:x:0:\n{user}:x:{gid}:\nnogroup:x:65534:\n"
