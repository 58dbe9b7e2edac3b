# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker as a process of its own: ready, at work, and gone when it is told or left alone."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.relay.guest import (
    GATEWAY,
    SITE,
    Guest,
    device_pair,
    is_open,
    is_reset,
    query,
    read,
    write,
)
from tests.support.patience import PATIENCE_S
from tests.upstream.socks_server import TorLike, echo, serving
from torbox.netstack.dns import NameService
from torbox.netstack.tcp.state import State
from torbox.relay import worker as relay_worker
from torbox.relay.worker import WorkerConfig, run_worker
from torbox.report import FAILED, READY, Report
from torbox.upstream.registry import parse_url
from torbox.upstream.tor import new_isolation
from torbox.upstream.url import UpstreamUrl

DEAF = 600  # connections, more than a worker with few descriptors may have

ROOT = Path(__file__).parents[2]


class Process:
    """A worker forked off; `stop` is the descriptor whose end of file ends it."""

    def __init__(self, config: WorkerConfig, *, listen: bool = True, descriptors: int = -1) -> None:
        self.device, theirs = device_pair()
        self.ready, ready = os.pipe()
        if not listen:
            os.close(self.ready)
            self.ready = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        stop, self.stop = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                for descriptor in (self.device.fileno(), self.ready, self.stop):
                    os.close(descriptor)
                if descriptors >= 0:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
                os._exit(run_worker(config, theirs.fileno(), Report(ready), stop))
            finally:
                os._exit(99)
        theirs.close()
        os.close(ready)
        os.close(stop)

    def message(self) -> bytes:
        with open(self.ready, "rb", closefd=False) as file:
            return file.read()

    def status(self) -> int:
        pidfd = os.pidfd_open(self.pid)
        try:
            assert select.select([pidfd], [], [], PATIENCE_S)[0], "the worker did not end"
        finally:
            os.close(pidfd)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid = 0
        return status

    def close(self) -> None:
        self.device.close()
        os.close(self.ready)
        if self.stop >= 0:
            os.close(self.stop)
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


@contextlib.contextmanager
def worker(config: WorkerConfig) -> Iterator[Process]:
    process = Process(config)
    try:
        yield process
    finally:
        process.close()


def until(guest: Guest, happened: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < end, "what was waited for did not happen"
        guest.turn()
        select.select([guest.device.fileno()], [], [], 0.005)


BLOCK = WorkerConfig(UpstreamUrl("block"), b"")


def test_a_worker_says_that_it_is_ready_serves_and_ends_when_its_parent_does() -> None:
    tor = TorLike(echo)
    with serving(tor) as server:
        config = WorkerConfig(
            parse_url(f"tor:{server.url}"), new_isolation(), hosts=((b"h.example", (SITE,)),)
        )
        with worker(config) as process:
            assert process.message() == READY
            guest = Guest(process.device.fileno())
            guest.send_datagram(GATEWAY, 53, query(b"h.example"))
            until(guest, lambda: guest.datagrams)
            assert guest.datagrams[0][1].endswith(SITE)
            connection = guest.connect(SITE, 443)
            until(guest, lambda: is_open(connection))
            write(connection, b"hello")
            until(guest, lambda: len(connection.rcv_buf) == 5)
            assert read(connection) == b"hello"
            connection.close()
            until(guest, lambda: connection.state in (State.TIME_WAIT, State.CLOSED))
            os.close(process.stop)
            process.stop = -1
            assert process.status() == 0


def test_a_proxy_is_never_asked_for_the_hosts_loopback() -> None:
    tor = TorLike(echo)
    with serving(tor) as server:
        config = WorkerConfig(
            parse_url(f"tor:{server.url}"), new_isolation(), routing=True, host_loopback=True
        )
        with worker(config) as process:
            assert process.message() == READY
            guest = Guest(process.device.fileno())
            connection = guest.connect(GATEWAY, 8080)
            until(guest, lambda: is_reset(connection))
    assert tor.requests == []


def test_a_byte_ends_it_as_well() -> None:
    with worker(BLOCK) as process:
        assert process.message() == READY
        os.write(process.stop, b"x")
        assert process.status() == 0


def test_a_worker_whose_parent_died_before_it_was_ready_ends() -> None:
    with worker(BLOCK) as process:
        os.close(process.stop)
        process.stop = -1
        assert process.status() == 0


def test_a_worker_to_whom_nobody_listens_ends() -> None:
    process = Process(BLOCK, listen=False)
    try:
        assert process.status() == 0
    finally:
        process.close()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            WorkerConfig(UpstreamUrl("tor", host="a.example", port=9050), new_isolation()),
            b"must be an address",
        ),
        (WorkerConfig(UpstreamUrl("tor", host="127.0.0.1", port=9050), b"short"), b"random bytes"),
        (WorkerConfig(UpstreamUrl("gopher"), b""), b"no scheme"),
        (WorkerConfig(UpstreamUrl("block"), b"", denied=("10.0.0.0/33",)), b"'10.0.0.0/33' is not a network"),
        (WorkerConfig(UpstreamUrl("block"), b"", dns_mode="dig"), b"no such mode"),
    ],
)
def test_a_worker_that_cannot_start_says_why_and_fails(config: WorkerConfig, words: bytes) -> None:
    with worker(config) as process:
        message = process.message()
        assert message.startswith(FAILED)
        assert words in message
        assert process.status() == 1


