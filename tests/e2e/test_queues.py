# SPDX-License-Identifier: GPL-3.0-or-later
"""A sandbox whose interface has several queues: what one worker gives out, another serves."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.directories import profile
from tests.support.people import Person
from tests.support.processes import descendants, wait_until_gone
from tests.upstream.socks_server import read_exactly, serving

NAMES = 200
QUEUES = pytest.mark.parametrize("queues", [2, 4])

# Each name is asked for by one socket and connected to by another, so mostly through different queues.
PROGRAM = r"""
import socket, sys
names = [f"n{number}.example" for number in range(int(sys.argv[1]))]
addresses = {}
for name in names:
    family = socket.AF_INET6 if int(name[1:-8]) % 2 else socket.AF_INET
    addresses[name] = socket.getaddrinfo(name, 80, family, socket.SOCK_STREAM)[0]
connections = {}
for name, (family, kind, _, _, address) in addresses.items():
    connections[name] = socket.socket(family, kind)
    connections[name].settimeout(20)
    connections[name].connect(address)
for name, connection in connections.items():
    connection.sendall(b"?")
right = sum(connection.recv(20).decode().strip() == name for name, connection in connections.items())
print("right:", right, flush=True)
sys.stdin.read()
"""


def tell_name(sock: socket.socket) -> None:
    """A SOCKS 5 proxy whose far end says the name it was asked for, once it has heard something."""
    _, count = read_exactly(sock, 2)
    read_exactly(sock, count)
    sock.sendall(b"\x05\x00")
    assert read_exactly(sock, 4) == b"\x05\x01\x00\x03"
    name = read_exactly(sock, read_exactly(sock, 1)[0])
    read_exactly(sock, 2)
    sock.sendall(b"\x05\x00\x00\x01" + bytes(6))
    read_exactly(sock, 1)
    sock.sendall(name.ljust(20))
    sock.recv(1)


@contextmanager
def running(person: Person, queues: int, upstream: str, *command: str) -> Iterator[subprocess.Popen[str]]:
    with profile(f'extends = "default"\n[net]\nqueues = {queues}\n') as path:
        process = subprocess.Popen(
            person.command("run", "-q", "--profile", path, "--upstream", upstream, "--", *command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(person.environment),
            cwd="/",
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()


def workers_of(torbox: int) -> list[int]:
    return [pid for pid in descendants(torbox) if Path(f"/proc/{pid}/comm").read_text() == "torbox-net\n"]


def sockets_of(pid: int) -> int:
    links = (os.readlink(descriptor) for descriptor in Path(f"/proc/{pid}/fd").iterdir())
    return sum(link.startswith("socket:") for link in links)


@QUEUES
def test_every_name_leads_where_it_should_whichever_worker_gave_it_out(person: Person, queues: int) -> None:
    with (
        serving(tell_name) as proxy,
        running(person, queues, f"socks5:{proxy.url}", "python3", "-c", PROGRAM, str(NAMES)) as process,
    ):
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == f"right: {NAMES}\n", process.communicate()
        workers = workers_of(process.pid)
        assert len(workers) == queues
        if os.geteuid() == 0:  # the descriptors of undumpable processes are read
            held = [sockets_of(pid) for pid in workers]
            assert min(held) > 0, f"a worker was given no connection: {held}"
        process.stdin.close()
        assert process.wait(20) == 0


def test_when_one_of_several_workers_dies_the_program_does_and_the_others_do(person: Person) -> None:
    if os.geteuid():
        pytest.skip("needs root: a worker is killed")
    with running(person, 4, "block", "sh", "-c", "echo up; exec sleep 1000") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        below = descendants(process.pid)
        os.kill(workers_of(process.pid)[2], signal.SIGKILL)
        assert process.wait(20) == 125
        wait_until_gone(below)
