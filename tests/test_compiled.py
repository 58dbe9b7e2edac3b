# SPDX-License-Identifier: GPL-3.0-or-later
"""What users run is compiled (hatch_build.py), and it passes the same tests as the sources."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import compiled
from tests.support.directories import open_directory

SUITES = (
    "tests/netstack",
    "tests/relay",
    "tests/upstream",
    "tests/e2e/test_direct.py",
    "tests/e2e/test_queues.py",
    "tests/e2e/test_real_tools.py",
    "tests/e2e/test_through_tor.py",
    "tests/e2e/test_udp.py",
)
# These replace a function of a module, or a method of an object, which compiled code does not look for.
LOOK_INSIDE = (
    "tests/netstack/tcp/test_prediction.py",
    "tests/relay/test_worker.py::test_what_keeps_it_from_getting_as_far_as_being_sealed_is_told",
    "tests/relay/test_services.py::test_no_event_is_waited_for_while_queries_wait_for_their_turn",
)

EVERY_MODULE = """
import importlib, pathlib, sys
for path in sorted(pathlib.Path("torbox").rglob("*.so")):
    name = ".".join(path.with_name(path.name.partition(".")[0]).parts)
    assert importlib.import_module(name).__file__.endswith(".so"), name
    print(name)
"""


SOURCES = [
    path
    for package in ("netstack", "relay", "upstream")
    for path in sorted((compiled.ROOT / "torbox" / package).rglob("*.py"))
]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_a_name_catches_errors_of_one_type_in_a_function(path: Path) -> None:
    """Compiled, it is a variable of the first type, and the second is a TypeError."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            caught: dict[str, str] = {}
            for handler in ast.walk(node):
                if isinstance(handler, ast.ExceptHandler) and handler.name and handler.type:
                    kind = ast.unparse(handler.type)
                    assert caught.setdefault(handler.name, kind) == kind, f"{node.name}: {handler.name}"


@pytest.fixture(scope="module")
def tree() -> Iterator[Path]:
    with open_directory() as directory:
        compiled.make_tree(directory)
        yield directory


@pytest.mark.timeout(300)
def test_the_stack_the_relay_and_the_upstreams_are_compiled(tree: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EVERY_MODULE], cwd=tree, capture_output=True, text=True, check=True
    )
    names = done.stdout.split()
    for name in ("torbox.netstack.stack", "torbox.relay.relay", "torbox.upstream.socks5"):
        assert name in names


@pytest.mark.timeout(1200)
def test_the_compiled_stack_passes_the_same_tests(tree: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *SUITES),
            *(f"--deselect={each}" for each in LOOK_INSIDE),
        ],
        cwd=tree,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, done.stdout[-20_000:]
