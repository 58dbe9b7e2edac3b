# SPDX-License-Identifier: GPL-3.0-or-later
"""The results as a table on the terminal, as docs/benchmark.md and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from tests.bench.rows import DIRECT, OURS, SOCKS, TOR, Results, Row, Verdict, judge

BY_HAND = "<!-- Written by hand from here on: make bench keeps it. -->"
MARKS = {True: "✓", False: "✗", None: "–"}
STYLES = {True: "green", False: "red", None: "yellow"}


class Part(NamedTuple):
    title: str
    rows: Sequence[Row]
    names: Sequence[str]
    short: str = ""  # before the titles of its rows in the picture


PARTS = (
    Part("Direct to the host's loopback", DIRECT, ("loopback", "slirp4netns", "pasta", OURS)),
    Part("Through one SOCKS proxy (microsocks)", SOCKS, ("curl", "nsproxy", "proxychains4", OURS), "SOCKS: "),
    Part("Through a private Tor network", TOR, ("curl", OURS), "Tor: "),
)


def number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def demands(row: Row, results: Results, which: str) -> list[Verdict]:
    return [judge(row, demand, results) for demand in getattr(row, which)]


def measured(part: Part, results: Results) -> list[Row]:
    return [row for row in part.rows if results.values[row.key] or results.reasons[row.key]]


def show(console: Console, results: Results) -> None:
    for part in PARTS:
        rows = measured(part, results)
        if not rows:
            continue
        table = Table(title=part.title, title_justify="left")
        for heading in ("", *part.names, "must", "aim"):
            table.add_column(heading, justify="left" if heading in ("", "must", "aim") else "right")
        for row in rows:
            medians = [number(results.median(row.key, name), row.digits) for name in part.names]
            cells = []
            for which in ("must", "aim"):
                cells.append(
                    "\n".join(
                        f"[{STYLES[it.reached]}]{MARKS[it.reached]} {it.text}[/]"
                        for it in demands(row, results, which)
                    )
                )
            table.add_row(f"{row.title}\n[dim]{row.unit}[/]", *medians, *cells)
        console.print(table)
    for line in notes(results):
        console.print(f"[dim]{line}[/]", highlight=False)


def notes(results: Results) -> list[str]:
    """Why figures are missing, or what was odd about them."""
    by_reason: dict[str, list[str]] = {}
    titles = {row.key: row.title for part in PARTS for row in part.rows}
    for key, reasons in results.reasons.items():
        for name, reason in reasons.items():
            if key in titles:
                by_reason.setdefault(f"{name}: {reason}", []).append(titles[key])
    return [f"{reason} ({', '.join(dict.fromkeys(found))})" for reason, found in by_reason.items()]


def markdown(results: Results, rounds: int, machine: str, when: str, load: float) -> str:
    out = [
        "<!-- SPDX-License-Identifier: GPL-3.0-or-later -->",
        "<!-- Written by make bench; do not edit. -->",
        "",
        "# Benchmark",
        "",
        f"Medians of {rounds} interleaved rounds, {when}, on {machine}.",
        "",
        "MTU 65520 for all, and the same load generator (tests/bench/load.c). ✓ and ✗: reached or not. The",
        "ranges behind the medians are in the last table. More is better, but for times, CPU and memory. The",
        f"machine's load before it began was {load:.1f}; what others take of a machine falls on all alike,",
        "and lowers every figure.",
        "",
        "![ratios](benchmark.svg)",
    ]
    for part in PARTS:
        rows = measured(part, results)
        if not rows:
            continue
        out += ["", f"## {part.title}", ""]
        out.append(f"| | unit | {' | '.join(part.names)} | must | aim |")
        out.append("|---|---|" + "---:|" * len(part.names) + "---|---|")
        for row in rows:
            medians = [number(results.median(row.key, name), row.digits) for name in part.names]
            cells = [
                "<br>".join(f"{MARKS[it.reached]} {it.text}" for it in demands(row, results, which))
                for which in ("must", "aim")
            ]
            out.append(f"| {row.title} | {row.unit} | {' | '.join(medians)} | {' | '.join(cells)} |")
    found = notes(results)
    if found:
        out += ["", "## Not measured, or not whole", "", *(f"- {line}" for line in found)]
    out += ["", "## Least and most of all rounds", "", "| | contestant | least | most | rounds |"]
    out.append("|---|---|---:|---:|---:|")
    for part in PARTS:
        for row in measured(part, results):
            for name in part.names:
                values = results.values[row.key][name]
                if values:
                    least, most = number(min(values), row.digits), number(max(values), row.digits)
                    out.append(f"| {row.title} | {name} | {least} | {most} | {len(values)} |")
    return "\n".join(out) + "\n"


def write(path: Path, text: str) -> None:
    """Write the document; what stands behind the mark in the one before it stays."""
    before = path.read_text() if path.exists() else ""
    _, mark, by_hand = before.partition(BY_HAND)
    path.write_text(text + (f"\n{mark}{by_hand}" if mark else ""))


def picture(results: Results, directory: Path) -> str:
    """benchmark.svg and .png: how many times better torbox is than each peer; what was left out and why."""
    try:
        import matplotlib

        matplotlib.use("svg")
        from matplotlib import pyplot
    except ImportError:
        return "no picture: matplotlib is not installed (pip install '.[bench]')"
    bars: list[tuple[str, str, float]] = []
    for part in PARTS:
        for row in measured(part, results):
            ours = results.median(row.key, OURS)
            for name in part.names:
                other = results.median(row.key, name)
                if name != OURS and ours and other:
                    better = ours / other if row.more_is_better else other / ours
                    bars.append((part.short + row.title, name, better))
    matplotlib.rcParams["svg.hashsalt"] = "torbox"  # the same results, the same file
    figure, axes = pyplot.subplots(figsize=(9, 0.24 * len(bars) + 1.2))
    _draw(axes, bars)
    figure.tight_layout()
    for suffix in ("svg", "png"):
        figure.savefig(
            directory / f"benchmark.{suffix}", dpi=110, metadata={"Date": None} if suffix == "svg" else {}
        )
    pyplot.close(figure)
    return ""


COLOURS = {
    "loopback": "#9a9a9a",
    "curl": "#9a9a9a",
    "slirp4netns": "#3b75af",
    "pasta": "#c45a2c",
    "nsproxy": "#4a8f5a",
    "proxychains4": "#8a5aa8",
}


def _draw(axes: Any, bars: Sequence[tuple[str, str, float]]) -> None:
    """One bar for each peer of each row, from 1 to how many times better torbox is."""
    places = list(range(len(bars)))[::-1]
    colours = [COLOURS[name] for _, name, _ in bars]
    axes.barh(places, [better - 1 for _, _, better in bars], left=1, color=colours, height=0.8)
    titles = [title if at == 0 or bars[at - 1][0] != title else "" for at, (title, _, _) in enumerate(bars)]
    axes.set_yticks(places, titles, fontsize=7)
    axes.tick_params(axis="y", length=0)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    axes.axvline(1, color="black", linewidth=1)
    axes.set_title("torbox against each peer: better (right) or worse (left)", fontsize=10, loc="left")
    for place, (title, name, better) in zip(places, bars, strict=True):
        side = "left" if better >= 1 else "right"
        axes.text(better, place, f" {name} {better:.2f}× ", va="center", ha=side, fontsize=6)
        if title in titles and titles.index(title) == len(bars) - 1 - place:
            axes.axhline(place + 0.5, color="#dddddd", linewidth=0.5, zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.15, y=0.01)
