# SPDX-License-Identifier: GPL-3.0-or-later
"""A run against the stack, written down: what was sent and when a turn came, as a file of lines.

    # what it shows
    > [10]450000...                      a frame, its virtio header first; [10] are ten zero bytes
    . 00c0ffee                           a turn, with the number that says what the owner does in it

`minimised` leaves out whatever is not needed for the failure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.fuzz.victim import Victim

CORPUS = Path(__file__).parent / "corpus"
ZEROS = re.compile(r"\[(\d+)\]")
RUN = re.compile(rb"\0{8,}")
Step = bytes | int  # a frame, or a turn


def parse(text: str) -> list[Step]:
    """The steps of a file. ValueError for lines that are none."""
    steps: list[Step] = []
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == ">":
            steps.append(bytes.fromhex(ZEROS.sub(lambda run: "00" * int(run[1]), rest)))
        elif kind == ".":
            steps.append(int(rest, 16))
        elif line and kind != "#":
            raise ValueError(f"not a step: {line!r}")
    return steps


def _hex(frame: bytes) -> str:
    """In hexadecimal, with longer runs of zeros counted instead."""
    text, rest = "", frame
    while run := RUN.search(rest):
        text += f"{rest[: run.start()].hex()}[{len(run[0])}]"
        rest = rest[run.end() :]
    return text + rest.hex()


def emit(steps: Iterable[Step], comment: str) -> str:
    lines = [f"# {line}" for line in comment.splitlines()]
    lines += [f"> {_hex(step)}" if isinstance(step, bytes) else f". {step:08x}" for step in steps]
    return "\n".join(lines) + "\n"


def replay(steps: Iterable[Step], *, gso: bool = True) -> Victim:
    """Run it; whatever is broken raises. Returns the victim, which has then served a newcomer."""
    victim = Victim(gso=gso)
    for step in steps:
        if isinstance(step, bytes):
            victim.device.from_guest.append(step)
        else:
            victim.turn(step)
    victim.turn(1)
    victim.serves_a_newcomer()
    return victim


def failure(steps: Iterable[Step], *, gso: bool = True) -> str:
    """How a replay fails, in a word that is the same for the same fault; empty if it does not."""
    try:
        replay(steps, gso=gso)
    except Exception as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = trace.tb_frame.f_code.co_name if trace is not None else "?"
        return f"{type(error).__name__} in {where}:{trace.tb_lineno if trace is not None else 0}"
    return ""


def minimised(steps: list[Step], fails: Callable[[list[Step]], bool], tries: int = 3000) -> list[Step]:
    """A short run that still `fails`, by leaving out ever smaller parts (delta debugging)."""
    part = max(len(steps) // 2, 1)
    while tries > 0:
        position, shorter = 0, False
        while position < len(steps) and tries > 0:
            rest = steps[:position] + steps[position + part :]
            tries -= 1
            if fails(rest):
                steps, shorter = rest, True
            else:
                position += part
        if part == 1 and not shorter:
            break
        part = max(part // 2, 1)
    return steps
