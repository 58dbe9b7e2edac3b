# SPDX-License-Identifier: GPL-3.0-or-later
"""The completion for bash, with bash-completion's help where it is there; bash(1)."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from torbox.cli.commands import Command, commands, verbs, with_options
from torbox.cli.completions.words import RUN, UPSTREAMS, choices, names, takes, valued, verbs_by_path

_TEXT = """\
# bash completion for torbox, made by `torbox completion bash`

_torbox_words() {  # what of these begins as the word at the cursor
    local each  # not by compgen -W, which would expand a profile's name as a command
    while IFS= read -r each; do
        [[ $each && $each == "$cur"* ]] && printf -v each %q "$each" && COMPREPLY+=("$each")
    done <<<"$1"
}

_torbox_value() {  # a value of this kind
    case "$1" in
        profile)
            _torbox_words "$(torbox profile list 2>/dev/null | cut -f 1)"
            local files
            mapfile -t files < <(compgen -f -X '!*.toml' -- "$cur"; compgen -d -S / -- "$cur")
            COMPREPLY+=("${files[@]}")
            ;;
        home) _torbox_words "$(torbox home list 2>/dev/null | cut -f 1)" ;;
        user) mapfile -t COMPREPLY < <(compgen -u -- "$cur") ;;
        file) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
        upstream) @UPSTREAMS@ ;;
    esac
    # A colon ends a word for readline: only what is behind it is put in.
    local before=${cur%"${cur##*:}"} index
    for index in "${!COMPREPLY[@]}"; do
        COMPREPLY[index]=${COMPREPLY[index]#"$before"}
    done
}

_torbox_program() {  # the program and its own words, which begin at this one of them
    local at
    if ((${1} == ${#words[@]} - 1)); then
        mapfile -t COMPREPLY < <(compgen -c -- "$cur")
    elif declare -F _command_offset >/dev/null; then
        for ((at = $1; at < COMP_CWORD; at++)); do
            [[ ${COMP_WORDS[at]} == "${words[$1]%%[:=]*}" ]] && break
        done
        _command_offset "$at"
    else
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    fi
}

_torbox() {
    local words cur word i path=torbox valued= program=
    read -ra words <<<"${COMP_LINE:0:COMP_POINT}"
    [[ ${COMP_LINE:0:COMP_POINT} == *[[:space:]] ]] && words+=("")
    cur=${words[${#words[@]} - 1]}
    COMPREPLY=()
    for ((i = 1; i < ${#words[@]} - 1; i++)); do
        word=${words[i]}
        if [[ $valued ]]; then
            valued=
            continue
        fi
        case "$path $word" in
@WAYS@
        esac
    done
    if [[ $program ]]; then
        _torbox_program "$program"
        return
    fi
    if [[ ! $valued && $cur == --*=* ]]; then  # readline puts in only what is behind the =, as behind a colon
        valued="$path ${cur%%=*}" cur=${cur#*=}
    fi
    if [[ $valued ]]; then
        case "$valued" in
@VALUES@
        esac
        return
    fi
    case "$path $cur" in
@HERE@
    esac
}

complete -F _torbox torbox
"""


def script() -> str:
    """The whole text."""
    found = commands()
    ways = [(path, 'path+=" $word"') for path in verbs()]
    ways += [(_options(each), 'valued="$path $word"') for each in with_options() if _options(each)]
    ways += [
        (f"{RUN} --", "program=$((i + 1)); break"),
        (f"{RUN} -*", ":"),
        (f"{RUN} *", "program=$i; break"),
    ]
    values = [
        (" | ".join(f"{command.name} {name}" for name in action.option_strings), _value(action))
        for command in with_options()
        for action in valued(command)
    ]
    own = {path: ["--help"] for path in verbs()} | {each.name: names(each) for each in with_options()}
    here = []
    for command in found:
        here.append((f"{command.name} -*", _words(names(command))))
        if command.name == RUN:
            here.append((f"{RUN} *", '_torbox_program "$i"'))
        else:
            here.append((f"{command.name} *", "; ".join(map(_value, command.arguments)) or ":"))
    for path, inner in verbs_by_path().items():
        here.append((f"{path} *", _words([*inner, *own.get(path, ["--help", "--version"])])))
    return (
        _TEXT.replace("@UPSTREAMS@", _words(UPSTREAMS))
        .replace("@WAYS@\n", _cases(ways, 12))
        .replace("@VALUES@\n", _cases(values, 12))
        .replace("@HERE@\n", _cases(here, 8))
    )


def _options(command: Command) -> str:
    return " | ".join(
        f"{command.name} {name}" for action in valued(command) for name in action.option_strings
    )


def _cases(cases: Iterable[tuple[str, str]], indent: int) -> str:
    """Branches of a case: patterns with a bar between them, of which * alone is not taken as it is."""
    lines = []
    for patterns, body in cases:
        quoted = " | ".join(f'"{each}"'.replace('*"', '"*') for each in patterns.split(" | "))
        lines.append(f"{' ' * indent}{quoted}) {body} ;;\n")
    return "".join(lines)


def _words(words: Iterable[str]) -> str:
    return "_torbox_words $'" + "\\n".join(words) + "'"


def _value(action: argparse.Action) -> str:
    kind = takes(action)
    return _words(choices(action)) if kind == "words" else f"_torbox_value {kind}"