def test_a_tun_that_is_gone_ends_it() -> None:
    """A socket that is closed at its other end reads as nothing for ever; a broken one writes EPIPE."""
    with worker(BLOCK) as process:
        assert process.message() == READY
        guest = Guest(process.device.fileno())
        guest.connect(SITE)
        guest.turn()
        process.device.close()
        assert process.status() == 1


def test_a_config_hides_what_is_secret() -> None:
    config = WorkerConfig(parse_url("socks5://joe:SECRET@127.0.0.1:1"), b"ISOLATION")
    assert "SECRET" not in repr(config)
    assert "ISOLATION" not in repr(config)


def test_a_worker_that_may_have_few_descriptors_is_not_used_up_by_what_guests_leave_behind() -> None:
    """With 400, and a far end that takes nothing and never finishes."""
    go, deaf_ones = threading.Event(), []

    def far_end(sock: socket.socket) -> None:
        deaf_ones.append(sock)
        if len(deaf_ones) > DEAF:
            echo(sock)
        else:
            go.wait(60)

    with serving(TorLike(far_end)) as server:
        process = Process(WorkerConfig(parse_url(f"tor:{server.url}"), new_isolation()), descriptors=400)
        try:
            assert process.message() == READY
            guest = Guest(process.device.fileno())
            for _ in range(DEAF // 50):
                batch = [guest.connect(SITE) for _ in range(50)]
                until(guest, lambda batch=batch: all(map(is_open, batch)))  # type: ignore[misc]
                for connection in batch:
                    write(connection, b"x" * 1000)
                    connection.close()
                until(guest, lambda batch=batch: all(it.state is not State.FIN_WAIT_1 for it in batch))  # type: ignore[misc]
            connection = guest.connect(SITE)
            until(guest, lambda: is_open(connection))
            write(connection, b"hello")
            until(guest, lambda: len(connection.rcv_buf) == 5)
            assert not guest.device.errors
        finally:
            go.set()
            process.close()


def test_an_epoll_that_cannot_be_had_is_told() -> None:
    """Whatever fails before the worker serves is said through its ready descriptor."""
    process = Process(BLOCK, descriptors=0)
    try:
        message = process.message()
        assert message.startswith(FAILED)
        assert b"Too many open files" in message
        assert process.status() == 1
    finally:
        process.close()


@pytest.mark.parametrize("step", ["Memory", "NameService.warm_up"])
def test_what_keeps_it_from_getting_as_far_as_being_sealed_is_told(
    monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(relay_worker if step == "Memory" else NameService, step.rpartition(".")[2], fail)
    with worker(BLOCK) as process:
        message = process.message()
        assert message.startswith(READY + FAILED)
        assert b"Too many open files" in message
        assert process.status() == 1


def test_the_soft_limit_of_descriptors_is_raised_to_the_hard_one() -> None:
    code = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))\n"
        "from torbox.relay.worker import raise_descriptor_limit as go\n"
        "go(); go()\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "(128, 128)"
    assert resource.getrlimit(resource.RLIMIT_NOFILE) != (128, 128)


def test_the_heavy_libraries_are_not_needed_to_be_ready() -> None:
    code = (
        "import os, sys\n"
        "from torbox.relay.reactor import Reactor\n"
        "from torbox.relay.worker import WorkerConfig, make_relay\n"
        "from torbox.upstream.url import UpstreamUrl\n"
        "config = WorkerConfig(UpstreamUrl('tor', host='127.0.0.1', port=1), bytes(32))\n"
        "relay = make_relay(config, os.pipe()[0], Reactor())\n"
        "heavy = {'dns', 'rich', 'asyncio', 'logging', 'socks', 'pyroute2', 'tomli', 'urllib', 'ssl'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "relay.names.warm_up()\n"
        "print('dns' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split("\n")[:2] == ["[]", "True"]


def test_a_terminal_is_never_written_to() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        code = (
            "import os\n"
            "from tests.relay.test_worker import *\n"
            f"config = WorkerConfig(parse_url('tor://127.0.0.1:{port}'), new_isolation())\n"
            "with worker(config) as process:\n"
            "    process.message()\n"
            "    guest = Guest(process.device.fileno())\n"
            "    guest.connect(SITE)\n"
            "    until(guest, lambda: guest.device.errors)\n"
            "    os.write(process.stop, b'x')\n"
            "    process.status()\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
        )
        assert (done.stdout, done.stderr) == ("", "")
