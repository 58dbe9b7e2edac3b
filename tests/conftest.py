# SPDX-License-Identifier: GPL-3.0-or-later
"""What every test may ask for, and what becomes of tests that do not run.

Skips are counted aloud at the end. Where CI=true, a test that could not run has failed: a missing
kernel feature or program would otherwise hide what it was to show.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from typing import Any

import pytest

pytest_plugins = ["tests.support.plugin", "tests.tornet.plugin"]


def pytest_configure() -> None:
    # A shell without job control starts what runs in the background deaf to these, and so would be every
    # program that a test starts.
    for number in (signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


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
