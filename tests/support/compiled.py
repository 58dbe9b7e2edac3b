# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy of this tree whose stack is compiled, as in the wheel: to be tested and measured like the sources.

python -m tests.support.compiled DIRECTORY     makes it there; a minute's work
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("torbox", "profiles", "tests", "docs", "pyproject.toml", "README.md", "CHANGELOG.md", "Makefile")


def make_tree(directory: Path) -> None:
    """Copy, compile, and put the libraries beside their sources. RuntimeError says what went wrong."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, directory / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            shutil.copy(source, directory)
    with tempfile.TemporaryDirectory(prefix="torbox-build-") as build:
        done = subprocess.run(
            [sys.executable, ROOT / "hatch_build.py", build],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(done.stdout)
        shutil.copytree(Path(build, "lib"), directory, dirs_exist_ok=True)


if __name__ == "__main__":
    make_tree(Path(sys.argv[1]))
