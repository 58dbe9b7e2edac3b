# SPDX-License-Identifier: GPL-3.0-or-later
"""`torbox home`: kept homes as lines for scripts, and their removal by name alone."""

from __future__ import annotations

from tests.support.directories import profile
from tests.support.people import Person


def test_what_was_kept_is_listed_and_removed(person: Person) -> None:
    assert person.run("home", "list").stdout == ""
    with profile("home = { mode = 'persist', name = 'cli-test' }") as path:
        done = person.run("run", "--upstream", "block", "--profile", path, "--", "touch", "x")
    assert done.returncode == 0, done.stderr
    directory = f"{person.home}/.local/share/torbox/homes/cli-test"
    assert person.run("home", "list").stdout == f"cli-test\ta home\t\t{directory}\n"
    done = person.run("home", "reset", "cli-tset", "cli-test")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "torbox: there is no home called 'cli-tset'; did you mean 'cli-test'?",
        "torbox: torbox home list shows those there are.",
        "torbox: cli-test: removed",
    ]
    assert person.run("home", "list").stdout == ""


def test_wrong_usage_is_one_message(person: Person) -> None:
    for arguments in ((), ("reset",), ("no-such",), ("list", "extra")):
        done = person.run("home", *arguments)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
