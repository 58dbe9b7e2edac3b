# SPDX-License-Identifier: GPL-3.0-or-later
"""`--dry-run`: all of the plan, whatever is in it some day, and nothing started."""

from __future__ import annotations

import dataclasses
import json
import os
import typing
from typing import Any

import pytest

from tests.support.directories import profile
from tests.support.people import Person
from torbox import homes, mounts, plan, seccomp
from torbox.cli import dry_run
from torbox.errors import UsageError
from torbox.plan import SandboxPlan
from torbox.profiles import load


def a_plan(text: str = "", command: tuple[str, ...] = ("true",)) -> SandboxPlan:
    return plan.make(load.loads(text), command=command, upstream=None, environ={}, home="/home/me")


def shown(the_plan: SandboxPlan) -> str:
    return "\n".join(dry_run.lines(the_plan))


def marked(value: Any) -> tuple[Any, str]:
    """Another value of the same kind, and what must be seen of it."""
    match value:
        case bool():
            return not value, "yes" if not value else "no"
        case None:
            return "m31337", "m31337"
        case int():
            return 31337, "31337"
        case str():
            return "block-31337", "block-31337"
        case None:
            return homes.Store("m31337", "/m31337", ("home",)), "name m31337, path /m31337"
        case frozenset():
            return frozenset({"m31337"}), "m31337"
        case dict():
            return {"m31337": "x"}, "m31337 = x"
        case tuple() if any(map(dataclasses.is_dataclass, value)):
            return (mounts.Directory("/m31337"),), "/m31337"
        case tuple():
            return ("m31337",), "m31337"
        case None:
            return homes.Store("m31337", "/x", ("home",)), "m31337"
    assert dataclasses.is_dataclass(value), f"show what a {type(value)} looks like here"
    field = dataclasses.fields(value)[0]
    inner, word = marked(getattr(value, field.name))
    return dataclasses.replace(value, **{field.name: inner}), word  # type: ignore[type-var]


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(SandboxPlan)])
def test_every_field_of_a_plan_is_shown(name: str) -> None:
    before = a_plan()
    value, word = marked(getattr(before, name))
    after = dataclasses.replace(before, **{name: value})
    new = set(dry_run.lines(after)) - set(dry_run.lines(before))
    assert any(word in line for line in new), name
    assert name in dry_run.plain(after)
    assert dry_run.plain(after) != dry_run.plain(before)


def test_a_field_that_nobody_has_named_is_shown_under_more(monkeypatch: pytest.MonkeyPatch) -> None:
    named = {name for names in dry_run.HEADINGS.values() for name in names}
    assert "mtu" in named
    monkeypatch.setitem(dry_run.HEADINGS, "network", ())
    text = shown(a_plan("net.mtu = 1500"))
    assert "\nmore:\n" in text
    assert "\n    mtu: 1500\n" in text


@pytest.mark.parametrize("op", typing.get_args(mounts.MountOp), ids=lambda op: op.__name__)
def test_every_field_of_every_step_of_the_file_system_is_shown(op: type[Any]) -> None:
    values = {}
    words = []
    for field in dataclasses.fields(op):
        if field.name == "text":
            values[field.name], word = "é" * 100, "200 bytes"
        elif field.name == "mode":
            values[field.name], word = 0o1734, "1734"
        elif field.type == "bool":
            values[field.name] = not field.default
            word = "read-write" if field.name == "read_only" else field.name.replace("_", " ")
        else:
            values[field.name] = word = f"/{field.name}-31337"
        words.append(word)
    the_plan = dataclasses.replace(a_plan(), mounts=(op(**values),))
    (line,) = [line for line in dry_run.lines(the_plan) if "/target-31337" in line]
    assert all(word in line for word in words), line
    (step,) = dry_run.plain(the_plan)["mounts"]
    assert step["kind"] == op.__name__
    assert {key: step[key] for key in values} == values


def test_json_is_json_and_has_what_holds_besides() -> None:
    read = json.loads(json.dumps(dry_run.plain(a_plan('net.hosts.a = "192.0.2.1"'))))
    assert read["hosts"] == {"a": ["192.0.2.1"]}
    assert read["denied_system_calls"] == sorted(seccomp.DENIED)
    [hostname] = [op for op in read["mounts"] if op.get("target") == "/etc/hostname"]
    assert (hostname["kind"], hostname["text"], hostname["mode"]) == ("TextFile", "host\n", 0o644)
    assert read["is_locked"] is False


