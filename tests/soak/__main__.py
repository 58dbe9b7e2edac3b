# SPDX-License-Identifier: GPL-3.0-or-later
"""`make soak`: ten thousand connections that stay open and a hundred thousand short ones, and what is left.

python -m tests.soak [--open N] [--short N]
"""

from __future__ import annotations

import argparse
import resource
import tempfile

from tests.siege.live import Live
from tests.soak.soak import soak
from tests.support import command
from torbox.relay.memory import LOOK_S

LIMIT_S = 1800.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--open", type=int, default=10_000, help="held at once (10,000)")
    parser.add_argument("--short", type=int, default=100_000, help="one after another (100,000)")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < options.open + 100:
        parser.error(
            f"{options.open} connections need as many descriptors, and {hard} may be had: ulimit -Hn"
        )
    with tempfile.TemporaryDirectory() as directory, Live(f"{directory}/tor") as live:
        report = soak(
            live, (min(1000, options.open), options.open), options.short, LIMIT_S, idle_s=2 * LOOK_S
        )
    print(*report.looks, sep="\n")
    print(f"{options.short / report.short_s:,.0f} short connections a second; memory × {report.growth:.3f}")
    print(f"{report.stayed / 2**20:.1f} MiB stay of what the most connections needed")
    good = (
        report.answered == options.open
        and report.right == options.short
        and report.growth < 1.1
        and report.looks[-1].descriptors == report.looks[0].descriptors
        and report.counters["opened"] == report.counters["tcp_opened"] == report.opened
    )
    print("nothing is left of them" if good else f"something is wrong: {report.counters}")
    return not good


if __name__ == "__main__":
    command.run(main)
