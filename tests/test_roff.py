# SPDX-License-Identifier: GPL-3.0-or-later
"""Manual pages: what is written is what is read."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torbox import roff

needs_groff = pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")


def rendered(page: str) -> str:
    """A page as it is read, in one line; groff must have nothing to complain of."""
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Kutf8", "-Tutf8", "-P-cbou", "-rLL=2000n"],
        input=page,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return " ".join(done.stdout.split())


def test_marks_become_bold_and_links_keep_their_address() -> None:
    assert roff.inline("say `--x` to **all**") == "say \\fB\\-\\-x\\fR to \\fBall\\fR"
    assert roff.inline("see [the list](docs/list.md)") == "see the list"
    assert roff.inline("see [it](https://x.example/)") == "see it <https://x.example/>"


def test_a_line_never_becomes_a_request() -> None:
    assert roff.paragraph(".TH x") == ".PP\n\\&.TH x\n"
    assert "\n\\&.so x\n" in roff.example([".so x"])
    assert roff.item("'x", "y").startswith(".TP\n\\fB\\(aqx")


def test_markdown_becomes_sections_paragraphs_and_examples() -> None:
    text = "<!-- no -->\n# Title\n\nOne\ntwo.\n\n    a\n\n    [b]\n\n## Keys\n\nThree."
    assert roff.page(roff.from_markdown(text)) == (
        ".PP\nOne two.\n.PP\n.RS 4\n.nf\na\n\n[b]\n.fi\n.RE\n.SH KEYS\nThree.\n"
    )


@needs_groff
def test_what_is_typed_is_read_as_it_was_written() -> None:
    typed = "torbox run --x 'a b' \"c\" ~/d \\n `e` ^f \\fBg .h"
    page = roff.title("x", 1, "y") + roff.section("Z") + roff.example([typed, f". {typed}"])
    assert f"{typed} . {typed}" in rendered(page)


@needs_groff
@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.text("ab.'\\-\"~^ \u00e9…", min_size=1, max_size=12).filter(str.strip), min_size=1, max_size=5
    )
)
def test_any_text_is_read_as_it_was_written(texts: list[str]) -> None:
    page = roff.title("x", 1, "y") + roff.section("Z")
    page += "".join(roff.paragraph(f"x{text}") for text in texts) + roff.item("t", *texts)
    read = rendered(page).replace("\N{HYPHEN}", "-").replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    written = " ".join(" ".join([*(f"x{text}" for text in texts), "t", *texts]).split())
    assert written in read
