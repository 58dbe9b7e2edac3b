# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of a program that the kernel did not find."""

from __future__ import annotations

from pathlib import Path

import pytest

from torbox import plan
from torbox.cli import not_there
from torbox.profiles import load

NOT_SHARED = "on this machine, but not in the sandbox: share it by --share, or [mounts] in a profile."


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    work = tmp_path / "home" / "w"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    return work


def said(work: Path, command: str, *share: str) -> str:
    the_plan = plan.make(
        load.loads(""),
        command=(command,),
        upstream=None,
        share=share,
        directory=str(work),
        environ={},
        home=str(work.parent),
    )
    return not_there.advice(command, the_plan)


def test_what_is_shared_has_another_name_inside(work: Path) -> None:
    (work / "s.sh").write_text("#!/bin/sh\n")
    assert said(work, f"{work}/s.sh", ".") == "It is '/home/user/w/s.sh' inside."


def test_what_is_not_shared_could_be(work: Path) -> None:
    (work / "s.sh").write_text("#!/bin/sh\n")
    assert said(work, f"{work}/s.sh") == f"It is there {NOT_SHARED}"
    assert said(work, "./s.sh") == f"It is there {NOT_SHARED}"


def test_nothing_is_said_of_what_is_nowhere(work: Path) -> None:
    assert said(work, f"{work}/s.sh", ".") == said(work, "./s.sh") == ""


@pytest.mark.parametrize(
    ("line", "interpreter"),
    [
        ("#!/no/such -x", "'/no/such'"),
        ("#! \t/no/such\t-x", "'/no/such'"),
        ("#!/bin/sh\r", "'/bin/sh\\r'"),
        ("#!python3", "'python3'"),
    ],
)
def test_a_script_whose_interpreter_is_missing_is_told_by_that(
    work: Path, line: str, interpreter: str
) -> None:
    (work / "s.sh").write_bytes(f"{line}\nexit\n".encode())
    wanted = f"It is there, but its interpreter {interpreter} is not."
    assert said(work, "./s.sh", ".") == wanted
    assert said(work, "/home/user/w/s.sh", ".") == wanted


def test_an_interpreter_of_this_machine_is_shared_or_has_another_name(work: Path) -> None:
    python = work / "python"
    python.touch()
    (work / "s.py").write_text(f"#!{python}\n")
    told = said(work, "./s.py", ".").splitlines()
    assert told == [
        f"It is there, but its interpreter '{python}' is not.",
        "The interpreter is '/home/user/w/python' inside.",
    ]
    assert said(work, "./s.py", "s.py").endswith(f"The interpreter is there {NOT_SHARED}")


def test_what_is_no_script_may_be_for_another_system(work: Path) -> None:
    (work / "elf").write_bytes(b"\x7fELF")
    assert "for another system" in said(work, "./elf", ".")