def test_the_program_is_shown_as_a_shell_would_take_it_and_on_one_line() -> None:
    text = shown(a_plan(command=("echo", "a b", "c\nd", "\x1b[2J")))
    (line,) = [line for line in text.splitlines() if line.startswith("    run ")]
    assert line.startswith("    run echo 'a b' ")
    assert line.isprintable()


def test_the_upstream_is_judged_as_a_run_would_and_its_password_is_not_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for as_json in (False, True):
        with_password = dataclasses.replace(a_plan(), upstream="socks5://me:secret@192.0.2.1:1080")
        assert dry_run.show(with_password, as_json=as_json) == 0
        out = capsys.readouterr().out
        assert "socks5://me:***@192.0.2.1:1080" in out
        assert "secret" not in out
    with pytest.raises(UsageError):
        dry_run.show(dataclasses.replace(a_plan(), upstream="gopher://x"), as_json=False)


def test_what_is_locked_is_called_so() -> None:
    assert "direct, locked: nothing leaves" in shown(a_plan('net.upstream = "direct"'))
    assert "locked" not in shown(a_plan('net.upstream = "direct"\nnet.routing = true'))
    assert dry_run.NO_UPSTREAM in shown(a_plan())


def test_what_there_is_nothing_of_is_none() -> None:
    text = shown(a_plan())
    assert "    hosts: none\n" in text
    assert "\nhome that is kept:\n    none\n" in text
    assert not set("{}[]") & set(text.partition("file system")[0])


def test_no_number_of_processors_is_all_of_them() -> None:
    assert "\n    processors: all\n" in shown(a_plan())
    assert "\n    processors: 3\n" in shown(a_plan("identity.processors = 3"))


def test_covers_that_follow_each_other_are_one_line_and_all_of_json() -> None:
    covers = [mounts.Cover(f"/proc/{name}") for name in ("a", "b\n", "c")]
    the_plan = dataclasses.replace(
        a_plan(), mounts=(mounts.Directory("/x"), *covers, mounts.Directory("/y"), mounts.Cover("/d"))
    )
    told = shown(the_plan).splitlines()
    at = told.index("    cover       /proc/a, '/proc/b\\n', /proc/c")
    assert ["/x" in told[at - 1], "/y" in told[at + 1]] == [True, True]
    assert told[at + 2] == "    cover       /d"
    assert [op.get("target") for op in dry_run.plain(the_plan)["mounts"]] == [
        "/x",
        *("/proc/a", "/proc/b\n", "/proc/c", "/y", "/d"),
    ]


def test_a_home_that_would_be_kept_is_told_and_not_made(person: Person) -> None:
    with profile('home = { mode = "persist", name = "dry" }') as path:
        done = person.run("run", "--dry-run", "--json", "--profile", path, "true")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["home"]["name"] == "dry"
    assert not os.path.lexists(person.home / ".local" / "share" / "torbox")


def test_nothing_is_started(person: Person) -> None:
    done = person.run(
        "run", "--dry-run", "--name", "dry", "--upstream", "tor://127.0.0.1:1", "--", "touch", "x"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "    run touch x\n" in done.stdout
    assert done.stdout.endswith("Nothing was started.\n")
    again = person.run("shell", "--dry-run", "--json")
    assert (again.returncode, again.stderr) == (0, "")
    assert json.loads(again.stdout)["argv"] == ["/bin/bash"]
    assert not os.path.lexists(person.home / ".local" / "state" / "torbox")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run", "--json", "true"), "--json goes with --dry-run"),
        (("run", "--dry-run", "--verify", "true"), "--verify"),
        (("run", "--dry-run"), "no command"),
        (("run", "--dry-run", "--upstream", "gopher://x", "true"), "gopher"),
        (("run", "--dry-run", "--profile", "nonesuch", "true"), "nonesuch"),
    ],
)
def test_what_a_run_would_refuse_is_refused(person: Person, arguments: tuple[str, ...], told: str) -> None:
    done = person.run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert all(line.startswith("torbox: ") for line in done.stderr.splitlines())
