# SPDX-License-Identifier: GPL-3.0-or-later
"""torbox's own tor comes with the first lease and goes with the last: a real tor in the private network."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tornet.network import TorNetwork
from tests.tornet.process import wait_until
from tests.tornet.site import PAGE
from torbox.errors import UpstreamError
from torbox.tor import launch
from torbox.tor.lease import Lease, acquire, running, would_wait_for_network
from torbox.tor.places import Places

DEADLINE_S = 60
ONION_DEADLINE_S = 90  # seconds; on a machine that has much else to do, its interval may be missed
END_S = 10  # for a process to be gone

HOLDER = """
import os, sys
from torbox.tor.lease import acquire
lease = acquire(lambda percent, summary: None, 60, linger_s=0)
print(lease.tor_pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def environ(tmp_path: Path, tornet: TorNetwork) -> dict[str, str]:
    """A user of the private network with a home of their own, and a path that torrc makes difficult."""
    torrc = tmp_path / ".config" / "torbox" / "torrc"
    torrc.parent.mkdir(parents=True)
    torrc.write_text(tornet.membership)
    runtime = tmp_path / "run #1"
    runtime.mkdir(mode=0o700)
    return {
        "HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": str(runtime),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
    }


class Watch:
    """A process that is not our child, by a descriptor: no later one with its number can pass for it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.descriptor = os.pidfd_open(pid)

    def gone(self) -> bool:
        """It has ended, or does so now."""
        return bool(select.select([self.descriptor], [], [], END_S)[0])

    def alive(self) -> bool:
        return not select.select([self.descriptor], [], [], 0)[0]


@contextlib.contextmanager
def watching(lease: Lease) -> Iterator[tuple[Watch, Watch]]:
    """The tor and the keeper of a lease."""
    status = Path(f"/proc/{lease.tor_pid}/status").read_text()
    keeper = int(status.partition("\nPPid:")[2].split()[0])
    watches = Watch(lease.tor_pid), Watch(keeper)
    try:
        yield watches
    finally:
        for watch in watches:
            os.close(watch.descriptor)


def start(environ: dict[str, str], linger_s: float = 0) -> Lease:
    return acquire(lambda percent, summary: None, DEADLINE_S, environ=environ, linger_s=linger_s)


def files(environ: dict[str, str]) -> list[str]:
    """What is in the run directory."""
    return sorted(path.name for path in Places.of(environ).run.iterdir())


def fetch(lease: Lease, url: str) -> bytes:
    proxy = f"socks5h://localhost{urllib.parse.quote(str(lease.socks_path))}"
    argv = ["curl", "--silent", "--show-error", "--max-time", "30", "--proxy", proxy, url]
    return subprocess.run(argv, stdout=subprocess.PIPE, check=False).stdout


def readable(lease: Lease) -> bool:
    return bool(select.select([lease], [], [], END_S)[0])


def test_the_first_starts_tor_the_second_uses_it_and_the_last_stops_it(
    environ: dict[str, str], tornet: TorNetwork
) -> None:
    steps: list[tuple[int, str]] = []
    first = acquire(lambda *step: steps.append(step), DEADLINE_S, environ=environ, linger_s=0)
    assert [percent for percent, _ in steps] == sorted({percent for percent, _ in steps})
    assert len(steps) > 3
    assert steps[-1] == (100, "Done")
    assert running(environ) == (100, "Done")
    with watching(first) as (tor, keeper):
        with start(environ) as second:
            assert second.tor_pid == first.tor_pid
            first.close()
            assert fetch(second, tornet.site_url) == PAGE
            # In a network of short intervals a descriptor moves every few minutes, and is amiss meanwhile.
            wait_until(lambda: fetch(second, tornet.onion_url) == PAGE, "onion service", ONION_DEADLINE_S)
        assert tor.gone()
        assert keeper.gone()
    assert files(environ) == ["lock"]
    assert running(environ) is None


def test_everything_of_it_is_private_and_nothing_listens_on_tcp(environ: dict[str, str]) -> None:
    places = Places.of(environ)
    with start(environ) as lease, watching(lease) as (tor, keeper):
        assert files(environ) == ["control", "cookie", "keeper", "lock", "socks", "torrc"]
        assert [path.stat().st_mode & 0o777 for path in (places.run, places.state)] == [0o700, 0o700]
        assert {(places.run / name).stat().st_mode & 0o077 for name in files(environ) if name != "lock"} == {
            0
        }
        inodes = {os.stat(f"/proc/{tor.pid}/fd/{fd}").st_ino for fd in os.listdir(f"/proc/{tor.pid}/fd")}
        listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        assert not [entry for entry in listening if entry[3] == "0A" and int(entry[9]) in inodes]
        lease.close()
        assert keeper.gone()


def test_the_keeper_takes_nothing_of_its_starter_along(environ: dict[str, str], tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        with start({**environ, "SECRET": "x"}) as lease, watching(lease) as (tor, keeper):
            for process in (tor, keeper):
                open_files = [
                    os.readlink(f"/proc/{process.pid}/fd/{fd}")
                    for fd in os.listdir(f"/proc/{process.pid}/fd")
                ]
                assert secret.name not in open_files
                assert b"SECRET" not in Path(f"/proc/{process.pid}/environ").read_bytes()
                assert os.getsid(process.pid) != os.getsid(0)
            assert [os.readlink(f"/proc/{keeper.pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
            assert os.readlink(f"/proc/{keeper.pid}/cwd") == "/"
            lease.close()
            assert keeper.gone()


def test_kill_9_lets_go_as_close_does(environ: dict[str, str]) -> None:
    argv = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(argv, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        tor = Watch(int(holder.stdout.readline()))
        assert tor.alive()
        holder.kill()
    assert tor.gone()
    os.close(tor.descriptor)


def test_first_runs_at_the_same_time_share_one_tor(environ: dict[str, str]) -> None:
    argv = [sys.executable, "-c", HOLDER]
    holders = [
        subprocess.Popen(argv, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)
    ]
    tors = set()
    for holder in holders:
        assert holder.stdout is not None
        tors.add(int(holder.stdout.readline()))
    assert len(tors) == 1
    tor = Watch(tors.pop())
    for holder in holders:
        holder.communicate()
    assert tor.gone()
    os.close(tor.descriptor)


def test_a_tor_that_nobody_needs_lingers_for_the_next_run(environ: dict[str, str]) -> None:
    with start(environ, linger_s=30) as lease, watching(lease) as (tor, keeper):
        lease.close()
        with start(environ) as again:
            assert again.tor_pid == tor.pid
        assert tor.alive()
        os.kill(keeper.pid, signal.SIGTERM)
        assert tor.gone()
        assert keeper.gone()
    assert files(environ) == ["lock"]


def test_a_lingering_tor_goes_when_its_time_is_over(environ: dict[str, str]) -> None:
    with start(environ, linger_s=0.2) as lease, watching(lease) as (tor, keeper):
        lease.close()
        assert tor.gone()
        assert keeper.gone()


def test_when_the_keeper_is_killed_tor_dies_and_the_next_run_recovers(
    environ: dict[str, str], tornet: TorNetwork
) -> None:
    with start(environ) as lease, watching(lease) as (tor, keeper):
        os.kill(keeper.pid, signal.SIGKILL)
        assert tor.gone()
        assert readable(lease)
        assert "keeper" in files(environ)  # stale
        with start(environ) as recovered, watching(recovered) as (_, next_keeper):
            assert recovered.tor_pid != tor.pid
            assert fetch(recovered, tornet.site_url) == PAGE
            recovered.close()
            assert next_keeper.gone()
    assert files(environ) == ["lock"]


def test_when_tor_dies_its_leases_hear_of_it_and_the_keeper_goes(environ: dict[str, str]) -> None:
    with start(environ, linger_s=30) as lease, watching(lease) as (tor, keeper):
        os.kill(tor.pid, signal.SIGKILL)
        assert readable(lease)
        assert keeper.gone()
    assert files(environ) == ["lock"]


def test_a_tor_that_will_not_start_says_why(environ: dict[str, str]) -> None:
    (Path(environ["HOME"]) / ".config/torbox/torrc").write_text("NoSuchOption 1\n")
    with pytest.raises(UpstreamError, match="tor ended: exit code 1") as caught:
        start(environ)
    assert "Unknown option 'NoSuchOption'" in caught.value.advice


def test_a_tor_that_gets_nowhere_is_given_up_in_time(environ: dict[str, str]) -> None:
    (Path(environ["HOME"]) / ".config/torbox/torrc").write_text("DisableNetwork 1\n")
    with pytest.raises(
        UpstreamError, match=r"not ready within 1\.5 s: it stopped at 0 %, Starting"
    ) as caught:
        acquire(lambda percent, summary: None, 1.5, environ=environ, linger_s=0)
    assert "DisableNetwork is set" in caught.value.advice


def test_no_tor_installed_is_said_with_the_apt_line(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_DAEMONS", "/nonexistent")
    with pytest.raises(UpstreamError, match="no tor is installed") as caught:
        start({**environ, "PATH": "/nonexistent"})
    assert "sudo apt-get install tor" in caught.value.advice
    assert files(environ) == []


def test_a_keeper_that_cannot_start_says_why_and_leaves_no_socket(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho the interpreter is broken >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(UpstreamError, match=r"tor could not be started: the interpreter is broken"):
        start(environ)
    assert files(environ) == ["lock"]


def test_a_lock_that_is_never_let_go_ends_at_the_deadline(environ: dict[str, str]) -> None:
    import fcntl

    places = Places.of(environ)
    places.prepare()
    with places.lock.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UpstreamError, match="another torbox"):
            acquire(lambda percent, summary: None, 0.1, environ=environ, linger_s=0)


def test_a_keeper_that_ends_without_a_word_is_tried_again_and_then_reported(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    def hang_up(*_: object) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.close()
        begun.append(ours)
        return ours

    monkeypatch.setattr("torbox.tor.lease._begin", hang_up)
    with pytest.raises(UpstreamError, match="ended 3 times without a word"):
        start(environ)
    assert [each.fileno() for each in begun] == [-1, -1, -1]


def test_a_tor_that_is_to_be_started_needs_the_internet_unless_the_user_has_lines_for_it(
    environ: dict[str, str], tmp_path: Path
) -> None:
    assert not would_wait_for_network(environ)
    with start(environ, linger_s=0) as lease, watching(lease) as (_, keeper):
        (tmp_path / ".config" / "torbox" / "torrc").unlink()
        assert not would_wait_for_network(environ)
        lease.close()
        assert keeper.gone()
    assert would_wait_for_network(environ)
