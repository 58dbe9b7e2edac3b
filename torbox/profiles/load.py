# SPDX-License-Identifier: GPL-3.0-or-later
"""A profile from its name to its frozen value: found, read, checked, merged with what it extends.

Every file of the chain is checked as it stands, so a fault names the file and line it is in; then values
are merged from the far end of the chain to the near one. All faults are told in one ProfileError.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torbox.errors import ProfileError
from torbox.profiles import document, search
from torbox.profiles.kinds import did_you_mean, dotted, nearest, show
from torbox.profiles.model import KEYS, SECTIONS, Origin, Profile, build
from torbox.profiles.place import Place, Source, in_order

EXCLUSIVE = (("mounts.read_only", "mounts.read_write"), ("mounts.read_write", "mounts.read_only"))

FAULTS_MAX = 100  # of a profile are looked for; whoever has more has not written one


class _Given(NamedTuple):
    """What a file says, as far as it is right."""

    values: dict[str, Any]  # by dotted path
    origins: dict[Origin, Place]


class _File(NamedTuple):
    path: Path
    given: _Given


def load(name_or_path: str, environ: Mapping[str, str], home: Path) -> Profile:
    """The profile with all that it inherits. ProfileError, with every fault, if it cannot be had."""
    profile, faults = examine(name_or_path, environ, home)
    if faults:
        raise ProfileError(faults)
    return profile


def examine(name_or_path: str, environ: Mapping[str, str], home: Path) -> tuple[Profile, list[str]]:
    """As much of the profile as is right, and the faults of the rest. ProfileError for an unknown name."""
    faults: list[str] = []
    path = search.find(name_or_path, environ, home)
    chain = _read_chain(path, environ, home, faults)
    values: dict[str, Any] = {}
    origins: dict[Origin, Place] = {}
    for file in reversed(chain):
        _drop_contradicted(values, file.given.values)
        for key, value in file.given.values.items():
            values[key] = KEYS[key].kind.merge(values[key], value) if key in values else value
        origins.update(file.given.origins)
    own = chain[0].given.values if chain else {}
    for key in ("extends", "description"):  # these say what one profile is, not its heirs
        values[key] = own.get(key, "")
        if key not in own:
            origins.pop((key, ""), None)
    faults += _contradictions(values, origins)
    files = tuple(file.path for file in chain)
    return build(values, name=path.stem, files=files, origins=origins), _first(in_order(faults))


def loads(text: str, name: str = "profile") -> Profile:
    """A profile from a text that extends nothing. It is no file, so faults tell no lines of it."""
    faults: list[str] = []
    given = _check(document.parse(text, name), Source(name), faults)
    if given.values.get("extends"):
        faults.append(f"{name}: extends: a text cannot extend a file")
    faults = faults or _contradictions(given.values, given.origins)
    if faults:
        raise ProfileError(faults)
    return build(given.values, name=name, origins=given.origins)


def _first(faults: list[str]) -> list[str]:
    """As many faults as somebody might read."""
    return faults if len(faults) <= FAULTS_MAX else [*faults[:FAULTS_MAX], "and more faults than these"]


def _read_chain(path: Path, environ: Mapping[str, str], home: Path, faults: list[str]) -> list[_File]:
    """The profile's file and those it extends, as far as they can be read; faults are noted."""
    chain: list[_File] = []
    seen: dict[str, str] = {}
    named: Place | None = None  # by whom, if not by the user
    while True:
        label = document.label(path)
        if label in seen.values():
            label = ascii(str(path))[1:-1]  # another of the same name: tell them apart
        seen[os.path.realpath(path)] = label
        try:
            text = document.read_text(path)
        except ProfileError as error:
            faults += (f"{named}: {fault}" if named else fault for fault in error.faults)
            return chain
        try:
            table = document.parse(text, label)
        except ProfileError as error:
            faults += error.faults
            return chain
        given = _check(table, Source(label, text), faults)
        chain.append(_File(path, given))
        extends = given.values.get("extends", "")
        if not extends:
            return chain
        place = given.origins["extends", ""]
        try:
            following = _find_base(extends, path, environ, home)
        except ProfileError as error:
            faults += (f"{place}: {fault}" for fault in error.faults)
            return chain
        if os.path.realpath(following) in seen:
            faults.append(f"{place}: {show(extends)} leads back to {seen[os.path.realpath(following)]}")
            return chain
        path, named = following, place


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


def _check(table: Mapping[str, Any], source: Source, faults: list[str]) -> _Given:
    """The values of a file's tables by dotted path; what is unknown or wrong is noted in `faults`."""
    given = _Given({}, {})

    def check_key(path: str, place: Place, value: object) -> None:
        if len(faults) > FAULTS_MAX:
            return
        if path not in KEYS:
            faults.append(f"{place}: unknown key{_meant(path)}")
            return
        kind = KEYS[path].kind
        noted = len(faults)
        checked = kind.read(value, place, faults)
        if len(faults) == noted:
            given.values[path] = checked
            given.origins[path, ""] = place
            given.origins.update(((path, part), place.inside(step)) for part, step in kind.parts(value))

    for name, value in table.items():
        place = Place(source, (name,))
        if name not in SECTIONS:
            check_key(dotted("", name), place, value)
        elif not isinstance(value, Mapping):
            faults.append(f"{place}: {show(value)} is not a table")
        else:
            for key, each in value.items():
                check_key(dotted(name, key), place.inside(key), each)
    return given


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


def _contradictions(values: Mapping[str, Any], origins: Mapping[Origin, Place]) -> list[str]:
    """What no single value shows to be wrong."""
    faults = []
    for path in values.get("mounts.read_write", ()):
        if path in values.get("mounts.read_only", ()):
            where = origins["mounts.read_write", path].spot
            faults.append(f"{where}: mounts.read_write: {show(path)} is in mounts.read_only too")
    files = values.get("home.files", {})
    for path in files:
        above = path.rpartition("/")[0]
        while above:
            if above in files:
                where = origins["home.files", path].spot
                faults.append(
                    f"{where}: home.files: {show(above)} is a file, so {show(path)} cannot be below it"
                )
            above = above.rpartition("/")[0]
    return faults
