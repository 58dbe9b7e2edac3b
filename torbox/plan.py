# SPDX-License-Identifier: GPL-3.0-or-later
"""Profile + command line + environment → one frozen SandboxPlan: everything the sequence needs to know.

Nothing here changes the system; what a sandbox will be can be seen, compared and tested as a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torbox import identity, mounts, netns, shares, userns
from torbox.errors import UsageError
from torbox.mounts import MountOp, TextFile, Tmpfs
from torbox.profiles.model import Profile

PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin:/usr/games"
SHELL = "/bin/bash"
DIRECT = "direct"  # the upstream that some keys and options are for


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxPlan:
    """One sandbox. Addresses are texts; `hosts` maps names to addresses; `mtu` is in bytes; `queues` are the
    tun's, one worker process each."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str
    hostname: str
    mounts: tuple[MountOp, ...]
    queues: int
    mtu: int
    ipv6: bool
    spin: bool
    upstream: str
    routing: bool
    host_loopback: bool
    dns: str
    hosts: Mapping[str, tuple[str, ...]]


def make(
    profile: Profile,
    *,
    command: tuple[str, ...],
    upstream: str | None,
    routing: bool = False,
    host_loopback: bool = False,
    environ: Mapping[str, str],
    home: str,
) -> SandboxPlan:
    """The plan of `profile` for this command; `home` is the caller's, for paths that begin with ~.

    `upstream` goes before the profile's; `routing` and `host_loopback` are added to what it allows.

    Raises UsageError if there is nothing to run or an option does not go with the upstream, ProfileError
    for paths that cannot be shared.
    """
    argv = command or tuple(profile.command)
    if not argv or not argv[0]:
        raise UsageError("there is no command to run; say torbox run [OPTIONS] -- COMMAND [ARG…]")
    way_out = upstream if upstream is not None else profile.net.upstream
    is_direct = way_out.lower() == DIRECT
    for option, wanted in (("--enable-routing", routing), ("--host-loopback", host_loopback)):
        if wanted and not is_direct:
            raise UsageError(f"{option} goes with --upstream direct alone")
    user = profile.identity.user
    inside_home = f"/home/{user}"
    return SandboxPlan(
        argv=argv,
        environment=_environment(profile, environ, user, inside_home),
        directory=inside_home,
        hostname=profile.identity.hostname,
        mounts=_mounts(profile, user, inside_home, home, environ),
        queues=profile.net.queues,
        mtu=profile.net.mtu,
        ipv6=profile.net.ipv6,
        spin=profile.net.spin,
        upstream=way_out,
        routing=is_direct and (routing or profile.net.routing),
        host_loopback=is_direct and (host_loopback or profile.net.host_loopback),
        dns=profile.net.dns,
        hosts=profile.net.hosts,
    )


def _environment(profile: Profile, environ: Mapping[str, str], user: str, home: str) -> dict[str, str]:
    environment = {
        "HOME": home,
        "USER": user,
        "LOGNAME": user,
        "SHELL": SHELL,
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "TZ": "UTC",
    }
    for name in ("TERM", *profile.env.passed):
        if name in environ:
            environment[name] = environ[name]
    environment.update(profile.env.variables)
    return environment


def _mounts(
    profile: Profile, user: str, inside_home: str, home: str, environ: Mapping[str, str]
) -> tuple[MountOp, ...]:
    uid, gid = userns.UID_INSIDE, userns.GID_INSIDE
    hostname = profile.identity.hostname
    ops: list[MountOp] = [
        *mounts.system(),
        TextFile("/etc/hosts", identity.hosts(hostname, profile.net.hosts)),
        TextFile("/etc/hostname", f"{hostname}\n"),
        TextFile("/etc/resolv.conf", identity.resolv_conf(netns.GATEWAY_V4)),
        TextFile("/etc/nsswitch.conf", identity.nsswitch_conf()),
        TextFile("/etc/passwd", identity.passwd(user, uid, gid, inside_home, SHELL)),
        TextFile("/etc/group", identity.group(user, gid)),
        TextFile("/etc/machine-id", f"{identity.MACHINE_ID}\n", mode=0o444),
        Tmpfs(inside_home, mode=0o700),
    ]
    for name, text in profile.home.files.items():
        ops.append(TextFile(f"{inside_home}/{name}", text))
    return tuple(shares.add(profile, ops, environ=environ, home=home, inside_home=inside_home))
