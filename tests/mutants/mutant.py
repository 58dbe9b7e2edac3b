# SPDX-License-Identifier: GPL-3.0-or-later
"""Protections by themselves: how each is taken out of a copy of the tree, and what then notices.

A mutant is one entry of a TOML file here: a text that occurs once in a file of torbox's, what stands there
when the protection is gone, and the tests that must fail then. The table in docs/security.md is made of them.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

import tomli

from tests.support.directories import open_directory

ROOT = Path(__file__).resolve().parents[2]
TABLES = Path(__file__).parent
COPIED = ("torbox", "profiles", "tests", "docs", "pyproject.toml", "README.md", "CHANGELOG.md", "Makefile")
VERIFY = "tests/e2e/test_verify.py::test_a_sandbox_as_it_is_holds"
TIMEOUT_S = 60  # of a test that notices one mutant; they take one or two. One that hangs has noticed it
PATIENCE_S = "3"  # for what will not happen, since its protection is gone
SURVIVED, BROKEN = "no test failed", "not one test ran"
_FAILED, _PASSED = 1, 0  # pytest's exit codes; the first stands for fixtures that broke, too
_OPTIONS = ("-q", "-x", "-rf", "-p", "no:cacheprovider", "--timeout", str(TIMEOUT_S))


@dataclass(frozen=True)
class Mutant:
    """`part` is the TOML file it is from; `caught_by` are ids of tests, without parameters."""

    part: str
    protection: str
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...]

    @property
    def is_seen_by_verify(self) -> bool:
        return VERIFY in self.caught_by

    def apply(self, tree: Path) -> None:
        path = tree / self.file
        path.write_text(path.read_text().replace(self.old, self.new))

    def faults(self) -> Iterator[str]:
        """What is wrong with the entry itself."""
        text = (ROOT / self.file).read_text()
        if text.count(self.old) != 1:
            yield f"{self.file} has {text.count(self.old)} times {self.old!r}"
        try:
            ast.parse(text.replace(self.old, self.new))
        except SyntaxError as error:
            yield f"what is left of {self.file} is no Python: {error}"
        for test in self.caught_by:
            file, _, name = test.partition("::")
            if not (ROOT / file).exists() or f"def {name}(" not in (ROOT / file).read_text():
                yield f"there is no test {test}"
        if not self.caught_by:
            yield "nothing is said to notice it"


class Verdict(NamedTuple):
    """How it went with a protection taken out: `survived` says which test did not fail, and is empty if all
    did; `seen` is what each of those complained of, in one line."""

    survived: str
    seen: tuple[str, ...] = ()
    seconds: float = 0.0


def load() -> list[Mutant]:
    """All of them, by part and then as they stand. TypeError or KeyError for an entry of another form."""
    found = []
    for path in sorted(TABLES.glob("*.toml")):
        for entry in tomli.loads(path.read_text())["mutant"]:
            tests = entry.pop("caught_by")
            tests = (tests,) if isinstance(tests, str) else tuple(tests)
            found.append(Mutant(path.stem, caught_by=tests, **entry))
    return found


def row(mutant: Mutant) -> str:
    """Its line in the table of docs/security.md."""
    tests = []
    for test in mutant.caught_by:
        file, _, name = test.partition("::")
        words = name.removeprefix("test_").replace("_", " ")
        tests.append("`torbox verify`" if test == VERIFY else f"`{file.removeprefix('tests/')}`: {words}")
    return f"| {mutant.protection} | `{mutant.file.removeprefix('torbox/')}` | {'; '.join(tests)} |"


@contextmanager
def _tree() -> Iterator[Path]:
    with open_directory() as around:
        directory = around / "tree"
        directory.mkdir()
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, directory)
        yield directory


def _run(test: str, tree: Path) -> subprocess.CompletedProcess[str]:
    # Runs side by side would clean up the directories of each other.
    directory = f"--basetemp={tree.parent / 't'}"
    return subprocess.run(
        [sys.executable, "-m", "pytest", *_OPTIONS, directory, test],
        cwd=tree,
        env={
            **os.environ,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(tree),
            "TORBOX_TEST_PATIENCE_S": PATIENCE_S,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def _verdict(mutant: Mutant, tree: Path) -> Verdict:
    original = (tree / mutant.file).read_text()
    mutant.apply(tree)
    seen = []
    begin = time.monotonic()
    try:
        for test in mutant.caught_by:
            done = _run(test, tree)
            has_failed = done.returncode == _FAILED and "\nFAILED " in done.stdout
            if not has_failed:
                what = SURVIVED if done.returncode == _PASSED else BROKEN
                return Verdict(f"{what}: {test}\n{done.stdout[-4000:]}")
            wrong = (line[1:].strip() for line in done.stdout.splitlines() if line.startswith("E  "))
            seen.append(next(wrong, "it failed"))
        return Verdict("", tuple(seen), time.monotonic() - begin)
    finally:
        (tree / mutant.file).write_text(original)


def verdicts(mutants: list[Mutant], jobs: int) -> Iterator[tuple[Mutant, Verdict]]:
    """Each mutant and how it went, in their order; `jobs` at a time, each in a copy of its own."""
    with ExitStack() as stack:
        trees: SimpleQueue[Path] = SimpleQueue()
        for _ in range(jobs):
            trees.put(stack.enter_context(_tree()))

        def judge(mutant: Mutant) -> tuple[Mutant, Verdict]:
            tree = trees.get()
            try:
                return mutant, _verdict(mutant, tree)
            finally:
                trees.put(tree)

        pool = stack.enter_context(ThreadPoolExecutor(jobs))
        yield from pool.map(judge, mutants)
