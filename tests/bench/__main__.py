# SPDX-License-Identifier: GPL-3.0-or-later
"""`make bench`: torbox, slirp4netns, pasta and others at the same work in one interleaved run.

Prints the table, and writes docs/benchmark.md with a picture, unless told otherwise. The exit code is 0
when all was measured, whatever the figures: they speak for themselves.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tests.bench import contestants, lab, load, report
from tests.bench.rows import Results
from tests.bench.session import SHORT, Session, Sizes
from tests.support import command
from tests.support.people import Person, people
from tests.tornet.network import SITE_NAME, TorNetwork

ROOT = Path(__file__).parents[2]
PARTS = ("direct", "socks", "tor")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default: 5)")
    parser.add_argument("--short", action="store_true", help="tiny sizes: only to see that it works")
    parser.add_argument("--only", choices=PARTS, action="append", help="one part, may be repeated")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", metavar="DIRECTORY")
    options = parser.parse_args(arguments)
    if arguments is None:
        lab.enter("tests.bench", sys.argv[1:])
    console = Console(width=None if sys.stdout.isatty() else 150)
    load_before = os.getloadavg()[0]
    results = run(console, options.rounds, SHORT if options.short else Sizes(), tuple(options.only or PARTS))
    report.show(console, results)
    options.output.mkdir(exist_ok=True)
    when = time.strftime("%Y-%m-%d")
    text = report.markdown(results, options.rounds, lab.machine(), when, load_before)
    report.write(options.output / "benchmark.md", text)
    problem = report.picture(results, options.output)
    console.print(problem or f"written: {options.output}/benchmark.md, .svg and .png")
    return 0


def run(console: Console, rounds: int, sizes: Sizes, parts: Sequence[str]) -> Results:
    """Measure; prints where it is."""
    results = Results()
    with contextlib.ExitStack() as stack:
        person = stack.enter_context(people())[0]
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="torbox-bench-", dir="/var/tmp"))
        )
        directory.chmod(0o755)
        program = load.build(directory)
        profile = directory / "bench.toml"
        profile.write_text(f'extends = "default"\n[mounts]\nread_only = ["{directory}"]\n')
        far = stack.enter_context(lab.far_machine()) if lab.is_made() else None
        near_ports = stack.enter_context(load.serving(program, "127.0.0.1"))
        status = stack.enter_context(console.status("…"))
        session = Session(program, sizes, results, status.update)
        gateway = lab.FAR if far else lab.gateway()
        direct = contestants.direct(person, profile, gateway)
        if "direct" in parts:
            for number in range(rounds):
                console.print(f"direct, round {number + 1} of {rounds}")
                session.direct_round(direct, near_ports, number, rounds)
        if "socks" in parts and far:
            far_ports = stack.enter_context(load.serving(program, lab.FAR, far))
            _socks(stack, session, person, profile, far_ports, directory, rounds, console)
        if "tor" in parts:
            with TorNetwork(onion=False) as network:
                socks = "{}:{}".format(*network.socks_address)
                through = contestants.through_tor(person, profile, socks)
                for number in range(rounds):
                    console.print(f"Tor, round {number + 1} of {rounds}")
                    session.tor_round(through, SITE_NAME, socks, near_ports.source, number)
    return results


def _socks(
    stack: contextlib.ExitStack,
    session: Session,
    person: Person,
    profile: Path,
    ports: load.Ports,
    directory: Path,
    rounds: int,
    console: Console,
) -> None:
    proxy = stack.enter_context(lab.socks_proxy(person.prefix))
    proxied = contestants.proxied(person, profile, lab.FAR, proxy, directory)
    for number in range(rounds):
        console.print(f"SOCKS, round {number + 1} of {rounds}")
        session.socks_round(proxied, ports, proxy, number)


if __name__ == "__main__":
    command.run(main)
