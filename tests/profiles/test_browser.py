# SPDX-License-Identifier: GPL-3.0-or-later
"""The browser profile's files and variables, as the real Firefox understands them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from torbox.profiles import load

ALONE = Path(__file__).with_name("firefox_alone.py")
UNSHARE = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child"]


@pytest.mark.skipif(shutil.which("firefox-esr") is None, reason="firefox-esr is not installed")
def test_firefox_visits_an_onion_and_talks_to_nobody_else(home: Path, tmp_path: Path) -> None:
    profile = load.load("browser", {}, home)
    inside = tmp_path / "inside"
    for name, text in profile.home.files.items():
        (inside / name).parent.mkdir(parents=True, exist_ok=True)
        (inside / name).write_text(text)
    variables = [f"{name}={value}" for name, value in profile.env.variables.items()]
    done = subprocess.run(
        [*UNSHARE, sys.executable, str(ALONE), str(inside), "http://torboxtorboxtorbox.onion/", *variables],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    seen = json.loads(done.stdout)
    assert seen["names"] == ["torboxtorboxtorbox.onion"]
    # What Firefox says of the cores when it resists fingerprinting: 4 since about version 150, 2 before.
    reports = [f"torboxtorboxtorbox.onion/report?webrtc=undefined&cores={cores}" for cores in (2, 4)]
    assert set(reports) & set(seen["requests"])
    assert seen["screenshot"]
    prefs = (inside / ".mozilla" / "firefox" / "torbox" / "prefs.js").read_text()
    assert 'user_pref("network.dns.blockDotOnion", false);' in prefs
