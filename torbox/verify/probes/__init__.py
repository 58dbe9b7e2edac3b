# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs inside: each probe tries for one thing that must not be had, and says what it got.

    frame         how probes are registered and made, and what all of them use
    network       interfaces, this machine's addresses, families of sockets, the resolver
    neighbours    other programs: sockets, descriptors, environment, processes, shared memory, keys
    identity      who and where: names, numbers, clocks, hardware
    files         what is there, what can be written, mounts, devices
    privileges    capabilities, system calls, the terminal

They are executed by a bare interpreter of the sandbox, so they import nothing of torbox but each other, and
`program` is all of them in one text. They are told by standard input, as JSON, what the bait is and what of
the host must not be seen (bait.py), and print their rows as JSON. A probe that breaks for another reason than
being refused has not held: it says why. Nor does a probe do harm where it succeeds: it may run where nothing
holds.
"""

from __future__ import annotations

from importlib import resources

PARTS = ("frame", "network", "neighbours", "identity", "files", "privileges")  # in the order of their rows
# Modules are made of texts where there are no files of theirs; whoever imports one finds it made already.
_LOADER = """
import sys, types
for name, text in MODULES:
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(text, name, "exec"), module.__dict__)
sys.modules["torbox.verify.probes.frame"].main()
"""


def program() -> str:
    """The text for `python -c`: every part as a module, and then all probes."""
    package = __name__
    above = package.split(".")
    modules = [(".".join(above[: depth + 1]), "") for depth in range(len(above))]
    files = resources.files(package)
    modules += [(f"{package}.{part}", files.joinpath(f"{part}.py").read_text()) for part in PARTS]
    return f"MODULES = {modules!r}\n{_LOADER}"
