# SPDX-License-Identifier: GPL-3.0-or-later
"""Firefox and Chromium through a real Tor, with their own sandboxes on, unseen and in a window."""

from __future__ import annotations

import base64
import json
import shutil
from typing import Any

import pytest

from tests.support.people import Person
from tests.tornet.network import TorNetwork

pytestmark = pytest.mark.skipif(
    not (shutil.which("firefox-esr") and shutil.which("chromium")), reason="needs firefox-esr and chromium"
)
PNG = b"\x89PNG\r\n\x1a\n"

# Runs a browser inside and looks at its processes until it has ended: which of them handle a site's
# content, how they are confined, and what the browser itself has.
OBSERVER = """
import base64, json, os, subprocess, sys
mark, command = sys.argv[1].encode(), sys.argv[2:]
def look(pid):
    with open(f'/proc/{pid}/status') as file:
        status = {line.split(':')[0]: line.partition(':')[2].strip() for line in file}
    return {'filters': int(status['Seccomp_filters']), 'mode': status['Seccomp'],
            'pids': len(status['NSpid'].split()), 'user': os.readlink(f'/proc/{pid}/ns/user'),
            'net': os.readlink(f'/proc/{pid}/ns/net')}
seen = {}
with open('/tmp/log', 'wb') as log:
    browser = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
while browser.poll() is None:
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{pid}/cmdline', 'rb') as file:
                if mark in file.read():
                    seen[pid] = look(pid)
        except (OSError, ValueError, KeyError):
            pass
try:
    with open('/tmp/page.png', 'rb') as file:
        page = file.read()
except OSError:
    page = b''
with open('/tmp/log', errors='replace') as file:
    print(json.dumps({'code': browser.returncode, 'seen': list(seen.values()), 'own': look('self'),
                      'page': base64.b64encode(page).decode(), 'log': file.read()[-2000:]}))
"""


def observed(person: Person, tornet: TorNetwork, profile: str, mark: str, *browser: str) -> dict[str, Any]:
    """A browser's visit to the site, and the sandboxes of its processes whose command has `mark`."""
    upstream = "tor://{}:{}".format(*tornet.socks_address)
    before = len(tornet.site_visits())
    command = ("run", "--profile", profile, "--upstream", upstream, "--", "python3", "-c", OBSERVER, mark)
    done = person.run(*command, *browser, tornet.site_url, timeout_s=100)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["code"] == 0, report["log"]
    visits = [visit.split()[1] for visit in tornet.site_visits()[before:]]
    assert visits
    assert set(visits) <= set(tornet.exits)
    picture = base64.b64decode(report["page"])
    assert picture.startswith(PNG), report["log"]
    assert len(picture) > 3000
    assert report["own"]["filters"] == 1  # torbox's
    return report


def test_firefox_takes_a_screenshot_with_its_own_sandbox_on(person: Person, tornet: TorNetwork) -> None:
    options = ("--headless", "--screenshot", "/tmp/page.png")
    report = observed(person, tornet, "browser", "-contentproc", "firefox-esr", *options)
    own = report["own"]
    confined = [each for each in report["seen"] if each["filters"] > own["filters"]]
    assert confined
    assert all(each["mode"] == "2" for each in confined)
    assert any(each["user"] != own["user"] and each["net"] != own["net"] for each in confined)


def test_chromium_takes_a_screenshot_with_its_own_sandbox_on(person: Person, tornet: TorNetwork) -> None:
    options = ("--headless=new", "--disable-gpu", "--screenshot=/tmp/page.png")
    report = observed(person, tornet, "chromium", "--type=renderer", "chromium", *options)
    own = report["own"]
    confined = [each for each in report["seen"] if each["filters"] > own["filters"]]
    assert confined
    for each in confined:
        assert each["mode"] == "2"
        assert each["user"] != own["user"]
        assert each["net"] != own["net"]
        assert each["pids"] > own["pids"]  # a PID namespace of its own below the sandbox's
