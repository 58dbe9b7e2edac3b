# SPDX-License-Identifier: GPL-3.0-or-later
"""The code is laid out as docs/architecture.md says: its tables are read here, every import held to them."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "architecture.md"
LINES_MAX = 500

# Programs of their own, whose exit is their own business, beside the command line.
PROGRAMS = frozenset(("torbox.__main__", "torbox.tor.keeper", "torbox.verify.probes.frame"))
# What a program's start must not import, and what each costs (docs/architecture.md).
HEAVY = frozenset(("pyroute2", "rich", "asyncio", "impacket", "stem", "dns", "socks", "difflib", "logging"))

# Modules that are tested in a file not called after them, and why there.
TESTED_IN = {
    # The pieces of TCP and of the stack are told apart by nothing that a guest can see.
    "torbox.netstack.tcp.options": "netstack/tcp/test_arithmetic.py",
    "torbox.netstack.tcp.rtt": "netstack/tcp/test_arithmetic.py",
    "torbox.netstack.tcp.sequence": "netstack/tcp/test_arithmetic.py",
    "torbox.netstack.tcp.state": "netstack/tcp/test_states.py",
    "torbox.netstack.counters": "netstack/test_stack.py",
    "torbox.netstack.egress": "netstack/test_stack.py",
    "torbox.netstack.testing": "netstack/test_stack.py",
    # One table of packets and one oracle for all formats.
    "torbox.netstack.wire.checksum": "netstack/wire/test_formats.py",
    "torbox.netstack.wire.icmpv4": "netstack/wire/test_formats.py",
    "torbox.netstack.wire.icmpv6": "netstack/wire/test_formats.py",
    "torbox.netstack.wire.ip": "netstack/wire/test_formats.py",
    "torbox.netstack.wire.ipv4": "netstack/wire/test_formats.py",
    "torbox.netstack.wire.ipv6": "netstack/wire/test_formats.py",
    "torbox.netstack.wire.tcp": "netstack/wire/test_formats.py",
    "torbox.netstack.wire.udp": "netstack/wire/test_formats.py",
    "torbox.netstack.wire.vnet": "netstack/wire/test_formats.py",
    # A flow is nothing without its relay, a stream nothing without its upstream.
    "torbox.relay.counters": "relay/test_relay.py",
    # The keeper is a process of its own, seen through its leases.
    "torbox.tor.keeper": "tor/test_lease.py",
    # Every run of the whole command goes through these; what they do shows in the program and its caller.
    "torbox.__main__": "test_signals.py",
    "torbox.init": "test_signals.py",
    "torbox.newroot": "test_mounts.py",
    "torbox.sandbox": "test_signals.py",
    "torbox.supervisor": "test_signals.py",
    "torbox.syscalls": "test_signals.py",
    "torbox.tty": "test_terminal.py",
    # Bait, probes and verdict are one thing in three places: each is nothing without the others.
    "torbox.verify.bait": "e2e/test_verify.py",
    "torbox.verify.probes.frame": "e2e/test_verify.py",
    "torbox.verify.probes.network": "e2e/test_verify.py",
    "torbox.verify.probes.neighbours": "e2e/test_verify.py",
    "torbox.verify.probes.identity": "e2e/test_verify.py",
    "torbox.verify.probes.files": "e2e/test_verify.py",
    "torbox.verify.probes.privileges": "e2e/test_verify.py",
    "torbox.verify.report": "e2e/test_verify.py",
    "torbox.verify.run": "e2e/test_verify.py",
    "torbox.cli.verify": "e2e/test_verify.py",
    # What can stand where shows in what the shells offer.
    "torbox.cli.completions.words": "cli/completions/test_bash.py",
}
# Modules with nothing to test: words and Protocols without behaviour.
WORDS = frozenset(("torbox.netstack.flow", "torbox.upstream.interface"))


class Import(NamedTuple):
    importer: str
    line: int
    name: str  # the module, as far as it can be told: "torbox.netstack.flow", "os"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted((ROOT / "torbox").rglob("*.py"))}
TESTS = sorted((ROOT / "tests").rglob("*.py"))
TREES = {name: ast.parse(path.read_text(), str(path)) for name, path in MODULES.items()}


def imports_of(module: str) -> Iterator[Import]:
    """Every import of a module, wherever in it."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import"
            for alias in node.names:
                # `from torbox import names` imports a module, `from torbox.names import claim` a name in it
                inner = f"{node.module}.{alias.name}"
                yield Import(module, node.lineno, inner if inner in MODULES else node.module or "")


IMPORTS = [each for module in MODULES for each in imports_of(module)]


