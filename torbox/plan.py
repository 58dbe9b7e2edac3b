# SPDX-License-Identifier: GPL-3.0-or-later
"""Profile + command line + environment → one frozen SandboxPlan: everything the sequence needs to know.

Nothing here changes the system; what a sandbox will be can be seen, compared and tested as a value.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torbox import allowance, homes, identity, limits, netns, procfs, shares, system, userns, whereabouts
from torbox.errors import UsageError
from torbox.limits import Limits
from torbox.mounts import Bind, MountOp, TextFile
from torbox.profiles.desktop import Desktop
from torbox.profiles.model import Profile
from torbox.ways import is_in, lies_in_by_alias

if TYPE_CHECKING:
    from torbox.desktop import Shared

PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin:/usr/games"
SHELL = "/bin/bash"
_SCRIPTS = ".local/bin"  # scripts that a profile puts there go before the programs they are called after
DIRECT = "direct"  # the upstream that some keys and options are for


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxPlan:
    """One sandbox. Addresses are texts; `hosts` maps names to addresses; `mtu` is in bytes; `queues` are the
    tun's, one worker process each; `processors`: how many the program may use, 0 for all. `home` is what must
    be held while it runs, `warnings` what its user is to know before."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str
    hostname: str
    processors: int
    mounts: tuple[MountOp, ...]
    queues: int
    mtu: int
    ipv6: bool
    spin: bool
    upstream: str
    routing: bool
    host_loopback: bool
    pcap: str
    dns: str
    hosts: Mapping[str, tuple[str, ...]]
    home: homes.Store | None
    warnings: tuple[str, ...]
    limits: Limits = field(default_factory=Limits)
    allow_missing: frozenset[str] = frozenset()  # names of allowance.WHAT
    desktop: Shared | None = None

    @property
    def is_locked(self) -> bool:
        """The way out is one that lets nothing out unless it is told to, and it was not."""
        return self.upstream.lower() == DIRECT and not (self.routing or self.host_loopback)


def make(
    profile: Profile,
    *,
    command: tuple[str, ...],
    upstream: str | None,
    routing: bool = False,
    host_loopback: bool = False,
    pcap: str = "",
    share: Sequence[str] = (),
    directory: str = "",
    allow_missing: Sequence[str] = (),
    environ: Mapping[str, str],
    home: str,
) -> SandboxPlan:
    """The plan of `profile` for this command; `home` is the caller's, for paths that begin with ~.

    `share` holds what --share was given, for a caller whose working directory is `directory`.

    `pcap` names the file for a capture, "" for none.

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
    session = None
    if profile.desktop != Desktop():
        from torbox import desktop  # only who wants something of it waits for it

        session = desktop.find(profile.desktop, environ, home)
    found = homes.make(profile, environ, home, inside_home)
    shared = shares.add(
        profile,
        [*_mounts(profile, user, inside_home), *found.ops],
        environ=environ,
        home=home,
        inside_home=inside_home,
        options=share,
        directory=directory,
    )
    if not shared.directory and found.outside and f"{directory}/".startswith(f"{found.outside}/"):
        shared = shared._replace(directory=inside_home + directory.removeprefix(found.outside))
    if pcap and any(_can_be_written(op, os.path.join(directory, pcap)) for op in shared.ops):
        raise UsageError(
            f"--pcap: '{pcap}' is in what the program may write, so it could change what is captured"
        )
    start = shared.directory or inside_home
    return SandboxPlan(
        argv=argv,
        environment=_environment(profile, environ, user, inside_home, session),
        directory=start,
        hostname=profile.identity.hostname,
        processors=profile.identity.processors,
        mounts=tuple(shared.ops) if session is None else session.lay(shared.ops),
        queues=profile.net.queues,
        mtu=profile.net.mtu,
        ipv6=profile.net.ipv6,
        spin=profile.net.spin,
        upstream=way_out,
        routing=is_direct and (routing or profile.net.routing),
        host_loopback=is_direct and (host_loopback or profile.net.host_loopback),
        pcap=pcap,
        dns=profile.net.dns,
        hosts=profile.net.hosts,
        desktop=session,
        home=found.store,
        warnings=(
            *((found.warning,) if found.warning else ()),
            *(session.warnings if session is not None else ()),
            *whereabouts.warnings(command[1:], shared.ops, directory=directory, start=start),
        ),
        limits=_limits(profile),
        allow_missing=allowance.check(allow_missing),
    )


def _can_be_written(op: MountOp, path: str) -> bool:
    """Whether this shows the program a file of the host, absolute, for writing."""
    if not isinstance(op, Bind) or op.read_only:
        return False
    real = os.path.realpath(path)
    return is_in(real, op.source) or lies_in_by_alias(os.path.dirname(real), op.source)


def _environment(
    profile: Profile, environ: Mapping[str, str], user: str, home: str, session: Shared | None
) -> dict[str, str]:
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
    if any(name.startswith(f"{_SCRIPTS}/") for name in profile.home.files):
        environment["PATH"] = f"{home}/{_SCRIPTS}:{PATH}"
    if session is not None:
        environment.update(session.environment)
    environment.update(profile.env.variables)
    return environment


def _limits(profile: Profile) -> Limits:
    said = profile.limits
    usual = type(said)()
    return limits.of_profile(
        memory=said.memory,
        processes=said.processes,
        cpu=said.cpu,
        open_files=said.open_files,
        file_size=said.file_size,
        is_said=(said.memory, said.processes, said.cpu) != (usual.memory, usual.processes, usual.cpu),
    )


def _mounts(profile: Profile, user: str, inside_home: str) -> list[MountOp]:
    """All but the home and what is shared."""
    uid, gid = userns.UID_INSIDE, userns.GID_INSIDE
    hostname, sizes = profile.identity.hostname, profile.mounts.sizes
    ops: list[MountOp] = [
        *system.parts(sizes),
        *(procfs.covers() if profile.mounts.cover_proc else ()),
        TextFile("/etc/hosts", identity.hosts(hostname, profile.net.hosts)),
        TextFile("/etc/hostname", f"{hostname}\n"),
        TextFile("/etc/resolv.conf", identity.resolv_conf(netns.GATEWAY_V4)),
        TextFile("/etc/nsswitch.conf", identity.nsswitch_conf()),
        TextFile("/etc/passwd", identity.passwd(user, uid, gid, inside_home, SHELL)),
        TextFile("/etc/group", identity.group(user, gid)),
        TextFile("/etc/machine-id", f"{identity.MACHINE_ID}\n", mode=0o444),
    ]
    return ops
