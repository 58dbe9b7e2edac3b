# SPDX-License-Identifier: GPL-3.0-or-later
"""`torbox run` and `torbox shell`: from the options to the program's exit code."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator
from errno import ENOENT
from pathlib import Path
from typing import TYPE_CHECKING

from torbox import (
    allowance,
    homes,
    limits,
    names,
    network,
    plan,
    privileges,
    sandbox,
    shares,
    streams,
    userns,
)
from torbox.allowance import Allowance
from torbox.cli.messages import say
from torbox.cli.progress import BootstrapProgress
from torbox.errors import CommandError, UsageError
from torbox.plan import SandboxPlan
from torbox.profiles import load
from torbox.supervisor import Supervisor, catch_signals
from torbox.tty import Terminal

if TYPE_CHECKING:
    from torbox.cgroup import Group

_LOCKED = "direct is locked: nothing leaves without --enable-routing or --host-loopback"
_DESKTOP_ENDED = (
    "what stands between the program and the session has ended (the X server, the session bus or the sound"
    " server, or torbox's own process in between)"
)
_TOR_ENDED = "the Tor that torbox had started has ended: nothing leaves this sandbox any more"


def run(options: argparse.Namespace) -> int:
    """Run one program to its end."""
    command = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
    if options.command == "run" and "" in command[:1]:
        raise UsageError("the command is empty")
    if options.json and not options.dry_run:
        raise UsageError("--json goes with --dry-run alone")
    if options.verify and options.dry_run:
        raise UsageError("--dry-run starts nothing, so there is nothing to --verify")
    user = userns.resolve_user(options.user, f"torbox {options.command}")
    if user is not None:
        userns.become(user)
    if options.verify:
        from torbox.cli import verify

        verify.hold_or_stop(options)
    home = os.path.expanduser("~")
    the_plan = plan_of(options, tuple(command), home, pcap=options.pcap)
    if options.dry_run:
        from torbox.cli import dry_run

        return dry_run.show(the_plan, as_json=options.json)
    with contextlib.ExitStack() as stack:
        if options.name is not None:
            stack.enter_context(names.claim(options.name, os.environ, home))
        if the_plan.desktop is not None and (number := the_plan.desktop.only_display) is not None:
            stack.enter_context(names.claim_display(number, os.environ, home))
        capture = None
        if the_plan.pcap:
            from torbox import capture_file

            capture = stack.enter_context(capture_file.created(the_plan.pcap))
        progress = stack.enter_context(
            contextlib.closing(BootstrapProgress(quiet=options.quiet, verbose=options.verbose))
        )
        upstream = stack.enter_context(
            contextlib.closing(network.find_upstream(the_plan.upstream, progress.update))
        )
        progress.close()
        if the_plan.is_locked and not options.quiet:
            say(_LOCKED)
        if options.verbose:
            say(f"upstream: {upstream.url}")
            say(f"program: {' '.join(the_plan.argv)}")
        missing = _Missing()
        session = None
        if the_plan.desktop is not None:
            from torbox import desktop

            for line in the_plan.desktop.lines() if options.verbose else ():
                say(line)
            session = stack.enter_context(
                desktop.opened(the_plan.desktop, the_plan.allow_missing, missing.tell)
            )
        workers = stack.enter_context(
            contextlib.closing(network.Workers(the_plan, upstream.url, missing.tell))
        )
        if capture is not None:
            workers.capture = capture.descriptor
        if the_plan.home is not None:
            stack.enter_context(homes.held(the_plan.home))
        for warning in () if options.quiet else the_plan.warnings:
            say(f"warning: {warning}")
        group, in_force, why = None, the_plan.limits, ""
        if in_force.wants_group:
            group, in_force, why = stack.enter_context(_group(the_plan, missing.tell))
        if group is None and (less := limits.shortfall(in_force, why)) and not options.quiet:
            say(f"warning: {less}")
        if options.verbose:
            say(f"limits: {limits.describe(in_force, '' if group is None else group.path)}")
        terminal = Terminal.of_this_process()
        its_streams = streams.open_streams()
        signals = catch_signals()
        try:
            running = sandbox.start(the_plan, its_streams, terminal, workers.start, missing.tell, group)
        except CommandError as error:
            if error.errno == ENOENT and "/" in error.command:
                from torbox.cli import not_there

                error.advice = not_there.advice(error.command, the_plan)
            raise
        if capture is not None:
            capture.keep()
        privileges.settle()
        if session is not None:
            session.take_away_names()
        supervisor = Supervisor(running, its_streams, signals, terminal, workers.pids, workers.last_words)
        if upstream.lease is not None:
            supervisor.watch(upstream.lease.fileno(), lambda: say(_TOR_ENDED))
        if session is not None and session.watched is not None:
            supervisor.watch(session.watched, lambda: say(_DESKTOP_ENDED))
        try:
            return supervisor.run()
        finally:
            if capture is not None:
                workers.finish()


def plan_of(
    options: argparse.Namespace, command: tuple[str, ...], home: str, *, pcap: str = ""
) -> SandboxPlan:
    """What these options mean for this command; `home` is the caller's. UsageError, ProfileError."""
    profile = load.load(options.profile, os.environ, Path(home))
    if profile.refuse:
        raise UsageError(f"{profile.where('refuse')}: {profile.refuse.strip()}")
    return plan.make(
        profile,
        command=command,
        upstream=options.upstream,
        routing=options.enable_routing,
        host_loopback=options.host_loopback,
        pcap=pcap,
        share=options.share,
        directory=shares.current_directory(),
        allow_missing=options.allow_missing,
        environ=os.environ,
        home=home,
    )


@contextlib.contextmanager
def _group(
    the_plan: SandboxPlan, tell: Callable[[str, str], None]
) -> Iterator[tuple[Group | None, limits.Limits, str]]:
    """The control group of a sandbox whose profile says how much it may use, where there can be one.

    And the limits in force: without processor time where only that cannot be had, and may be missing. And why
    there is no group.
    """
    from torbox import cgroup  # for these alone

    group, in_force, why = None, the_plan.limits, ""
    try:
        group = cgroup.make(in_force)
    except cgroup.NoGroup as error:
        why = str(error)
    if group is None and in_force.cpu:
        with Allowance(the_plan.allow_missing, tell).of("cpu-limit"):
            limits.see_whether_rlimits_do(in_force, why)
        in_force = in_force._replace(cpu=0)
        with contextlib.suppress(cgroup.NoGroup):
            group = cgroup.make(in_force)
    try:
        yield group, in_force, why
    finally:
        if group is not None:
            group.close()


class _Missing:
    """Says once of each protection that is missing; several processes may find it so."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def tell(self, name: str, why: str) -> None:
        if name not in self._said:
            self._said.add(name)
            say(allowance.sentence(name, why))
