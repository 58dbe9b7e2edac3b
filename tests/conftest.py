# SPDX-License-Identifier: GPL-3.0-or-later
"""What every test may ask for, and what becomes of tests that do not run.

Skips are counted aloud at the end. Where CI=true, a test that could not run has failed: a missing
kernel feature or program would otherwise hide what it was to show. What only another machine has, because it
was booted or is run in another way, no test can bring about: tests marked `machine` are then left out, and
counted aloud.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest

pytest_plugins = ["tests.support.plugin", "tests.tornet.plugin"]


LEFT_OUT = pytest.StashKey[Counter[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "machine(has, what): left out where the machine has not what it needs")
    # A shell without job control starts what runs in the background deaf to these, as nohup does to the
    # first, and so would be every program that a test starts.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = config.stash[LEFT_OUT] = Counter()
    for item in list(items):
        for mark in item.iter_markers("machine"):
            has, what = mark.args
            if not has:
                items.remove(item)
                config.hook.pytest_deselected(items=[item])
                left_out[what] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for what, count in config.stash.get(LEFT_OUT, Counter()).items():
        terminalreporter.write_line(f"LEFT OUT {count} tests, which need what this machine has not: {what}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and os.environ.get("CI") == "true":
        report.outcome = "failed"
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.longrepr = f"{item.nodeid} did not run, which under CI=true is a failure: {reason}"
    return report
