# SPDX-License-Identifier: GPL-3.0-or-later
"""Manual pages, written in the few words of man(7) that they need; groff_man(7).

Texts come with the marks of Markdown that torbox's own documents use: `code`, **bold**, [links](url),
headings, paragraphs, and examples by four columns of indentation.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable

WIDTH = 110  # columns of the source; what is seen is filled anew

_MARK = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*|\[([^\]]+)\]\(([^)]*)\)")
_COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)


def title(name: str, section: int, summary: str) -> str:
    """How a page begins. Without a date, so that it is the same whenever it is made."""
    return (
        '.\\" SPDX-License-Identifier: GPL-3.0-or-later\n'
        f'.TH {name.upper()} {section} "" torbox "torbox\'s manual"\n'
        ".nh\n.ad l\n"  # options are not to be broken
        f".SH NAME\n{_text(name)} \\- {_text(summary)}\n"
    )


def page(*parts: str) -> str:
    """The text of a page."""
    return re.sub(r"^(\.S[HS] .*\n)\.PP\n", r"\1", "".join(parts), flags=re.MULTILINE)


def section(heading: str) -> str:
    return f".SH {_text(heading.upper())}\n"


def subsection(heading: str) -> str:
    return f".SS {_text(heading)}\n"


def paragraph(text: str) -> str:
    return f".PP\n{_filled(text)}"


def item(term: str, *paragraphs: str) -> str:
    """A term, in bold unless it has marks of its own, and what there is to say of it."""
    marked = inline(term) if _MARK.search(term) else f"\\fB{_code(term)}\\fR"
    first, *rest = paragraphs
    return f".TP\n{_guarded(marked)}\n{_filled(first)}" + "".join(f".IP\n{_filled(each)}" for each in rest)


def example(lines: Iterable[str], *, indented: bool = False) -> str:
    """Lines as they are. `indented`: as part of the item before."""
    body = "".join(f"{_guarded(_code(line))}\n" for line in lines)
    around = (".RS\n", ".RE\n") if indented else ("", "")
    return f"{around[0]}.PP\n.RS 4\n.nf\n{body}.fi\n.RE\n{around[1]}"


def from_markdown(text: str) -> str:
    """A text of paragraphs, examples and headings of the second order and below."""
    parts = []
    for block in re.split(r"\n{2,}", _COMMENT.sub("", text).strip("\n")):
        if block.startswith("## "):
            parts.append(section(block[3:]))
        elif block.startswith("### "):
            parts.append(subsection(block[4:]))
        elif block.startswith("    "):
            parts.append(example(textwrap.dedent(block).split("\n")))
        elif not block.startswith("# ") and block:
            parts.append(paragraph(block))
    return "".join(parts).replace(
        ".fi\n.RE\n.PP\n.RS 4\n.nf\n", "\n"
    )  # one example, with an empty line in it


def inline(text: str) -> str:
    """One line with its marks; code and names stand out in bold."""
    parts = []
    at = 0
    for match in _MARK.finditer(text):
        code, bold, link, url = match.groups()
        parts.append(_text(text[at : match.start()]))
        if link is not None:
            parts.append(_text(f"{link} <{url}>" if "://" in url else link))
        else:
            parts.append(f"\\fB{_code(code or '') or _text(bold)}\\fR")
        at = match.end()
    return "".join([*parts, _text(text[at:])])


def _filled(text: str) -> str:
    marked = inline(" ".join(text.split()))
    lines = textwrap.wrap(marked, WIDTH, break_long_words=False, break_on_hyphens=False)
    return "".join(f"{_guarded(line)}\n" for line in lines)


def _text(text: str) -> str:
    """Prose: apostrophes and hyphens may become the printer's."""
    return text.replace("\\", "\\e").replace("^", "\\(ha").replace("~", "\\(ti")


def _code(text: str) -> str:
    """Something to be typed: hyphens and quotes are those of the keyboard."""
    marks = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti", '"': "\\(dq"}
    return "".join(marks.get(character, character) for character in text)


def _guarded(line: str) -> str:
    """A line that begins like a request is none."""
    return f"\\&{line}" if line.startswith((".", "'")) else line
