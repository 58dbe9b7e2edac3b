# SPDX-License-Identifier: GPL-3.0-or-later
"""Can torbox run on this machine, and if not, what is to be done? Checks as data; the cli prints them.

What can be tried is tried (trial.py), as the user that torbox would run programs as. The one thing
sent anywhere is a request to a Tor that answers: to connect to a name under .invalid, which exists
nowhere (RFC 2606). That an exit says so shows that circuits work, and no one is visited.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import subprocess
from collections.abc import Mapping
from typing import NamedTuple

from torbox import bpf, this_machine, trial, userns
from torbox.errors import TorboxError, UpstreamError
from torbox.tor import launch, lease
from torbox.upstream import discover, registry
from torbox.upstream.url import UpstreamUrl

_OLDEST_KERNEL = (5, 12)  # mount_setattr(2); close_range(2) came with 5.9, time namespaces with 5.6
_APPARMOR = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
_CIRCUIT_TIMEOUT_S = 20.0  # an answer takes one or two; Tor itself gives up after 120
_NO_NAME = "torbox-doctor.invalid"
_HOST_UNREACHABLE = "0x04"  # as PySocks writes the reply by which Tor tells that a name does not exist
_STAND_IN = "nobody"  # for whom root tries the steps when it is not known who torbox is to run as


class Check(NamedTuple):
    """One thing looked at. `needed`: no sandbox starts without it. `advice`: what to do if not `ok`."""

    name: str
    ok: bool
    needed: bool
    detail: str
    advice: str = ""


def examine(upstream: str = "tor", environ: Mapping[str, str] | None = None) -> list[Check]:
    """Every check, in the order in which one would mend what is wrong. Takes 0.5 to 3 s.

    `upstream` is the URL to look for; UsageError if it is none. Forks: call it before threads are made.
    """
    environ = os.environ if environ is None else environ
    url = registry.parse_url(upstream)
    user_check, user = _user()
    steps = _steps(user)
    restricted = _apparmor(namespaces_work=any(step.name == trial.STEPS[0] and step.ok for step in steps))
    homes = [_homes(user)] if all(step.ok for step in steps) else []
    groups = trial.control_group(user)
    limited = Check(groups.step, not groups.fault, False, groups.fault or groups.detail, groups.advice)
    network = [_host_network(), *_upstream(url, environ)]
    return [_kernel(), _stack(), user_check, *steps, *homes, limited, *restricted, *network]


# -- the sandbox half ------------------------------------------------------------------------------


def _kernel() -> Check:
    system = os.uname()
    detail = f"{system.sysname} {system.release} on {system.machine}"
    version = tuple(int(number) for number in re.findall(r"\d+", system.release)[:2])
    if version < _OLDEST_KERNEL:
        oldest = ".".join(map(str, _OLDEST_KERNEL))
        return Check("kernel", False, True, detail, f"torbox needs Linux {oldest} or newer.")
    if system.machine not in bpf.MACHINES:
        known = " and ".join(bpf.MACHINES)
        return Check("kernel", False, True, detail, f"torbox knows the system calls of {known} only.")
    return Check("kernel", True, True, detail)


def _stack() -> Check:
    """Which stack was installed; nothing is imported for it."""
    found = importlib.util.find_spec("torbox.netstack.stack")
    if found is not None and (found.origin or "").endswith(".so"):
        return Check("network stack", True, False, "compiled")
    advice = "Install gcc and python3-dev, then pipx install --force . (unless you work on the sources)."
    return Check("network stack", False, False, "not compiled; connections cost twice the time", advice)


def _user() -> tuple[Check, pwd.struct_passwd | None]:
    """Who torbox would run programs as, and whom the trial is to become (None: nobody else)."""
    try:
        user = userns.resolve_user(None)
    except TorboxError as error:
        return Check("user", False, True, error.message, error.advice), _stand_in()
    name = user.pw_name if user is not None else _name_of(os.getuid())
    return Check("user", True, True, f"programs run as {name}"), user


def _stand_in() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(_STAND_IN)
    except KeyError:
        return None


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _steps(user: pwd.struct_passwd | None) -> list[Check]:
    outcomes = {outcome.step: outcome for outcome in trial.attempt(user)}
    checks = []
    for step in trial.STEPS:
        outcome = outcomes.get(step)
        if outcome is None:
            checks.append(Check(step, False, True, "not tried: a step before it failed"))
        elif outcome.fault:
            checks.append(Check(step, False, True, outcome.fault, outcome.advice))
        else:
            checks.append(Check(step, True, True, outcome.detail))
    return checks


def _homes(user: pwd.struct_passwd | None) -> Check:
    """What `home.mode` needs for all but `fake` and `host`."""
    outcome = trial.overlay(user)
    detail = f"none but fake ones and one's own: {outcome.fault}" if outcome.fault else outcome.detail
    return Check(outcome.step, not outcome.fault, False, detail, outcome.advice)


def _apparmor(*, namespaces_work: bool) -> list[Check]:
    """Ubuntu's restriction, where the kernel has it. Namespaces that fail by it have said so themselves."""
    try:
        with open(_APPARMOR) as file:
            restricted = file.read().strip() == "1"
    except OSError:
        return []
    if not restricted:
        return [Check("AppArmor", True, False, "does not restrict user namespaces")]
    detail = "restricts user namespaces"
    return [
        Check("AppArmor", namespaces_work, False, detail + (", but not torbox's" if namespaces_work else ""))
    ]


