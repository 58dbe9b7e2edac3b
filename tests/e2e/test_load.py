# SPDX-License-Identifier: GPL-3.0-or-later
"""Two hundred programs at once through one sandbox, and nothing of them left in the worker afterwards."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from tests.support.people import Person
from tests.support.processes import descendants
from tests.tornet.network import TorNetwork

# Each line read from standard input starts so many curls at once; their codes are the answer.
MANY_CURLS = """
while read -r COUNT; do
    for i in $(seq "$COUNT"); do curl -sS -o /dev/null -w '%{http_code}\\n' "$0" & done | sort | uniq -c
    echo done
done
"""
ROUNDS = 3  # after the first, which fills caches and pools, what is held must not grow


def worker_of(torbox: int) -> int:
    for pid in descendants(torbox):
        if Path(f"/proc/{pid}/comm").read_text() == "torbox-net\n":
            return pid
    raise AssertionError("no worker found")


def connections_to(port: int) -> int:
    """TCP connections of this machine to a port of its own that are open at both ends; proc_net(5)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = "01"
    return sum(row[2].endswith(f":{port:04X}") and row[3] == established for row in rows)


def memory_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def settled(port: int, wanted: int) -> int:
    """The connections to `port` once no more than `wanted` are open, or when that has taken too long."""
    end = time.monotonic() + 15
    while (count := connections_to(port)) > wanted and time.monotonic() < end:
        time.sleep(0.05)  # closing goes on in another process
    return count


def test_200_parallel_curls_succeed_and_leave_nothing(person: Person, tornet: TorNetwork) -> None:
    upstream = "tor://{}:{}".format(*tornet.socks_address)
    port = tornet.socks_address[1]
    process = subprocess.Popen(
        person.command("run", "--upstream", upstream, "--", "bash", "-c", MANY_CURLS, tornet.site_url),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=dict(person.environment),
        cwd="/",
        text=True,
        bufsize=1,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def curls(count: int) -> list[str]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{count}\n")
        return [" ".join(line.split()) for line in iter(process.stdout.readline, "done\n")]

    with process, process.stdin, process.stdout:
        assert curls(1) == ["1 200"]
        worker = worker_of(process.pid)
        open_before = settled(port, 0)
        assert curls(200) == ["200 200"]
        assert settled(port, open_before) <= open_before
        memory_before = memory_kib(worker)
        for _ in range(ROUNDS - 1):
            assert curls(200) == ["200 200"]
        assert settled(port, open_before) <= open_before
        assert memory_kib(worker) < memory_before * 1.1
        process.stdin.close()
        assert process.wait(timeout=30) == 0
