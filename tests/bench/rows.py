# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of the table: what each figure is, what it must reach and what it aims at.

A demand compares the median of torbox with another contestant's median (or best), or with a figure. The
demands are those of the project's goals; they are met or not, and the table says which.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

OURS = "torbox"


class Demand(NamedTuple):
    """At least (or, where less is better, at most) `factor` times what `against` has; alone: that figure."""

    factor: float
    against: str = ""
    best: bool = False  # against its best round instead of its median


@dataclass(frozen=True)
class Row:
    key: str
    title: str
    unit: str
    more_is_better: bool
    must: Sequence[Demand] = ()
    aim: Sequence[Demand] = ()
    digits: int = 1


def _beats(*demands: tuple[float, str]) -> tuple[Demand, ...]:
    return tuple(Demand(*each) for each in demands)


SLIRP, PASTA, LOOPBACK = "slirp4netns", "pasta", "loopback"
_ONE = (Demand(2.5, SLIRP), Demand(1.3, PASTA, best=True))
_EIGHT = _beats((1.2, SLIRP), (0.85, PASTA))
DIRECT = (
    Row("up1", "1 stream guest → host", "Gbit/s", True, _ONE, _beats((0.8, LOOPBACK))),
    Row("down1", "1 stream host → guest", "Gbit/s", True, _ONE, _beats((0.8, LOOPBACK))),
    Row("up8", "8 streams guest → host", "Gbit/s", True, _EIGHT, _beats((1.2, PASTA))),
    Row("down8", "8 streams host → guest", "Gbit/s", True, _EIGHT, _beats((1.2, PASTA))),
    Row(
        "requests1",
        "connection per request, 1 client",
        "req/s",
        True,
        _beats((3, SLIRP), (0.9, PASTA)),
        _beats((1.2, PASTA)),
        digits=0,
    ),
    Row(
        "requests50",
        "connection per request, 50 clients",
        "req/s",
        True,
        _beats((1.5, SLIRP), (0.9, PASTA)),
        _beats((1.2, PASTA)),
        digits=0,
    ),
    Row("p50", "keep-alive, p50", "µs", False, _beats((1.1, PASTA)), _beats((0.7, PASTA))),
    Row("p99", "keep-alive, p99", "µs", False),
    Row("cpu_up", "CPU guest → host", "s/GB", False, _beats((0.6, PASTA)), _beats((0.4, PASTA)), digits=2),
    Row("cpu_down", "CPU host → guest", "s/GB", False, _beats((0.6, PASTA)), _beats((0.4, PASTA)), digits=2),
    Row("cpu_requests1", "CPU per connection, 1 client", "µs", False, digits=0),
    Row("cpu_requests50", "CPU per connection, 50 clients", "µs", False, digits=0),
    Row("rss1000", "RSS with 1,000 used connections", "MB", False, (Demand(30),), (Demand(20),)),
    Row("pss1000", "PSS with 1,000 used connections", "MB", False),
    Row("held10000", "of 10,000 open connections still answer", "", True, (Demand(10_000),), digits=0),
    Row("rss10000", "RSS with 10,000 open connections", "MB", False, (), (Demand(100),)),
    Row("start", "start-up of `true`", "ms", False, _beats((1.2, PASTA)), _beats((0.7, PASTA))),
)
CURL, NSPROXY = "curl", "nsproxy"
_TWIN, _MORE = (0.95, NSPROXY), (1.5, NSPROXY)
SOCKS = (
    Row("socks_bulk", "download by curl", "Gbit/s", True, _beats((0.7, CURL), _TWIN), _beats((0.9, CURL))),
    Row("socks_up1", "1 stream guest → far", "Gbit/s", True, _beats(_TWIN)),
    Row("socks_down1", "1 stream far → guest", "Gbit/s", True, _beats(_TWIN)),
    Row("socks_up8", "8 streams guest → far", "Gbit/s", True, _beats(_TWIN)),
    Row("socks_down8", "8 streams far → guest", "Gbit/s", True, _beats(_TWIN)),
    Row(
        "socks_requests1",
        "connection per request, 1 client",
        "req/s",
        True,
        _beats(_TWIN),
        _beats(_MORE),
        digits=0,
    ),
    Row(
        "socks_requests50",
        "connection per request, 50 clients",
        "req/s",
        True,
        _beats(_TWIN),
        _beats(_MORE),
        digits=0,
    ),
    Row(
        "socks_p50",
        "keep-alive, answered in two writes, p50",
        "µs",
        False,
        _beats((1.05, NSPROXY)),
        (Demand(1000),),
    ),
)
TOR = (
    Row("tor_bulk", "download", "Mbit/s", True, _beats((0.95, CURL)), _beats((1.0, CURL))),
    Row("tor_first", "first byte", "ms", False, _beats((1.1, CURL)), _beats((1.0, CURL)), digits=0),
)


@dataclass
class Results:
    """Every figure by row and contestant, and why there is none."""

    values: dict[str, dict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    reasons: dict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, key: str, name: str, value: float) -> None:
        self.values[key][name].append(value)

    def fail(self, key: str, name: str, reason: str) -> None:
        self.reasons[key][name] = reason

    def median(self, key: str, name: str) -> float | None:
        found = self.values[key][name]
        return statistics.median(found) if found else None

    def figure(self, row: Row, demand: Demand) -> float | None:
        """What a demand compares with."""
        if not demand.against:
            return 1.0
        found = self.values[row.key][demand.against]
        if not found:
            return None
        if demand.best:
            return max(found) if row.more_is_better else min(found)
        return statistics.median(found)


class Verdict(NamedTuple):
    text: str  # "≥ 2.5× slirp4netns: 3.1×"
    reached: bool | None  # None: there was nothing to compare


def judge(row: Row, demand: Demand, results: Results) -> Verdict:
    sign = "≥" if row.more_is_better else "≤"
    other = f"{demand.against}'s best" if demand.best else demand.against
    wanted = (
        f"{sign} {demand.factor:g}× {other}" if other else f"{sign} {demand.factor:,g} {row.unit}".strip()
    )
    ours, figure = results.median(row.key, OURS), results.figure(row, demand)
    if ours is None or not figure:
        return Verdict(f"{wanted}: not measured", None)
    ratio = ours / figure
    reached = ratio >= demand.factor if row.more_is_better else ratio <= demand.factor
    return Verdict(f"{wanted}: {ratio:.2f}×" if other else wanted, reached)


def verdicts(rows: Sequence[Row], results: Results) -> Mapping[str, Sequence[Verdict]]:
    """Those of the musts, by row."""
    return {row.key: [judge(row, demand, results) for demand in row.must] for row in rows}
