# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs made to measure and to try a network, in a sandbox, against real servers outside."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator

import pytest

from tests.support.people import Person
from tests.support.servers import free_port, nginx, program, running

OUT = ("run", "--upstream", "direct", "--host-loopback", "--")
GATEWAYS = pytest.mark.parametrize("gateway", ["10.0.2.2", "fd00::2"], ids=["v4", "v6"])
LARGE = random.Random(7).randbytes(24 << 20)
SMALL = b"a page\n" * 20


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    with nginx({"large": LARGE, "small": SMALL}) as port:
        yield port


@pytest.fixture(scope="module")
def iperf() -> Iterator[int]:
    port = free_port()
    with running("iperf3", "-s", "-p", str(port), port=port):
        yield port


@GATEWAYS
def test_curl_gets_a_large_file_from_nginx(person: Person, site: int, gateway: str) -> None:
    host = f"[{gateway}]" if ":" in gateway else gateway
    done = person.run(*OUT, "sh", "-c", 'curl -gsS "$0" | sha256sum', f"http://{host}:{site}/large")
    assert done.stdout.split()[:1] == [hashlib.sha256(LARGE).hexdigest()], done.stderr


@GATEWAYS
def test_wrk_has_no_errors_with_50_connections(person: Person, site: int, gateway: str) -> None:
    program("wrk")
    host = f"[{gateway}]" if ":" in gateway else gateway
    done = person.run(*OUT, "wrk", "-c", "50", "-t", "2", "-d", "2s", f"http://{host}:{site}/small")
    assert "Requests/sec" in done.stdout, done.stderr
    assert "Socket errors" not in done.stdout
    assert "Non-2xx" not in done.stdout


@GATEWAYS
@pytest.mark.parametrize("how", [(), ("-R",), ("-P", "8"), ("-P", "8", "-R"), ("--bidir",)], ids=" ".join)
def test_iperf3_runs_to_its_end(person: Person, iperf: int, gateway: str, how: tuple[str, ...]) -> None:
    done = person.run(*OUT, "iperf3", "-c", gateway, "-p", str(iperf), "-t", "1", "-J", *how)
    report = json.loads(done.stdout)
    assert "error" not in report, report["error"]
    sums = [report["end"]["sum_received"]]
    if "--bidir" in how:
        sums.append(report["end"]["sum_received_bidir_reverse"])
    # iperf3 counts no byte that is under way when its time is over; on a bare loopback that can be half.
    assert all(it["bytes"] > 1_000_000 for it in sums)


@GATEWAYS
def test_nc_passes_an_end_of_file_on_and_hears_the_answer(person: Person, gateway: str) -> None:
    """Half-close each way: the server answers only when it has read the end."""
    port = free_port()
    program("nc")
    answer = ("socat", f"TCP6-LISTEN:{port},fork,reuseaddr,ipv6only=0", "SYSTEM:sha256sum")
    with running(*answer, port=port):
        done = person.run(*OUT, "sh", "-c", f"head -c 5000000 /dev/zero | nc -N {gateway} {port}")
    assert done.stdout.split()[:1] == [hashlib.sha256(bytes(5_000_000)).hexdigest()], done.stderr


@GATEWAYS
@pytest.mark.parametrize("how", [(), ("-R",)], ids=["up", "down"])
def test_iperf3_gets_datagrams_through(
    person: Person, iperf: int, gateway: str, how: tuple[str, ...]
) -> None:
    done = person.run(
        *OUT, "iperf3", "-c", gateway, "-p", str(iperf), "-u", "-b", "20M", "-t", "1", "-J", *how
    )
    report = json.loads(done.stdout)
    assert "error" not in report, report["error"]
    total = report["end"]["sum"]
    assert total["packets"] > 0
    assert total["lost_packets"] < total["packets"] / 2, (
        "they may be lost on a busy machine, but not as a rule"
    )
