# SPDX-License-Identifier: GPL-3.0-or-later
"""Every packet that torbox's processes send, captured on the wire: the SOCKS port's and no other.

    namespace "here"                          namespace "there"
    torbox, 10.77.0.1 ── veth ── tcpdump ──── 10.77.0.2, the private Tor network

What leaves the machine on which torbox runs must cross the veth, or its loopback; both are watched.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.test_no_other_way_out import TRY_EVERYTHING
from tests.support.people import ROOT, Person

HERE, THERE = f"torbox-here-{os.getpid()}", f"torbox-there-{os.getpid()}"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces with a veth between them")

# Address resolution and router, neighbour and group discovery, which never leave the link.
NOT_THE_KERNELS_OWN = "not arp and not (icmp6 and ip6[40] >= 130 and ip6[40] <= 143)"


@dataclass
class Wire:
    socks: str
    site_url: str
    client_pid: int


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    for name in (HERE, THERE):
        ip("netns", "add", name)
    network = None
    try:
        ip(
            "link",
            "add",
            "veth-here",
            "netns",
            HERE,
            "type",
            "veth",
            "peer",
            "name",
            "veth-there",
            "netns",
            THERE,
        )
        for name, device, address in (
            (HERE, "veth-here", "10.77.0.1/24"),
            (THERE, "veth-there", "10.77.0.2/24"),
        ):
            ip("-n", name, "addr", "add", address, "dev", device)
            ip("-n", name, "link", "set", device, "up")
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", HERE, "route", "add", "default", "via", "10.77.0.2")  # whatever leaves is seen to leave
        command = [
            sys.executable,
            "-P",
            "-m",
            "tests.tornet",
            "--json",
            "--no-onion",
            "--listen",
            "10.77.0.2",
        ]
        network = subprocess.Popen(
            ["ip", "netns", "exec", THERE, *command],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
        )
        assert network.stdout is not None
        line = network.stdout.readline()
        assert line, "the private network did not start"
        facts = json.loads(line)
        yield Wire(facts["socks"], facts["site_url"], int(facts["client_pid"]))
    finally:
        if network is not None:
            network.terminate()
            network.communicate()
        for name in (HERE, THERE):
            ip("netns", "delete", name)


def run_here(person: Person, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ip", "netns", "exec", HERE, *person.command(*arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=dict(person.environment),
        cwd="/",
        timeout=100,
    )


def captured(person: Person, *arguments: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run torbox in the namespace `here`; what it printed, and a line for each packet that it sent."""
    with tempfile.TemporaryDirectory() as directory:
        pcap = Path(directory, "capture")
        # "any" is loopback and veth alike.
        command = ["ip", "netns", "exec", HERE, "tcpdump", "-i", "any", "-U", "-w", str(pcap), "-Z", "root"]
        dump = subprocess.Popen([*command, NOT_THE_KERNELS_OWN], stderr=subprocess.PIPE, text=True)
        assert dump.stderr is not None
        with dump.stderr:
            assert any("listening on" in line for line in dump.stderr)
            done = run_here(person, *arguments)
            run_here_marker()
            wait_for_marker(pcap)
            dump.terminate()
            dump.wait()
        return done, packets(pcap)


MARKER_PORT = 9  # discard; a datagram to it on loopback says that all before it has been captured


def run_here_marker() -> None:
    send = f"import socket; socket.socket(2, 2).sendto(b'end of capture', ('127.0.0.1', {MARKER_PORT}))"
    subprocess.run(["ip", "netns", "exec", HERE, sys.executable, "-c", send], check=True)


def wait_for_marker(pcap: Path) -> None:
    end = time.monotonic() + 10
    while b"end of capture" not in pcap.read_bytes():
        assert time.monotonic() < end, "the capture did not see its own end"
        time.sleep(0.05)  # tcpdump writes to a file; the file has no event


def packets(pcap: Path) -> list[str]:
    command = ["tcpdump", "-nn", "-t", "-q", "-r", str(pcap), f"not port {MARKER_PORT} and not icmp[0] == 3"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def endpoints(lines: list[str]) -> set[str]:
    """Source > destination of each packet, the ephemeral port of torbox's own end left out."""

    def end(text: str) -> str:
        return text.rpartition(".")[0] if text.startswith("10.77.0.1.") else text

    found = set()
    for line in lines:
        source, _, rest = line.partition(" > ")
        found.add(f"{end(source.split()[-1])} > {end(rest.split(':')[0].split(' ')[0])}")
    return found


def test_nothing_but_the_socks_connection_is_on_the_wire(person: Person, wire: Wire) -> None:
    command = ("run", "--upstream", f"tor://{wire.socks}", "python3", "-c", TRY_EVERYTHING, wire.site_url)
    done, lines = captured(person, *command)
    assert "tried everything" in done.stdout, done.stderr
    socks = wire.socks.replace(":", ".")
    assert endpoints(lines) == {f"10.77.0.1 > {socks}", f"{socks} > 10.77.0.1"}


def test_the_capture_sees_a_program_that_is_not_in_a_sandbox(person: Person, wire: Wire) -> None:
    probe = "import socket; s = socket.socket(2, 2); s.sendto(b'x', ('198.51.100.7', 53))"
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Person, "command", lambda self, *arguments: [*self.prefix, *arguments])
        _, lines = captured(person, "python3", "-c", probe)
    assert endpoints(lines) == {"10.77.0.1 > 198.51.100.7.53"}


def test_with_tor_dead_only_attempts_to_reach_it_are_on_the_wire(person: Person, wire: Wire) -> None:
    # A SOCKS port that nobody listens at stands for the dead Tor: the live one serves the other tests.
    command = ("run", "--upstream", "tor://10.77.0.2:9", "python3", "-c", TRY_EVERYTHING, wire.site_url)
    done, lines = captured(person, *command)
    assert done.returncode == 125
    assert endpoints(lines) <= {"10.77.0.1 > 10.77.0.2.9", "10.77.0.2.9 > 10.77.0.1"}