def table(first_heading: str) -> list[list[str]]:
    """The rows of the document's table whose first column is called so."""
    lines = DOCUMENT.read_text().splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(f"| {first_heading} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def named(cell: str) -> list[str]:
    """The modules in a cell: those in backticks, or all of torbox."""
    return [f"torbox.{name}" for name in cell.split("`")[1::2]] or ["torbox"]


def is_in(module: str, prefix: str) -> bool:
    return module == prefix or module.startswith(f"{prefix}.")


MAY_IMPORT: dict[str, set[str]] = {}
ROOMS: dict[str, str] = {}  # module prefix → room
for _room, _modules, _may in table("room"):
    MAY_IMPORT[_room] = {name.strip() for name in _may.split(",") if name.strip()}
    ROOMS.update((prefix, _room) for prefix in named(_modules))


def room_of(module: str) -> str:
    """The room of the longest name that fits; torbox itself is a room, not what is in it."""
    fitting = [
        prefix for prefix in ROOMS if is_in(module, prefix) and (prefix != "torbox" or module == "torbox")
    ]
    assert fitting, f"{module} is in no room of docs/architecture.md"
    return ROOMS[max(fitting, key=len)]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downward_only(module: str) -> None:
    room = room_of(module)
    for each in IMPORTS:
        if each.importer != module or not is_in(each.name, "torbox"):
            continue
        assert each.name in MODULES, f"{module}:{each.line}: there is no {each.name}"
        other = room_of(each.name)
        allowed = other == room or other in MAY_IMPORT[room]
        assert allowed, f"{module}:{each.line}: {room} may not import {other} ({each.name})"


def test_the_table_names_rooms_and_modules_that_exist() -> None:
    for room, others in MAY_IMPORT.items():
        assert others <= set(MAY_IMPORT), f"{room} may import {others - set(MAY_IMPORT)}, which is no room"
    for prefix in ROOMS:
        assert prefix in MODULES, f"there is no {prefix}"


def test_the_table_keeps_the_halves_apart() -> None:
    def below(room: str, seen: set[str]) -> set[str]:
        for other in MAY_IMPORT[room] - seen:
            below(other, seen | {other})
            seen |= {other} | below(other, seen | {other})
        return seen

    network_half = {"wire", "tcp", "stack", "upstream", "relay"}
    sandbox_half = {"sandbox half", "plan", "kernel", "supervisor", "profiles"}
    for room in network_half:
        assert not below(room, set()) & (sandbox_half | {"tor", "cli", "network"}), room
    for room in sandbox_half:
        assert not below(room, set()) & (network_half | {"tor", "cli", "network"}), room
    assert not any("cli" in others for others in MAY_IMPORT.values())
    assert MAY_IMPORT["errors"] == MAY_IMPORT["wire"] == MAY_IMPORT["version"] == set()


@pytest.mark.parametrize("row", table("in"), ids=lambda row: row[0])
def test_what_is_never_imported_is_not(row: list[str]) -> None:
    where, never, _ = row
    banned = {name.strip() for name in never.split(",")}
    assert banned
    for each in IMPORTS:
        if where.startswith("everything"):
            covered = not any(is_in(each.importer, prefix) for prefix in named(where) if prefix != "torbox")
        else:
            covered = any(is_in(each.importer, prefix) for prefix in named(where))
        hit = covered and each.name.partition(".")[0] in banned
        assert not hit, f"{each.importer}:{each.line}: imports {each.name}"


def outside_main_guard(tree: ast.Module) -> Iterator[ast.AST]:
    """All nodes but those under `if __name__ == "__main__":`, where a module is a program."""
    for statement in tree.body:
        if not (isinstance(statement, ast.If) and ast.unparse(statement.test) == "__name__ == '__main__'"):
            yield from ast.walk(statement)


@pytest.mark.parametrize(
    "module", [name for name in MODULES if not is_in(name, "torbox.cli") and name not in PROGRAMS]
)
def test_only_the_command_line_prints_and_exits(module: str) -> None:
    for node in outside_main_guard(TREES[module]):
        text = ""
        if isinstance(node, ast.Call):
            text = ast.unparse(node.func)
        elif isinstance(node, ast.Raise) and node.exc is not None:
            text = ast.unparse(node.exc).partition("(")[0]
        elif isinstance(node, ast.Attribute):
            text = ast.unparse(node)
        assert text not in (
            "print",
            "input",
            "exit",
            "quit",
            "sys.exit",
            "SystemExit",
            "sys.stdout",
            "sys.stderr",
        ), f"{module}:{getattr(node, 'lineno', 0)}: {text}"


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_is_and_under_which_licence(module: str) -> None:
    text = MODULES[module].read_text()
    assert text.startswith("# SPDX-License-Identifier: GPL-3.0-or-later\n")
    assert not TREES[module].body or ast.get_docstring(TREES[module]), "no docstring"


@pytest.mark.parametrize("path", [*MODULES.values(), *TESTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_stay_small(path: Path) -> None:
    lines = path.read_text().count("\n")
    assert lines <= LINES_MAX, f"{lines} lines: look for the noun that hides in it"


def own_test_file(module: str) -> Path:
    *parents, name = module.split(".")[1:]
    return ROOT / "tests" / Path(*parents) / f"test_{name}.py"


def test_every_module_has_a_test_file_of_its_own_or_is_on_the_list() -> None:
    missing = [
        str(own_test_file(module).relative_to(ROOT))
        for module, path in MODULES.items()
        if path.name != "__init__.py" and module not in WORDS and module not in TESTED_IN
        if not own_test_file(module).exists()
    ]
    assert missing == []


def test_the_list_names_modules_and_tests_that_exist_and_none_that_have_their_own() -> None:
    assert set(TESTED_IN) | WORDS <= set(MODULES)
    for module, file in TESTED_IN.items():
        assert (ROOT / "tests" / file).exists(), f"{file} should test {module}"
    by_now = [module for module in (*TESTED_IN, *WORDS) if own_test_file(module).exists()]
    assert by_now == [], "these have a test file of their own by now: take them off the list"


def test_nothing_heavy_is_imported_on_the_way_to_a_programs_start() -> None:
    program = (
        "import sys, torbox.cli, torbox.cli.run\n"
        f"print(*sorted({{name.partition('.')[0] for name in sys.modules}} & {set(HEAVY)!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
