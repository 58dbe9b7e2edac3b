# SPDX-License-Identifier: GPL-3.0-or-later
"""The completion for zsh; zshcompsys(1)."""

from __future__ import annotations

import argparse

from torbox.cli.commands import Command, commands, verbs, with_options
from torbox.cli.completions.words import RUN, UPSTREAMS, choices, takes, verbs_by_path

_HEAD = """\
#compdef torbox
# zsh completion for torbox, made by `torbox completion zsh`

_torbox_profiles() {
    local -a profiles
    profiles=(${(f)"$(torbox profile list 2>/dev/null | cut -f 1,2 | sed 's/:/\\\\:/g; s/\\t/:/')"})
    _describe -t profiles profile profiles
    _files -g '*.toml'
}

_torbox_homes() {
    local -a homes
    homes=(${(f)"$(torbox home list 2>/dev/null | cut -f 1)"})
    compadd -a homes
}
"""
_HELP = "'(- *)--help[show the help]'"
_VERSION = "'(- *)--version[show the version]'"
_KINDS = {
    "profile": "_torbox_profiles",
    "home": "_torbox_homes",
    "user": "_users",
    "file": "_files",
    "text": " ",
    "upstream": f"({' '.join(each.replace(':', chr(92) + ':') for each in UPSTREAMS)})",
}


def script() -> str:
    """The whole text."""
    parts = [_HEAD]
    by_path = verbs_by_path()
    helps = verbs()
    found = {command.name: command for command in commands()}
    own = {path: [_HELP] for path in helps} | {each.name: _options(each) for each in with_options()}
    for path, inner in by_path.items():
        described = " ".join(_quoted(f"{word}:{helps[f'{path} {word}']}") for word in inner)
        parts.append(
            f"\n{_function(path)}() {{\n"
            "    local context state state_descr line\n    typeset -A opt_args\n"
            f"    local -a verbs=({described})\n"
            f"    _arguments -C {' '.join(own.get(path, [_HELP, _VERSION]))}"
            " '1:command:->verb' '*::argument:->rest'\n"
            "    case $state in\n        verb) _describe -t commands command verbs ;;\n"
            "        rest)\n            case $line[1] in\n"
        )
        for word in inner:
            deeper = f"{path} {word}"
            body = _function(deeper) if deeper in by_path else _arguments(found[deeper])
            parts.append(f"                {word})\n                    {body}\n                    ;;\n")
        parts.append("            esac\n            ;;\n    esac\n}\n")
    return "".join([*parts, '\n_torbox "$@"\n'])


def _function(path: str) -> str:
    return "_" + path.replace(" ", "_")


def _options(command: Command) -> list[str]:
    specs = [_HELP]
    for action in command.options:
        value = _value(action)
        others = f"({' '.join(action.option_strings)})" if len(action.option_strings) > 1 else ""
        again = "*" if isinstance(action, argparse._AppendAction) else others
        for name in action.option_strings:
            joint = "=" if value and name.startswith("--") else ""  # its value may be in the same word
            specs.append(_quoted(f"{again}{name}{joint}[{_escaped(action.help or '')}]{value}"))
    return specs


def _arguments(command: Command) -> str:
    specs = _options(command)
    if command.name == RUN:
        specs += ["'(-)1:program:_command_names -e'", "'*::argument:_normal'"]
    else:
        for action in command.arguments:
            many = "*" if action.nargs == "+" else ""
            specs.append(_quoted(f"{many}{_value(action)}"))
    return "_arguments -S " + " \\\n                        ".join(specs)


def _value(action: argparse.Action) -> str:
    kind = takes(action)
    if not kind:
        return ""
    values = f"({' '.join(choices(action))})" if kind == "words" else _KINDS[kind]
    return f":{_escaped(str(action.metavar or action.dest))}:{values}"


def _escaped(text: str) -> str:
    return "".join(f"\\{character}" if character in ":[]\\" else character for character in text)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
