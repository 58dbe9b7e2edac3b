# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark in its smallest size, so that it does not rot: what it counts, not how fast anything was."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.bench import report
from tests.bench.load import NotMeasured, build, called, measure, serving
from tests.bench.rows import DIRECT, OURS, Demand, Results, Row, judge

ROOT = Path(__file__).parents[2]
NEEDED = ("gcc", "slirp4netns", "pasta")


def test_a_short_run_gives_a_figure_for_every_row_of_torbox_and_writes_its_documents(tmp_path: Path) -> None:
    for program in NEEDED:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    command = [sys.executable, "-m", "tests.bench", "--short", "--rounds", "1", "--only", "direct"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path)], capture_output=True, text=True, timeout=110, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "benchmark.md").read_text()
    assert "torbox:" not in text, text  # a reason why torbox has no figure
    for row in DIRECT:
        if not row.key.endswith(("1000", "10000")):  # the short run holds fewer
            assert f"| {row.title} | torbox |" in text


def test_the_load_generator_counts_what_arrives(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    load = str(build(tmp_path))
    with serving(Path(load), "127.0.0.1") as ports:
        for words in (
            ("up", ports.sink, 2, 50),
            ("down", ports.source, 2, 50),
            ("requests", ports.ask, 3, 50),
            ("ping", ports.ask, 20, 1000, "H"),
        ):
            found = measure([load, words[0], "127.0.0.1", *map(str, words[1:])], None, timeout_s=20)
            assert all(value > 0 for name, value in found.values.items() if name != "broken"), found
            assert not found.values.get("broken")
        found = measure(
            [load, "hold", "127.0.0.1", str(ports.ask), "30"], called("load"), timeout_s=20, again=True
        )
        assert found.values == {"answered": 30}
        assert found.rss > 0
    with pytest.raises(NotMeasured, match="connect"):
        measure([load, "ping", "127.0.0.1", str(ports.ask), "1", "9", "K"], None, timeout_s=20)
    with pytest.raises(NotMeasured, match="sh: "):
        measure(["sh", "-c", "no-such-program-here"], None, timeout_s=20)


HIGH = Row("speed", "a speed", "Gbit/s", True)
LOW = Row("time", "a time", "ms", False)


@pytest.mark.parametrize(
    ("row", "demand", "reached"),
    [
        (HIGH, Demand(1.5, "pasta"), True),
        (HIGH, Demand(1.6, "pasta"), False),
        (HIGH, Demand(1.1, "pasta", best=True), False),
        (HIGH, Demand(6), True),
        (HIGH, Demand(1, "nobody"), None),
        (LOW, Demand(0.5, "pasta"), True),
        (LOW, Demand(0.4, "pasta"), False),
        (LOW, Demand(9), False),
    ],
)
def test_a_demand_is_judged_by_medians(row: Row, demand: Demand, reached: bool | None) -> None:
    results = Results()
    for ours, theirs in ((100, 4), (6, 1), (1, 100)):
        results.add("speed", OURS, ours)
        results.add("speed", "pasta", theirs)
    for ours, theirs in ((10, 20), (10, 20)):
        results.add("time", OURS, ours)
        results.add("time", "pasta", theirs)
    assert judge(row, demand, results).reached is reached


def test_the_report_says_what_was_not_measured_and_why() -> None:
    results = Results()
    results.add("up1", OURS, 9.5)
    results.fail("up1", "pasta", "it is not installed")
    text = report.markdown(results, 1, "a machine", "today", 0.0)
    assert "| 1 stream guest → host | Gbit/s | – | – | – | 9.5 |" in text
    assert "- pasta: it is not installed (1 stream guest → host)" in text
    assert "– ≥ 2.5× slirp4netns: not measured" in text
    out = io.StringIO()
    report.show(Console(file=out, width=150), results)
    assert "pasta: it is not installed" in out.getvalue()


def test_what_was_written_by_hand_stays(tmp_path: Path) -> None:
    document = tmp_path / "benchmark.md"
    document.write_text(f"old\n\n{report.BY_HAND}\n\n## Limits\n")
    report.write(document, "new\n")
    report.write(document, "newer\n")
    assert document.read_text() == f"newer\n\n{report.BY_HAND}\n\n## Limits\n"
