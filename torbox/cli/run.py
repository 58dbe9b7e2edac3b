# SPDX-License-Identifier: GPL-3.0-or-later
"""`torbox run` and `torbox shell`: from the options to the program's exit code."""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path

from torbox import names, network, plan, sandbox, streams, userns
from torbox.cli.messages import say
from torbox.cli.progress import BootstrapProgress
from torbox.errors import CommandError, UsageError
from torbox.profiles import load
from torbox.supervisor import Supervisor, catch_signals
from torbox.tty import Terminal

_NOT_SHARED = "It is there on this machine, but not in the sandbox: share it by [mounts] in a profile."
_TOR_ENDED = "the Tor that torbox had started has ended: nothing leaves this sandbox any more"


def run(options: argparse.Namespace) -> int:
    """Run one program to its end."""
    command = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
    if options.command == "run" and "" in command[:1]:
        raise UsageError("the command is empty")
    user = userns.resolve_user(options.user)
    if user is not None:
        userns.become(user)
    home = os.path.expanduser("~")
    profile = load.load(options.profile, os.environ, Path(home))
    the_plan = plan.make(
        profile,
        command=tuple(command),
        upstream=options.upstream,
        routing=options.enable_routing,
        host_loopback=options.host_loopback,
        environ=os.environ,
        home=home,
    )
    with contextlib.ExitStack() as stack:
        if options.name is not None:
            stack.enter_context(names.claim(options.name, os.environ, home))
        progress = stack.enter_context(contextlib.closing(BootstrapProgress(quiet=options.quiet)))
        upstream = stack.enter_context(
            contextlib.closing(network.find_upstream(the_plan.upstream, progress.update))
        )
        progress.close()
        if options.verbose:
            say(f"upstream: {upstream.url}")
            say(f"program: {' '.join(the_plan.argv)}")
        workers = stack.enter_context(contextlib.closing(network.Workers(the_plan, upstream.url)))
        terminal = Terminal.of_this_process()
        its_streams = streams.open_streams()
        signals = catch_signals()
        try:
            running = sandbox.start(the_plan, its_streams, terminal, workers.start)
        except CommandError as error:
            if "/" in error.command and os.path.exists(error.command):
                error.advice = _NOT_SHARED
            raise
        supervisor = Supervisor(running, its_streams, signals, terminal, workers.pids)
        if upstream.lease is not None:
            supervisor.watch(upstream.lease.fileno(), lambda: say(_TOR_ENDED))
        return supervisor.run()
