# SPDX-License-Identifier: GPL-3.0-or-later
"""Why the kernel says that a program is not there: execve(2) says ENOENT of its interpreter, too."""

from __future__ import annotations

import os

from torbox import whereabouts
from torbox.plan import SandboxPlan
from torbox.ways import quoted

_HEAD_BYTES = 256  # of a script; the kernel looks for the interpreter no further (BINPRM_BUF_SIZE)


def advice(command: str, plan: SandboxPlan) -> str:
    """What to do about this program, named by a path, that could not be found; "" if nothing is known."""
    source = whereabouts.outside(os.path.normpath(os.path.join(plan.directory, command)), plan.mounts)
    if not source or not os.path.exists(source):
        return _of_this_machine("It", os.path.abspath(command), plan)
    interpreter = _interpreter(source)
    if not interpreter:
        return "It is there, but not what it is to be loaded by: it may be for another system than this."
    found = f"It is there, but its interpreter {quoted(interpreter)} is not."
    if interpreter.startswith("/"):
        return f"{found}\n{_of_this_machine('The interpreter', interpreter, plan)}".rstrip()
    return found


def _of_this_machine(what: str, path: str, plan: SandboxPlan) -> str:
    """Where a path of this machine is, seen from inside; "" if it is nowhere."""
    if not os.path.exists(path):
        return ""
    name = whereabouts.inside(path, plan.mounts)
    if name and name != path:
        return f"{what} is {quoted(name)} inside."
    return (
        f"{what} is there on this machine, but not in the sandbox: share it by --share, or [mounts] in a"
        " profile."
    )


def _interpreter(path: str) -> str:
    """What a script names after its #!; "" of what is no script, or cannot be read."""
    if not os.path.isfile(path):
        return ""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return ""
    words = head[2:].partition(b"\n")[0].strip(b" \t").replace(b"\t", b" ").split(b" ")
    return os.fsdecode(words[0]) if head.startswith(b"#!") else ""
