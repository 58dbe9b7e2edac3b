# SPDX-License-Identifier: GPL-3.0-or-later
"""torbox-profile(5), generated from the fields of the model as docs/profiles.md is, and from its words.

`make docs` writes docs/torbox-profile.5; a test fails while the file differs from what this gives.
"""

from __future__ import annotations

from torbox import roff
from torbox.profiles.model import KEYS, SECTIONS, Key
from torbox.profiles.reference import HEAD, describe_default, describe_kind, describe_section, tail

NAME = "torbox-profile"
FILES = """
## Files

`~/.config/torbox/profiles/NAME.toml`, `/etc/torbox/profiles/NAME.toml`

## See also

`torbox`(1); TOML is described at https://toml.io/
"""


def page() -> str:
    """The whole text of docs/torbox-profile.5."""
    _, _, head = HEAD.partition("# Profiles\n")
    parts = [
        roff.title(NAME, 5, "how torbox runs a program"),
        roff.section("Description"),
        roff.from_markdown(head),
    ]
    for section in ("", *SECTIONS):
        if section:
            parts += [roff.subsection(f"[{section}]"), roff.from_markdown(describe_section(section))]
        parts += (_describe(key) for key in KEYS.values() if key.section == section)
    parts += [roff.from_markdown(tail()), roff.from_markdown(FILES)]
    return roff.page(*parts)


def _describe(key: Key) -> str:
    name = key.path.rpartition(".")[2]
    return roff.item(key.path, key.doc, f"{describe_kind(key.kind)}.{describe_default(key)}") + roff.example(
        [f"{name} = {key.example}"], indented=True
    )


if __name__ == "__main__":  # make docs
    import sys

    sys.stdout.write(page())
