# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the wheel: the network stack, its relay and the upstreams are compiled by mypyc.

The compiled modules are those of the sources, and nothing knows which it runs with; an editable install
runs the sources. Where they cannot be compiled (no C compiler, no Python.h) the wheel is built without, and
`torbox doctor` says so. TORBOX_COMPILE=0 leaves it out, TORBOX_COMPILE=1 makes a failure an error.
docs/decisions/0008 has the reasons and the figures.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPILED = ("torbox/netstack", "torbox/relay", "torbox/upstream")
# Subclassed by tests, or nothing but a package's docstring.
LEFT_OUT = ("__init__.py", "testing.py")
GROUP = "torbox"  # one library, torbox__mypyc, holds the code; each module is a small door to it


class CompiledStack(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        wanted = os.environ.get("TORBOX_COMPILE", "")
        if self.target_name != "wheel" or version == "editable" or wanted == "0":
            return
        self._directory = tempfile.TemporaryDirectory(prefix="torbox-build-")
        target = Path(self._directory.name)
        done = subprocess.run(
            [sys.executable, __file__, str(target)],
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        if done.returncode:
            if wanted == "1":
                raise RuntimeError(f"the stack could not be compiled:\n{done.stdout}")
            self.app.display_warning(
                f"{done.stdout}\nThe stack could not be compiled; torbox will be slower."
            )
            return
        libraries = sorted((target / "lib").rglob("*.so"))
        build_data["force_include"] |= {
            str(path): str(path.relative_to(target / "lib")) for path in libraries
        }
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, *_: object) -> None:
        if hasattr(self, "_directory"):
            self._directory.cleanup()


def compile_into(target: Path) -> None:
    """Compile the modules of the tree in the current directory into `target`/lib."""
    from mypyc.build import mypycify
    from setuptools.command.build_ext import build_ext
    from setuptools.dist import Distribution

    modules = [
        str(path)
        for package in COMPILED
        for path in sorted(Path(package).rglob("*.py"))
        if path.name not in LEFT_OUT
    ]
    extensions = mypycify(
        # The packages it uses need not be here, and `make check` is what holds the types.
        ["--config-file=", "--ignore-missing-imports", f"--cache-dir={target}/cache", *modules],
        opt_level="2",
        debug_level="0",
        group_name=GROUP,
        target_dir=str(target / "c"),
    )
    # Not by setup(), which would read this project's own configuration.
    command = build_ext(Distribution({"name": "torbox", "ext_modules": extensions}))
    command.build_lib, command.build_temp = f"{target}/lib", f"{target}/o"
    command.ensure_finalized()
    command.run()


if __name__ == "__main__":
    compile_into(Path(sys.argv[1]))
