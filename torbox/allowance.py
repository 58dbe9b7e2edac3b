# SPDX-License-Identifier: GPL-3.0-or-later
"""Protections that torbox starts without if the user says so by `--allow-missing WHAT`, and only then.

Each has a name here. What has none cannot be done without: namespaces but that of time, a root of the
sandbox's own, the dropped capabilities and no_new_privs are the sandbox. Landlock counts as missing where a
kernel has it and does not let it be used; a kernel without it has nothing to miss.

Whatever is missing is told, whether the user wants to hear it or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from torbox.errors import SetupError, UsageError

WHAT = {
    "cpu-limit": "the processor time that limits.cpu allows",
    "keyring": "a session keyring of the sandbox's own",
    "landlock": "Landlock around the network stack and before the desktop, where the kernel has it",
    "seccomp": "the system call filters of the program, the network stack and what stands before the desktop",
    "securebits": "user 0 without privileges of its own, locked",
    "stack-namespaces": "roots of their own for the network stack and what stands before the desktop",
    "time-namespace": "clocks that do not tell how long this machine has been up",
}


def check(names: Iterable[str]) -> frozenset[str]:
    """The names, if all of them are known. UsageError."""
    found = frozenset(names)
    for name in sorted(found - set(WHAT)):
        raise UsageError(
            f"--allow-missing {name}: no such protection can be missing",
            advice=f"There are {', '.join(WHAT)}.",
        )
    return found


class Allowance:
    """What may be missing, and who is told of it: `tell(name, why)`, once for each."""

    def __init__(self, allowed: frozenset[str], tell: Callable[[str, str], None]) -> None:
        self._allowed = allowed
        self._tell = tell
        self._told: set[str] = set()

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Within it a protection of this name is applied. SetupError if that fails and may not."""
        assert name in WHAT, name
        try:
            yield
        except SetupError as error:
            if name not in self._allowed:
                hint = f"If you want the program to run without it: --allow-missing {name}"
                advice = f"{error.advice}\n{hint}" if error.advice else hint
                raise SetupError(error.step, error.errno, error.detail, advice=advice) from error
            if name not in self._told:
                self._told.add(name)
                self._tell(name, error.message)


NOTHING = Allowance(frozenset(), lambda _name, _why: None)  # may be missing


def sentence(name: str, why: str) -> str:
    """What the user is told of a missing protection."""
    return f"WITHOUT {WHAT[name]} ({why}), as --allow-missing {name} wants it"
