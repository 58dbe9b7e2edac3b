# SPDX-License-Identifier: GPL-3.0-or-later
"""A command line that is not understood: what was meant, and whose help to read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from torbox.cli import entry
from torbox.cli.commands import with_options
from torbox.cli.completions.words import valued
from torbox.errors import UsageError

ROOT = Path(__file__).parents[2]


def told(*words: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        entry._parse(words)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("line", "message", "advice"),
    [
        ("run --upsteam block true", "no option --upsteam; did you mean '--upstream'?", "torbox run --help."),
        (
            "run --upsteam=tor://a true",
            "no option --upsteam; did you mean '--upstream'?",
            "torbox run --help.",
        ),
        ("run --nothing-like-it true", "there is no option --nothing-like-it", "torbox run --help."),
        ("run -p browser", "no option -p; did you mean '--profile' or '--pcap'?", "torbox run --help."),
        ("run -pbrowser true", "no option -p; did you mean '--profile' or '--pcap'?", "torbox run --help."),
        ("shell --verfy", "no option --verfy; did you mean '--verify'?", "torbox shell --help."),
        ("shell -v ls -l", "unrecognized arguments: ls …", "run a program: torbox run -- ls …"),
        ("shell ls", "unrecognized arguments: ls", "torbox shell --help."),
        ("verify curl x", "unrecognized arguments: curl x", "a program: torbox run --verify -- curl x"),
        ("profile list --jsno", "there is no option --jsno", "torbox profile list --help."),
        ("curl x", "no command of torbox is called 'curl'", "To run a program: torbox run -- curl x"),
        ("curl x", "'curl'", "There are run, shell, verify,"),
        ("verfy", "is called 'verfy'; did you mean 'verify'?", "torbox --help."),
        ("--profile x run y", "no option --profile before a command", "command: torbox run --profile …"),
        ("profile shwo x", "VERB: 'shwo' is not one of list, show,", "torbox profile --help."),
        ("--verbose x", "no option --verbose before a command", "command: torbox run --verbose …"),
        ("-v x", "no option -v before a command", "command: torbox run -v …"),
        ("--resolved x", "no option --resolved before a", "command: torbox profile show --resolved …"),
        ("--upsteam=x run", "a command; did you mean '--upstream'?", "command: torbox run --upstream …"),
        ("--nothing-like-it", "no option --nothing-like-it before", "torbox run --nothing-like-it …"),
        ("--versoin", "no option --versoin before a command; did you mean '--version'?", "torbox --help."),
        ("-hx", "argument -h/--help: ignored explicit argument 'x'", "torbox --help."),
        ("home lst", "did you mean 'list'?", "torbox home --help."),
        ("completion tcsh", "SHELL: 'tcsh' is not one of bash, fish, zsh", "torbox completion --help."),
    ],
)
def test_what_was_meant_is_told_and_whose_help_to_read(line: str, message: str, advice: str) -> None:
    first, *rest = told(*line.split())
    assert message in first
    assert any(advice in each for each in rest), rest
    assert rest[-1].startswith("See torbox")


def test_what_follows_a_wrong_option_may_be_a_password_and_is_not_repeated() -> None:
    for words in (("--upsteam", "socks5://me:secret@h:1"), ("--upsteam=socks5://me:secret@h:1",)):
        for command in ("run", "shell", "verify"):
            assert "secret" not in "".join(told(command, *words))
        assert "secret" not in "".join(told(*words, "run", "true"))
    for words in (("foo", "--token=secret"), ("foo", "-p", "secret"), ("foo", "a b", "-psecret")):
        for command in (("shell",), ("verify",), ()):
            said = "".join(told(*command, *words))
            assert "secret" not in said
            assert "-p" not in said
            assert "foo" in said


def test_what_was_meant_is_not_told_to_be_run_or_to_stand_elsewhere() -> None:
    assert not any("To run a program" in line for line in told("rnu", "--", "curl"))
    assert "did you mean 'run'?" in told("rnu", "--", "curl")[0]
    for words in (("--versoin",), ("--hlep", "run")):
        assert told(*words)[1:] == ["See torbox --help."]


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (command.name, name)
        for command in with_options()
        for action in valued(command)
        if type(action).__name__ != "_AppendAction"
        for name in action.option_strings
    ],
)
def test_an_option_that_holds_one_value_is_given_once(command: str, option: str) -> None:
    words = command.split()[1:]
    wrong = f"argument {option}: given more than once, and it holds one value"
    assert told(*words, option, "a", option, "b") == [wrong, f"See {command} --help."]
    assert told(*words, option, "a", f"{option}=a")[0] == wrong


def test_the_options_of_which_there_are_several_stay_and_the_programs_own_are_not_looked_at() -> None:
    assert entry._parse(["run", "--share", "a", "--share", "b", "x"]).share == ["a", "b"]
    options = entry._parse(["run", "--profile", "a", "--", "x", "--profile", "b", "--profile", "c"])
    assert options.profile == "a"
    names = ["--allow-missing", "keyring", "--allow-missing", "landlock"]
    assert entry._parse(["shell", *names]).allow_missing == ["keyring", "landlock"]


def test_a_right_command_line_costs_no_look_at_mistakes() -> None:
    code = (
        "import sys; from torbox.cli import entry; entry._parse(['run', '--upstream', 'block', 'true']);"
        "print({'difflib', 'torbox.cli.mistakes'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"
