# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker says, once, to its parent; apart from the worker, which the parent need not import."""

from __future__ import annotations

READY = b"\x01"  # it serves
MISSING = b"\x02"  # before that: a protection it does without; name, NUL, why, and the end of the line
FAILED = b"\x00"  # it cannot; the reason follows as text


def emit_missing(name: str, why: str) -> bytes:
    """`why` may have any text in it; line breaks become spaces."""
    return MISSING + f"{name}\0{why.replace(chr(10), ' ')}\n".encode("utf-8", "replace")


def parse_missing(answer: bytes) -> tuple[list[tuple[str, str]], bytes]:
    """Name and reason of each protection that a worker does without, and what else it says."""
    found = []
    while answer.startswith(MISSING):
        line, _, answer = answer.removeprefix(MISSING).partition(b"\n")
        name, _, why = line.decode("utf-8", "replace").partition("\0")
        found.append((name, why))
    return found, answer
