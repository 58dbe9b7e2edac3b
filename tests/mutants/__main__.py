# SPDX-License-Identifier: GPL-3.0-or-later
"""`make mutants`: take each protection out by itself and see that its test fails.

python -m tests.mutants [--jobs N] [WORD …]     only those whose protection or part has one of the words
python -m tests.mutants --explain [WORD …]      and how each was noticed: a torbox that does not start at all
                                                is missed by any test, and shows nothing
python -m tests.mutants --verify [WORD …]       let `torbox verify` try, instead of the tests named
python -m tests.mutants --table                 write the table of docs/security.md
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace

from tests.mutants import security_table
from tests.mutants.mutant import VERIFY, load, verdicts
from tests.support.people import people


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at a time (one a processor)")
    parser.add_argument("--table", action="store_true", help="only write the table of docs/security.md")
    parser.add_argument("--explain", action="store_true", help="say how each was noticed")
    parser.add_argument("--verify", action="store_true", help="let torbox verify try in place of the tests")
    parser.add_argument("words", nargs="*", metavar="WORD", help="only protections or parts with this word")
    options = parser.parse_args()
    mutants = load()
    if options.table:
        security_table.write(mutants)
        return 0
    if options.words:
        mutants = [
            it for it in mutants if any(word in (it.part, *it.protection.split()) for word in options.words)
        ]
    if options.verify:
        mutants = [replace(it, caught_by=(VERIFY,)) for it in mutants]
    if os.geteuid() != 0:
        print("some show to root alone, and will seem to be noticed by no test")
    survived = 0
    with people():  # the tun device stays open to ordinary users between one's tests and the next's
        for mutant, verdict in verdicts(mutants, options.jobs):
            survived += bool(verdict.survived)
            print(f"{mutant.part}: {mutant.protection}: {verdict.survived or 'noticed'}", flush=True)
            for seen in verdict.seen if options.explain else ():
                print(f"    {seen} ({verdict.seconds:.1f} s)", flush=True)
    print(f"{len(mutants)} protections taken out, {survived} without a test noticing")
    return bool(survived)


if __name__ == "__main__":
    sys.exit(main())
