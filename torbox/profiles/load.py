# SPDX-License-Identifier: GPL-3.0-or-later
"""A profile from its name to its frozen value: found, read, checked, merged with what it extends.

Every file of the chain is checked as it stands, so a fault names the file it is in; then values are
merged from the far end of the chain to the near one. All faults are told in one ProfileError.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torbox.errors import ProfileError
from torbox.profiles import document, search
from torbox.profiles.kinds import did_you_mean, dotted, nearest, show
from torbox.profiles.model import KEYS, SECTIONS, Profile, build

EXCLUSIVE = (("mounts.read_only", "mounts.read_write"), ("mounts.read_write", "mounts.read_only"))


class _File(NamedTuple):
    path: Path
    label: str
    values: dict[str, Any]  # by dotted path, as far as they are right


def load(name_or_path: str, environ: Mapping[str, str], home: Path) -> Profile:
    """The profile with all that it inherits. ProfileError, with every fault, if it cannot be had."""
    faults: list[str] = []
    chain = _read_chain(search.find(name_or_path, environ, home), environ, home, faults)
    if faults:
        raise ProfileError(faults)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for file in reversed(chain):
        _drop_contradicted(values, file.values)
        for path, value in file.values.items():
            values[path] = KEYS[path].kind.merge(values[path], value) if path in values else value
            origins[path] = file.label
    values["extends"] = chain[0].values.get("extends", "")
    values["description"] = chain[0].values.get("description", "")  # says what one profile is, not its heirs
    faults = _contradictions(values, origins)
    if faults:
        raise ProfileError(faults)
    return build(values, name=chain[0].path.stem, files=tuple(file.path for file in chain), origins=origins)


def loads(text: str, name: str = "profile") -> Profile:
    """A profile from a text that extends nothing."""
    faults: list[str] = []
    values = _check(document.parse(text, name), name, faults)
    if values.get("extends"):
        faults.append(f"{name}: extends: a text cannot extend a file")
    faults = faults or _contradictions(values, dict.fromkeys(values, name))
    if faults:
        raise ProfileError(faults)
    return build(values, name=name, origins=dict.fromkeys(values, name))


def _read_chain(path: Path, environ: Mapping[str, str], home: Path, faults: list[str]) -> list[_File]:
    """The profile's file and those it extends, as far as they can be read; faults are noted."""
    chain: list[_File] = []
    seen: dict[str, str] = {}
    while True:
        label = document.label(path)
        if label in seen.values():
            label = ascii(str(path))[1:-1]  # another of the same name: tell them apart
        seen[os.path.realpath(path)] = label
        try:
            table = document.read(path)
        except ProfileError as error:
            faults += error.faults
            return chain
        values = _check(table, label, faults)
        chain.append(_File(path, label, values))
        extends = values.get("extends", "")
        if not extends:
            return chain
        try:
            following = _find_base(extends, path, environ, home)
        except ProfileError as error:
            faults += (f"{label}: extends: {fault}" for fault in error.faults)
            return chain
        if os.path.realpath(following) in seen:
            faults.append(f"{label}: extends: '{extends}' leads back to {seen[os.path.realpath(following)]}")
            return chain
        path = following


def _find_base(extends: str, path: Path, environ: Mapping[str, str], home: Path) -> Path:
    if search.is_path(extends):
        return path.parent / search.find(extends, environ, home)
    if extends == path.stem:
        here = os.path.realpath(path)
        named = [os.path.realpath(each) for each in search.candidates(extends, environ, home)]
        # On the search path: what comes after this one. Elsewhere (a file given by its path): the first.
        following = named[named.index(here) + 1 :] if here in named else named
        if not following:
            raise ProfileError([f"there is no other profile called '{extends}'"])
        return Path(following[0])
    return search.find(extends, environ, home)


def _check(table: Mapping[str, Any], label: str, faults: list[str]) -> dict[str, Any]:
    """The values of a file's tables by dotted path; what is unknown or wrong is noted in `faults`."""
    values: dict[str, Any] = {}

    def check_key(path: str, value: object) -> None:
        if path in KEYS:
            noted = len(faults)
            checked = KEYS[path].kind.read(value, f"{label}: {path}", faults)
            if len(faults) == noted:
                values[path] = checked
        else:
            faults.append(f"{label}: {path}: unknown key{_meant(path)}")

    for name, value in table.items():
        if name not in SECTIONS:
            check_key(dotted("", name), value)
        elif not isinstance(value, Mapping):
            faults.append(f"{label}: {name}: {show(value)} is not a table")
        else:
            for key, each in value.items():
                check_key(dotted(name, key), each)
    return values


def _meant(path: str) -> str:
    """The known key nearest to an unknown one: in its own table, of the same name elsewhere, or at all."""
    section, _, name = path.rpartition(".")
    siblings = [key.path for key in KEYS.values() if key.section == section]
    hint = did_you_mean(path, siblings if section else [*siblings, *SECTIONS])
    if not hint:
        by_name = {known.rpartition(".")[2]: known for known in KEYS}
        elsewhere = nearest(name, by_name)
        hint = f"; did you mean '{by_name[elsewhere]}'?" if elsewhere else ""
    return hint


def _drop_contradicted(inherited: dict[str, Any], own: Mapping[str, Any]) -> None:
    """A path that is inherited as one kind of mount and given as the other is what the heir says."""
    for path, other in EXCLUSIVE:
        if path in inherited and other in own:
            inherited[path] = tuple(each for each in inherited[path] if each not in own[other])


def _contradictions(values: Mapping[str, Any], origins: Mapping[str, str]) -> list[str]:
    """What no single value shows to be wrong."""
    faults = []
    for path in values.get("mounts.read_write", ()):
        if path in values.get("mounts.read_only", ()):
            where = origins["mounts.read_write"]
            faults.append(f"{where}: mounts.read_write: {show(path)} is in mounts.read_only too")
    files = values.get("home.files", {})
    for path in files:
        above = path.rpartition("/")[0]
        while above:
            if above in files:
                where = origins["home.files"]
                faults.append(
                    f"{where}: home.files: {show(above)} is a file, so {show(path)} cannot be below it"
                )
            above = above.rpartition("/")[0]
    return faults
