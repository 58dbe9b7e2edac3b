# SPDX-License-Identifier: GPL-3.0-or-later
"""`torbox run --dry-run`: the plan of a sandbox, for people or for machines, and nothing started.

A plan is one frozen value, and this goes through its fields, so one that is added later is shown without
anybody thinking of it: under "more" until it is named here. What holds for every program, and so is in no
plan, is told at the end.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import shlex
from collections.abc import Iterator, Mapping, Set
from typing import Any

from torbox import seccomp
from torbox.mounts import Cover
from torbox.plan import SandboxPlan
from torbox.upstream import registry

HEADINGS = {
    "program": ("argv", "directory"),
    "environment": ("environment",),
    "identity": ("hostname", "processors"),
    "network": (
        *("upstream", "routing", "host_loopback", "dns", "hosts", "mtu", "queues", "ipv6", "spin"),
        "pcap",
    ),
    "warnings": ("warnings",),
    "home that is kept": ("home",),
    "file system, in the order it is made": ("mounts",),
    "desktop": ("desktop",),
    "limits": ("limits",),
    "protections that may be missing": ("allow_missing",),
}
NO_UPSTREAM = "the first Tor that is found, or one that torbox starts"


def show(plan: SandboxPlan, *, as_json: bool) -> int:
    """Print the plan. UsageError for an upstream that a run would not take."""
    upstream = str(registry.parse_url(plan.upstream)) if plan.upstream else ""  # without its password
    plan = dataclasses.replace(plan, upstream=upstream)
    if as_json:
        import json

        print(json.dumps(plain(plan), indent=2))
    else:
        print("\n".join(lines(plan)))
    return 0


def plain(plan: SandboxPlan) -> dict[str, Any]:
    """Every field of the plan as JSON's values, and what holds besides."""
    return {**_plain(plan), "is_locked": plan.is_locked, "denied_system_calls": sorted(seccomp.DENIED)}


def lines(plan: SandboxPlan) -> Iterator[str]:
    """The plan for people: a heading for what belongs together, one line for each thing."""
    fields = {field.name: getattr(plan, field.name) for field in dataclasses.fields(plan)}
    fields["upstream"] = plan.upstream or NO_UPSTREAM
    fields["processors"] = plan.processors or "all"
    if plan.is_locked:
        fields["upstream"] += ", locked: nothing leaves"
    named = {name for names in HEADINGS.values() for name in names}
    more = tuple(name for name in fields if name not in named)
    for heading, names in {**HEADINGS, "more": more}.items():
        if names:
            yield f"{heading}:"
            for name in names:
                alone = len(names) == 1 and names != more
                yield from (f"    {line}" for line in _field(name, fields[name], alone=alone))
            yield ""
    yield "always:"
    yield "    no capability, no way to one, no core dump, a session keyring of its own"
    yield f"    system calls refused: {', '.join(sorted(seccomp.DENIED))}"
    yield ""
    yield "Nothing was started."


def _field(name: str, value: Any, *, alone: bool) -> Iterator[str]:
    """A field in one line or more; what stands `alone` below its heading needs no name."""
    label = "" if alone else f"{name.replace('_', ' ')}: "
    parts = _parts(value)
    if name == "argv":
        yield f"run {shlex.join(map(_printable, value))}"
    elif hasattr(value, "lines"):
        yield from value.lines()
    elif isinstance(value, Mapping) and value:
        if label:
            yield label.rstrip()
        indent = "    " if label else ""
        yield from (f"{indent}{_printable(key)} = {_scalar(each)}" for key, each in value.items())
    elif isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
        for are_covers, group in itertools.groupby(value, lambda op: isinstance(op, Cover)):
            steps = list(group)
            if are_covers:  # many and alike: in one line
                yield _operation(steps[0]) + "".join(f", {_scalar(op.target)}" for op in steps[1:])
            else:
                yield from map(_operation, steps)
    elif parts is not None:
        yield label + ", ".join(f"{key.replace('_', ' ')} {_scalar(each)}" for key, each in parts.items())
    elif alone and isinstance(value, tuple) and value:
        yield from map(_scalar, value)
    else:
        yield label + _scalar(value)


def _parts(value: Any) -> dict[str, Any] | None:
    """The fields of a dataclass or a named tuple."""
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return dict(value._asdict())
    return None


def _operation(op: Any) -> str:
    """One step of building the file system: its kind, where, and whatever is not as usual."""
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(op).__name__).lower()
    details = []
    for field in dataclasses.fields(op):
        value = getattr(op, field.name)
        match field.name:
            case "target":
                continue
            case "source":
                detail = "" if value == op.target else f"from {_scalar(value)}"
            case "points_to":
                detail = f"to {_scalar(value)}"
            case "text":
                detail = f"{len(value.encode(errors='surrogateescape'))} bytes"
            case "mode":
                detail = f"mode {value:04o}"
            case "read_only":
                detail = "read-only" if value else "read-write"
            case name if value == field.default:
                del name
                detail = ""
            case name if isinstance(value, bool):
                detail = ("" if value else "not ") + name.replace("_", " ")
            case name:
                detail = f"{name.replace('_', ' ')} {_scalar(value)}"
        details += [detail] if detail else []
    return f"{kind:11} {_scalar(getattr(op, 'target', ''))}{'  ' if details else ''}{', '.join(details)}"


def _scalar(value: Any) -> str:
    """A value in one line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, Set):
        value = sorted(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{_printable(str(key))} = {_scalar(each)}" for key, each in value.items()) or "none"
    if isinstance(value, tuple | list):
        return ", ".join(map(_scalar, value)) or "none"
    return _printable(str(value)) if str(value) else "none"


def _printable(text: str) -> str:
    return text if text.isprintable() else ascii(text)


def _plain(value: Any) -> Any:
    parts = _parts(value)
    if parts is not None:
        fields = {key: _plain(each) for key, each in parts.items()}
        return fields if isinstance(value, SandboxPlan) else {"kind": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, Set):
        return sorted(map(_plain, value))
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
