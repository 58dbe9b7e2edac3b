# SPDX-License-Identifier: GPL-3.0-or-later
"""The completion for fish; complete(1) of fish."""

from __future__ import annotations

import argparse

from torbox.cli.commands import verbs, with_options
from torbox.cli.completions.words import RUN, UPSTREAMS, choices, takes, valued

_HEAD = """\
# fish completion for torbox, made by `torbox completion fish`

complete -c torbox -e
complete -c torbox -f

set -g __torbox_valued @VALUED@

function __torbox_words # those before the cursor, without options and their values
    set -l skip 0
    for word in (commandline -opc)
        if test $skip = 1
            set skip 0
        else if contains -- $word $__torbox_valued
            set skip 1
        else if not string match -q -- '-*' $word
            echo $word
        end
    end
end

function __torbox_at # whether these words, and no others, come before the cursor
    set -l words (__torbox_words)
    test "$words" = "$argv"
end

function __torbox_under # whether these words come before all others
    set -l words (__torbox_words)
    test "$words[1..$(count $argv)]" = "$argv"
end

function __torbox_profiles
    torbox profile list 2>/dev/null | cut -f 1,2
    __fish_complete_suffix .toml
end

function __torbox_program # what the program behind `torbox run` would complete
    set -l words (commandline -opc) (commandline -ct)
    set -e words[1..2]
    while set -q words[2]
        if contains -- $words[1] $__torbox_valued
            set -e words[1..2]
        else if test $words[1] = --
            set -e words[1]
            break
        else if string match -q -- '-*' $words[1]
            set -e words[1]
        else
            break
        end
    end
    set -q words[1]; and not string match -q -- '-*' $words[1]; or return
    complete --do-complete="$(string join ' ' -- (string escape -- $words[1..-2]) $words[-1])"
end

"""
_KINDS = {
    "profile": '"(__torbox_profiles)"',
    "home": "'(torbox home list 2>/dev/null | cut -f 1)'",
    "user": '"(__fish_complete_users)"',
    "upstream": f"'{' '.join(UPSTREAMS)}'",
    "text": "''",
}


def script() -> str:
    """The whole text."""
    names = {
        name for command in with_options() for action in valued(command) for name in action.option_strings
    }
    lines = [_HEAD.replace("@VALUED@", " ".join(sorted(names)))]
    for path, text in verbs().items():
        above, _, word = path.rpartition(" ")
        lines.append(f"{_at(above)} -a {word} -d {_quoted(text)}\n")
    lines.append(f"{_at('torbox')} -l version -d 'show the version'\n")
    for path in ("torbox", *verbs()):
        lines.append(f"{_at(path)} -l help -d 'show the help'\n")
    for command in with_options():
        # Behind `run` the first word that is no option is the program, and options are its own.
        here = _at(command.name) if command.name == RUN else _under(command.name)
        for action in command.options:
            lines.append(f"{here} {_option(action)}{_value(action)} -d {_quoted(action.help or '')}\n")
        if command.name == RUN:
            lines.append(f"{_under(RUN)} -a '(__torbox_program)'\n")
            continue
        for action in () if command.is_group else command.arguments:
            where = _under(command.name) if action.nargs == "+" else _at(command.name)
            lines.append(f"{where}{_value(action).replace(' -x', '')}\n")
    return "".join(lines)


def _at(path: str) -> str:
    return f"complete -c torbox -n '__torbox_at {path}'"


def _under(path: str) -> str:
    return f"complete -c torbox -n '__torbox_under {path}'"


def _option(action: argparse.Action) -> str:
    return " ".join(
        f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in action.option_strings
    )


def _value(action: argparse.Action) -> str:
    kind = takes(action)
    if not kind:
        return ""
    if kind == "file":
        return " -r -F"
    if kind == "words":
        return f" -x -a '{' '.join(choices(action))}'"
    return f" -x -a {_KINDS[kind]}"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
