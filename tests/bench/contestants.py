# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is measured: how each starts a program behind its network stack, and where that finds the server.

    direct   loopback (no stack at all), torbox, slirp4netns, pasta: to a server on the host's loopback
    SOCKS    curl --socks5-hostname, torbox, nsproxy, proxychains4: to a far server by one proxy

All with the largest MTU, 65520, and otherwise as their manuals start them. pasta is started by an ordinary
user: started by root, Debian's of 2023 becomes nobody, may then not open its own /proc/self/uid_map, says
"Couldn't configure user mappings" and waits for ever.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.load import Figures, NotMeasured, Stack, called, measure
from tests.support.people import Person

MTU = "65520"
ATTACH = Path(__file__).with_name("attach.py")


@dataclass
class Contestant:
    """`prefix` goes before the program; `host` is the server's address there; `missing`: why it has none."""

    name: str
    prefix: Sequence[str] = ()
    host: str = "127.0.0.1"
    stack: Stack | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    missing: str = ""

    def run(self, command: Sequence[str], *, timeout_s: float, again: bool = False) -> Figures:
        """Run a client of load.c; see measure. NotMeasured."""
        self._needed()
        return measure(
            [*self.prefix, *command],
            self.stack,
            timeout_s=timeout_s,
            environment=dict(self.environment),
            again=again,
        )

    def output(self, command: Sequence[str], *, timeout_s: float) -> str:
        """What a program prints. NotMeasured if it fails or takes too long."""
        self._needed()
        try:
            done = subprocess.run(
                [*self.prefix, *command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                env=dict(self.environment),
                cwd="/",
            )
        except subprocess.TimeoutExpired:
            raise NotMeasured(f"not done within {timeout_s:g} s") from None
        if done.returncode:
            said = re.sub(r"\s+", " ", done.stderr.strip())[-160:]
            raise NotMeasured(f"exit code {done.returncode}: {said}")
        return done.stdout

    def _needed(self) -> None:
        if self.missing:
            raise NotMeasured(self.missing)


def _missing(program: str) -> str:
    return "" if shutil.which(program) else f"{program} is not installed"


def _torbox(person: Person, profile: Path, *options: str) -> tuple[str, ...]:
    return (*person.command("run", "-q", "--profile", str(profile), *options), "--")


def direct(person: Person, profile: Path, gateway: str) -> list[Contestant]:
    """To the host's loopback. `gateway` is this machine's, which pasta shows as the loopback; "" if none."""
    environment = person.environment
    python = person.command()[:-2]  # without "-m torbox"
    upstream = ("--upstream", "direct", "--host-loopback")
    return [
        Contestant("loopback", person.prefix, environment=environment),
        Contestant(
            "torbox", _torbox(person, profile, *upstream), "10.0.2.2", called("torbox-net"), environment
        ),
        Contestant(
            "slirp4netns",
            (*python, str(ATTACH), MTU),
            "10.0.2.2",
            called("slirp4netns"),
            environment,
            _missing("slirp4netns"),
        ),
        Contestant(
            "pasta",
            (*person.prefix, "pasta", "--config-net", "--mtu", MTU, "--"),
            gateway,
            called("passt", "pasta"),
            environment,
            _missing("pasta") or ("" if gateway else "this machine has no default route for it to copy"),
        ),
    ]


def proxied(person: Person, profile: Path, host: str, proxy_port: int, directory: Path) -> list[Contestant]:
    """To a far `host` by a SOCKS proxy at 127.0.0.1. curl speaks SOCKS itself, and does bulk alone."""
    environment = person.environment
    upstream = ("--upstream", f"socks5://127.0.0.1:{proxy_port}")
    chain = directory / "proxychains.conf"
    chain.write_text(f"strict_chain\n[ProxyList]\nsocks5 127.0.0.1 {proxy_port}\n")
    nsproxy = os.environ.get("NSPROXY") or shutil.which("nsproxy") or ""
    return [
        Contestant("curl", person.prefix, host, environment=environment),
        Contestant("torbox", _torbox(person, profile, *upstream), host, called("torbox-net"), environment),
        Contestant(
            "nsproxy",
            (*person.prefix, nsproxy, "-s", "127.0.0.1", "-p", str(proxy_port)),
            host,
            called("nsproxy"),
            environment,
            "" if nsproxy else "neither in PATH nor named by NSPROXY",
        ),
        Contestant(
            "proxychains4",
            (*person.prefix, "proxychains4", "-q", "-f", str(chain)),
            host,
            None,
            environment,
            _missing("proxychains4"),
        ),
    ]


def through_tor(person: Person, profile: Path, socks: str) -> list[Contestant]:
    """By names through one Tor, whose SOCKS port is `socks`."""
    environment = person.environment
    upstream = ("--upstream", f"tor://{socks}")
    return [
        Contestant("curl", person.prefix, environment=environment),
        Contestant(
            "torbox",
            _torbox(person, profile, *upstream),
            stack=called("torbox-net"),
            environment=environment,
        ),
    ]
