# SPDX-License-Identifier: GPL-3.0-or-later
"""What a worker says, once, to its parent; apart from the worker, which the parent need not import."""

from __future__ import annotations

READY = b"\x01"  # it serves
MISSING = b"\x02"  # before that: a protection it does without; name, NUL, why, and the end of the line
FAILED = b"\x00"  # it cannot; the reason follows as text
