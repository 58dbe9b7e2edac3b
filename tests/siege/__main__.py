# SPDX-License-Identifier: GPL-3.0-or-later
"""`make siege`: each attack for long on one worker, and a table of how the honest program fared.

python -m tests.siege [--seconds S] [ATTACK ...]
"""

from __future__ import annotations

import argparse

from tests.siege.attacks import ATTACKS
from tests.siege.live import Live
from tests.siege.siege import siege
from tests.support import command


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.siege", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each attack (20)")
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help="only these")
    options = parser.parse_args()
    unknown = set(options.attacks) - {attack.__name__ for attack in ATTACKS}
    if unknown:
        parser.error(f"no such attack: {', '.join(sorted(unknown))}")
    failures = 0
    with Live() as live:
        before = live.worker.resident()
        for attack in ATTACKS:
            if options.attacks and attack.__name__ not in options.attacks:
                continue
            report = siege(live, attack, options.seconds)
            failed = report.during.failures + report.after.failures
            failures += len(failed)
            print(report, *failed[:5], sep="\n    ", flush=True)
        grown = live.worker.resident() - before
        print(f"the worker's memory: {before >> 20} MiB before, {grown >> 20:+d} MiB after all attacks")
    return bool(failures)


if __name__ == "__main__":
    command.run(main)
