# SPDX-License-Identifier: GPL-3.0-or-later
"""One verification: bait outside, the probes inside, by the very command that users start programs with."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from torbox import identity, userns
from torbox.errors import SetupError
from torbox.mounts import Bind
from torbox.plan import SandboxPlan
from torbox.verify import bait, probes, report
from torbox.verify.report import Row

STEP = "verify"
DEADLINE_S = 90.0  # the probes take 2 s; a Tor that is started first, up to a minute
PROCESSES_MOST = 3  # init, the probes, and one that they fork
CALLERS_UMASK = 0o037  # of whoever starts torbox, and nobody's default
UPTIME_MOST_S = 300.0  # of the sandbox, while the machine's is more
QUICK = ("descriptors", "environment", "sockets", "processes", "privileges", "devices", "files", "names")
# Names that prove nothing when they are seen, and how many letters a name has that does.
COMMON_NAMES = ("root", "user", "host", "localhost", "debian", "ubuntu")
# Words of every sandbox's own files, which tell nothing of a caller called nobody who lives in /nonexistent.
SYNTHETIC = frozenset(
    re.split("[:\n]", identity.passwd("", 0, 0, "", "") + identity.group("", 0)),
)
SECRET_LEAST = 4


def verify(plan: SandboxPlan, options: Sequence[str], home: str, *, quick: bool = False) -> list[Row]:
    """Every probe's row, of a sandbox that `torbox run OPTIONS` makes. `plan` is what those options mean.

    `home` is the caller's. SetupError if the probes could not be made; what keeps the sandbox from
    starting is said by torbox itself, on standard error.
    """
    with bait.laid_out(os.environ) as laid:
        facts = {
            **laid.facts,
            **_of_this_machine(home, plan.hostname),
            **_of_the_plan(plan, laid),
            "areas": QUICK if quick else (),
        }
        command = [sys.executable, "-P", "-m", "torbox", "run", "-q", *options]
        # Files, so that a descriptor of the caller's own does not look like the pipe that is in its place.
        with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as said:
            told.write(json.dumps(facts).encode() + b"\n")
            told.seek(0)
            try:
                done = subprocess.run(
                    [*command, "--", _interpreter(), "-I", "-S", "-c", probes.program()],
                    stdin=told,
                    stdout=said,
                    pass_fds=laid.descriptors,
                    env={**os.environ, **laid.environment},
                    umask=CALLERS_UMASK,
                    timeout=DEADLINE_S,
                )
            except subprocess.TimeoutExpired as error:
                raise SetupError(STEP, 0, f"no end of the probes within {DEADLINE_S:g} s") from error
            said.seek(0)
            answer = said.read()
        laid.listen()
    try:
        rows = report.of_json(answer)
    except (ValueError, KeyError, TypeError) as error:
        detail = f"the probes ended with {done.returncode} and not in good order"
        raise SetupError(STEP, 0, detail, advice="What was said before this is why.") from error
    if laid.heard:
        rows.append(Row("network", "what came to this machine by UDP", tuple(laid.heard)))
    return rows


def _interpreter() -> str:
    """This Python, as the sandbox has it: what lies in /usr is there."""
    path = os.path.realpath(sys.executable)
    for candidate in (path, "/usr/bin/python3"):
        if candidate.startswith("/usr/") and os.access(candidate, os.X_OK):
            return candidate
    raise SetupError(STEP, 0, "there is no Python in /usr", advice="The probes need it: install python3.")


def _of_this_machine(home: str, hostname: str) -> dict[str, object]:
    """What of the host must not be seen inside, where it is called `hostname`."""
    user = pwd.getpwuid(os.getuid()).pw_name
    secrets = {"the user's name": user, "the home": home, "the host's name": os.uname().nodename}
    with open("/proc/uptime") as file:
        uptime_s = float(file.read().split()[0])
    has_clocks = os.path.exists("/proc/self/timens_offsets")
    return {
        "host": {
            "host name": os.uname().nodename if os.uname().nodename != hostname else "",
            "file of hosts": _said("/etc/hosts"),
            "NIS domain": _said("/proc/sys/kernel/domainname").removeprefix("(none)"),
            "machine-id": _said("/etc/machine-id"),
            "D-Bus machine-id": _said("/var/lib/dbus/machine-id"),
            "boot id": _said("/proc/sys/kernel/random/boot_id"),
        },
        "secrets": {
            what: each
            for what, each in secrets.items()
            if len(each) >= SECRET_LEAST and each.strip("/") not in COMMON_NAMES and each not in SYNTHETIC
        },
        "utc": sorted({os.path.realpath(f"/usr/share/zoneinfo/{name}") for name in ("UTC", "Etc/UTC")}),
        "uptime_at_most": UPTIME_MOST_S
        if has_clocks and uptime_s > 2 * UPTIME_MOST_S
        else uptime_s + DEADLINE_S,
        "processes_at_most": PROCESSES_MOST,
        "ids": (userns.UID_INSIDE, userns.GID_INSIDE),
        "umask": CALLERS_UMASK,
        "streams_are_files": True,
    }


def _of_the_plan(plan: SandboxPlan, laid: bait.Bait) -> dict[str, object]:
    """What the profile lets the program have, so that it is no leak."""
    binds = [op for op in plan.mounts if isinstance(op, Bind)]
    changed: dict[str, object] = {
        "variables": sorted(plan.environment),
        # What is shared of the desktop is in a runtime directory of the sandbox's own.
        "shared_paths": sorted([*(bind.target for bind in binds), *(["/run/user"] if plan.desktop else [])]),
        "shared_sockets": sorted(bind.target for bind in binds),
        "devices": sorted(os.path.basename(bind.target) for bind in binds if bind.device),
    }
    if plan.host_loopback:
        for key in ("tcp", "udp"):
            changed[key] = [pair for pair in laid.facts[key] if pair[0] not in bait.GATEWAYS]  # type: ignore[attr-defined]
    return changed


def _said(path: str) -> str:
    with contextlib.suppress(OSError), open(path) as file:
        return file.read().strip()
    return ""
