# SPDX-License-Identifier: GPL-3.0-or-later
"""What came of the probes: rows that a table or a machine can show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One probe. `leaks` says what got through, in words; `untold` why the probe could not be made."""

    area: str
    what: str
    leaks: tuple[str, ...] = ()
    untold: str = ""

    @property
    def held(self) -> bool:
        return not self.leaks and not self.untold


def as_json(rows: Sequence[Row]) -> dict[str, object]:
    """For machines: `ok` is whether every probe held."""
    return {
        "ok": all(row.held for row in rows),
        "probes": [{**asdict(row), "held": row.held} for row in rows],
    }


def of_json(text: bytes) -> list[Row]:
    """What the program inside said. ValueError if it is not what it says when it ends in good order."""
    import json

    found = json.loads(text)
    if not isinstance(found, list) or not found:
        raise ValueError("no probe was made")
    return [Row(row["area"], row["what"], tuple(row["leaks"]), row["untold"]) for row in found]