# -- the network half ------------------------------------------------------------------------------


def _host_network() -> Check:
    """How this machine reaches the Internet, which a Tor on it needs and torbox itself does not."""
    from pyroute2 import IPRoute  # 115 ms, and only here

    with IPRoute() as netlink:
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in netlink.get_links()}
        routes = [route for route in netlink.get_default_routes() if route.get_attr("RTA_OIF") in names]
        addresses = netlink.get_addr(scope=0)  # RT_SCOPE_UNIVERSE: no loopback, no link-local
    if not routes:
        advice = (
            "A Tor on this machine needs one; a Tor elsewhere is named with --upstream. It does not count for"
            " the exit code: sandboxes can be made without."
        )
        return Check("network", False, False, "this machine has no default route", advice)
    devices = {names[route.get_attr("RTA_OIF")] for route in routes}
    own = [
        f"{address.get_attr('IFA_ADDRESS')}/{address['prefixlen']}"
        for address in addresses
        if names.get(address["index"]) in devices
    ]
    return Check("network", True, False, f"default route by {', '.join(sorted(devices))}: {', '.join(own)}")


def _upstream(url: UpstreamUrl, environ: Mapping[str, str]) -> list[Check]:
    """The upstream named, or whichever Tor there is; a program that torbox could start does as well."""
    if url.has_place or url.scheme != "tor":
        return _named(url)
    program = _program(environ)
    found = discover.discover(url)
    if found is not None:
        return [program, Check("Tor", True, False, f"answers at {found}"), *_circuits(found)]
    own = lease.running(environ)
    if own is not None:
        percent, summary = own
        return [program, Check("Tor", True, False, f"torbox's own runs: {percent} %, {summary}")]
    places = ", ".join(str(place) for place in discover.USUAL_PLACES)
    if program.ok:
        if lease.would_wait_for_network(environ) and not this_machine.has_route():
            detail = f"none runs at {places}, and one of torbox's own would have no network"
            return [program, Check("Tor", False, False, detail)]
        return [program, Check("Tor", True, False, f"torbox will start its own, for none runs at {places}")]
    return [program, Check("Tor", False, True, f"none at {places}", program.advice)]


def _named(url: UpstreamUrl) -> list[Check]:
    try:
        found = discover.discover(url) or url
        registry.probe(found)
    except UpstreamError as error:
        return [Check("upstream", False, True, error.message, error.advice)]
    return [Check("upstream", True, True, f"{url} answers"), *_circuits(found)]


def _program(environ: Mapping[str, str]) -> Check:
    try:
        binary = launch.find_binary(environ)
    except UpstreamError as error:
        return Check("tor program", False, False, "not installed", error.advice)
    said = subprocess.run(
        [binary, "--version"], capture_output=True, text=True, errors="replace", check=False
    ).stdout
    return Check(
        "tor program", True, False, f"{binary}: {said.partition(chr(10))[0].rstrip('.') or 'no version'}"
    )


def _circuits(tor: UpstreamUrl) -> list[Check]:
    """Does a stream get to an exit? Asked by a client that is not torbox's own, so that no error is shared.

    That is PySocks, which reaches proxies by TCP only: nothing is said of a Tor at a Unix socket.
    """
    if tor.scheme != "tor" or not tor.host:
        return []
    import socks

    user = os.urandom(8).hex()  # a circuit of its own
    with socks.socksocket() as stream:
        stream.set_proxy(socks.SOCKS5, tor.host, tor.port, rdns=True, username=user, password=user)
        stream.settimeout(_CIRCUIT_TIMEOUT_S)
        try:
            stream.connect((_NO_NAME, 80))
        except OSError as error:  # PySocks wraps its own SOCKS5Error into another, by version
            if _HOST_UNREACHABLE not in str(error):
                return [_no_circuits(str(error))]
    return [Check("circuits", True, False, "an exit was reached")]


def _no_circuits(why: str) -> Check:
    advice = "See Tor's log: is it bootstrapped, is this machine online and its clock right?"
    return Check("circuits", False, False, f"no exit was reached: {why}", advice)
