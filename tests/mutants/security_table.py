# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of docs/security.md, between its two marks."""

from __future__ import annotations

from collections.abc import Iterable

from tests.mutants.mutant import ROOT, Mutant, row

PAGE = ROOT / "docs" / "security.md"
BEGIN = "<!-- mutants: made by `make docs` of tests/mutants/*.toml -->\n"
END = "<!-- end of mutants -->\n"
HEAD = "| protection | where | what notices when it is taken out |\n|---|---|---|\n"


def text(mutants: Iterable[Mutant]) -> str:
    return HEAD + "".join(f"{row(mutant)}\n" for mutant in mutants)


def split() -> tuple[str, str, str]:
    """What stands before the table, the table, and what stands behind it. ValueError without its marks."""
    page = PAGE.read_text()
    begin, end = page.index(BEGIN) + len(BEGIN), page.index(END)
    return page[:begin], page[begin:end], page[end:]


def write(mutants: Iterable[Mutant]) -> None:
    before, _, behind = split()
    PAGE.write_text(before + text(mutants) + behind)
