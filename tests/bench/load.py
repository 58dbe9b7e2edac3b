# SPDX-License-Identifier: GPL-3.0-or-later
"""The load generator (load.c) as the benchmark drives it: built, served, and run by a contestant."""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support.processes import descendants

SOURCE = Path(__file__).with_name("load.c")
START_S = 30.0  # for a sandbox and the client in it to be ready
SETTLE_S = 0.3  # what a stack does once, right after its start, is not the work that is measured
TICKS = os.sysconf("SC_CLK_TCK")


class NotMeasured(Exception):
    """Why a row has no figure here."""


class Ports(NamedTuple):
    sink: int
    source: int
    ask: int


def build(directory: Path) -> Path:
    """The program, compiled into `directory`."""
    program = directory / "load"
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-o", str(program), str(SOURCE)]
    subprocess.run(command, check=True, timeout=60)
    program.chmod(0o755)
    return program


@contextlib.contextmanager
def serving(program: Path, address: str, prefix: Sequence[str] = ()) -> Iterator[Ports]:
    """The server at `address`, started by way of `prefix`."""
    with subprocess.Popen(
        [*prefix, str(program), "serve", address], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as server:
        try:
            yield Ports(*map(int, _line(server, START_S, b"").split()))
        finally:
            server.kill()


class Figures(NamedTuple):
    """What one run of the client gave: its own pairs, and what its stack's process took meanwhile."""

    values: dict[str, float]
    cpu_s: float  # user and system
    rss: int  # bytes
    pss: int  # bytes, 0 if this user may not see it


Stack = Callable[[int], set[int]]  # from the started process to those that do the network's work


def measure(
    command: Sequence[str],
    stack: Stack | None,
    *,
    timeout_s: float,
    environment: dict[str, str] | None = None,
    again: bool = False,
) -> Figures:
    """Run a client to its end. `again`: let it work a second time, and take the second time's words.

    NotMeasured if it fails, says nothing in time, or ends early.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd="/",
        start_new_session=True,
    )
    try:
        rest = b""
        while (text := _line(process, START_S, rest)) != "ready":
            if not text:
                raise NotMeasured("it said nothing")
        pids = stack(process.pid) if stack is not None else set()
        if stack is not None and not pids:
            raise NotMeasured("the process of its network stack was not found")
        time.sleep(SETTLE_S)
        before = sum(map(cpu_s, pids))
        for _ in range(2 if again else 1):
            _tell(process, b"\n")
            text = _line(process, timeout_s, b"")
        words = text.split()
        try:
            values = {name: float(value) for name, value in zip(words[::2], words[1::2], strict=True)}
        except ValueError:
            raise NotMeasured(text or "it said nothing") from None
        memory = [memory_of(pid) for pid in pids]
        spent = sum(map(cpu_s, pids)) - before
        return Figures(values, spent, sum(it[0] for it in memory), sum(it[1] for it in memory))
    finally:
        end(process)


def _tell(process: subprocess.Popen[bytes], text: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(text)
        process.stdin.flush()
    except BrokenPipeError:
        raise NotMeasured("it ended early") from None


def _line(process: subprocess.Popen[bytes], timeout_s: float, line: bytes) -> str:
    """The next line of a process's output; NotMeasured with what it complained of."""
    assert process.stdout is not None
    fileno, until = process.stdout.fileno(), time.monotonic() + timeout_s
    while not line.endswith(b"\n"):
        if not select.select([fileno], [], [], max(0.0, until - time.monotonic()))[0]:
            raise NotMeasured(f"no answer within {timeout_s:g} s")
        byte = os.read(fileno, 1)
        if not byte:
            raise NotMeasured(_complaint(process))
        line += byte
    text = line.decode().strip()
    if text.startswith("failed"):
        raise NotMeasured(text)
    return text


def _complaint(process: subprocess.Popen[bytes]) -> str:
    if process.stderr is None or not select.select([process.stderr], [], [], 1.0)[0]:
        return "it ended early"
    said = os.read(process.stderr.fileno(), 4096).decode("utf-8", "replace").strip()
    return re.sub(r"\s+", " ", said)[-160:] or "it ended early"


def end(process: subprocess.Popen[bytes]) -> None:
    """Close its input, and if it does not end by that, kill it and all that descends from it."""
    below = descendants(process.pid)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)
    for pid in below:
        with contextlib.suppress(OSError):
            os.kill(pid, 9)


def cpu_s(pid: int) -> float:
    """User and system time a process has taken, proc_pid_stat(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_of(pid: int) -> tuple[int, int]:
    """RSS and PSS in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    rss = int(found[1]) * 1024 if found else 0
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:  # another user's, or one that hides
        return rss, 0
    found = re.search(r"\nPss:\s+(\d+) kB", rollup)
    return rss, int(found[1]) * 1024 if found else 0


def called(*prefixes: str) -> Stack:
    """Those of a process's tree whose name begins with one of these."""

    def find(pid: int) -> set[int]:
        return {each for each in {pid, *descendants(pid)} if _name(each).startswith(prefixes)}

    return find


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
