# SPDX-License-Identifier: GPL-3.0-or-later
"""`make fuzz`: as many frames as are asked for, on all processors, and what was found.

    python -m tests.fuzz [--frames N] [--seconds S] [--seed N] [--jobs N]
    python -m tests.fuzz.relay …             the same for the relay: relay.py

Ends with 0 if nothing broke. Else the failing run is in tests/fuzz/corpus, minimised, where
tests/fuzz/test_fuzz.py replays it until it is mended, and for ever after.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import queue
import random
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from tests.fuzz import engine
from tests.fuzz.case import CORPUS
from tests.support import command

FRAMES = 10_000_000
REPORT_S = 10.0  # seconds between two lines of progress
WARM_FRAMES = 60_000  # after so many of a process's frames its memory is looked at for the first time
GROWTH_MAX = 48 << 20  # bytes its memory may grow by from then on; a leak of 5 bytes a frame would show


def resident() -> int:
    """This process's memory, in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def job(seed: int, frames: int, limit_s: float, directory: Path, news: Any) -> None:
    """One process's share: tells ("frames", count), ("failed", what) and at the end ("done", growth)."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ^C means all of them, and the first one speaks
    conversations = engine.tapes()
    sent, warm = 0, 0
    for episode_seed, count in engine.run(seed, frames, limit_s, conversations):
        try:
            engine.episode(episode_seed, count, conversations)
        except Exception:
            what = traceback.format_exc()
            path = engine.written_down(episode_seed, count, conversations, directory)
            news.put(("failed", f"{what}\nseed {episode_seed}, written to {path}"))
            break
        sent += count
        if not warm and sent >= WARM_FRAMES:
            warm = resident()
        news.put(("frames", count))
    growth = resident() - warm if warm else 0
    if growth > GROWTH_MAX:
        news.put(("failed", f"memory has grown by {growth >> 20} MiB"))
    news.put(("done", growth))


def fuzz(
    frames: int, limit_s: float, seed: int, jobs: int, directory: Path = CORPUS, *, quiet: bool = False
) -> tuple[int, list[str]]:
    """The frames that were sent and what was found; failing runs are written into `directory`."""
    context = multiprocessing.get_context("fork")
    news = context.Queue()
    share = -(-frames // jobs)
    processes = [
        context.Process(target=job, args=(seed * jobs + index, share, limit_s, directory, news))
        for index in range(jobs)
    ]
    for process in processes:
        process.start()
    began = told = time.monotonic()
    sent, running, found, growths = 0, jobs, list[str](), list[int]()
    try:
        while running:
            try:
                kind, value = news.get(timeout=REPORT_S)
            except queue.Empty:
                if not any(process.is_alive() for process in processes):
                    found.append("a process died")
                    break
                continue
            if kind == "frames":
                sent += value
            elif kind == "failed":
                found.append(value)
            else:
                running -= 1
                growths.append(value)
            now = time.monotonic()
            if not quiet and now - told >= REPORT_S:
                told = now
                print(f"{sent:>12,} frames  {sent / (now - began):>9,.0f} frames/s", flush=True)
    finally:
        for process in processes:
            if running:
                process.kill()
            process.join()
    if not quiet:
        rate = sent / (time.monotonic() - began)
        grown = max(growths, default=0) >> 10
        print(f"{sent:,} frames, {rate:,.0f} frames/s, seed {seed}, {jobs} jobs, memory grew by {grown} KiB")
    return sent, found


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=FRAMES, help=f"how many in all ({FRAMES:,})")
    parser.add_argument("--seconds", type=float, default=86_400.0, help="and for how long at most")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(31), help="of the run")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes")
    options = parser.parse_args()
    print(f"seed {options.seed}: --seed {options.seed} --jobs {options.jobs} repeats this run", flush=True)
    _, found = fuzz(options.frames, options.seconds, options.seed, options.jobs)
    for each in found:
        print(each, file=sys.stderr)
    return bool(found)


if __name__ == "__main__":
    command.run(main)
