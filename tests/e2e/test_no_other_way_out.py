# SPDX-License-Identifier: GPL-3.0-or-later
"""Tor's SOCKS port and nothing else: seen by strace, with Tor alive and with Tor dead."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.directories import open_directory
from tests.support.people import Person
from tests.tornet.network import TorNetwork

# What a hostile or just chatty program tries: names, UDP, other ports, raw and odd socket families.
TRY_EVERYTHING = r"""
import socket, sys, urllib.request
def attempt(what):
    try: what()
    except OSError: pass
def send(family, kind, address, data=b"x"):
    with socket.socket(family, kind) as s:
        s.settimeout(2)
        s.connect(address)
        s.send(data)
        s.recv(1)
attempt(lambda: urllib.request.urlopen(sys.argv[1], timeout=30).read())
for address in ("127.0.0.1", "10.0.2.2", "192.168.0.1", "169.254.169.254", "198.51.100.7", "8.8.8.8"):
    for port in (53, 80):
        attempt(lambda: send(socket.AF_INET, socket.SOCK_STREAM, (address, port)))
        attempt(lambda: send(socket.AF_INET, socket.SOCK_DGRAM, (address, port)))
for address in ("::1", "fd00::2", "2001:db8::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"):
    attempt(lambda: send(socket.AF_INET6, socket.SOCK_STREAM, (address, 80)))
    attempt(lambda: send(socket.AF_INET6, socket.SOCK_DGRAM, (address, 80)))
for family in (socket.AF_PACKET, socket.AF_VSOCK):
    attempt(lambda: socket.socket(family, socket.SOCK_DGRAM).close())
for path in ("/run/dbus/system_bus_socket", "/run/nscd/socket", "/tmp/.X11-unix/X0", "\0@/tmp/dbus"):
    attempt(lambda: send(socket.AF_UNIX, socket.SOCK_STREAM, path))
attempt(lambda: socket.getaddrinfo("example.com", 80))
print("tried everything")
"""


@pytest.fixture
def shared_file() -> Iterator[Path]:
    """A file that any user of the machine may write."""
    with open_directory() as directory:
        yield directory / "log"


@pytest.fixture(scope="module")
def own_tornet() -> Iterator[TorNetwork]:
    """A network whose client may be killed."""
    with TorNetwork(onion=False) as network:
        yield network


def upstream_of(network: TorNetwork) -> str:
    return "tor://{}:{}".format(*network.socks_address)


def traced(person: Person, log: Path, *arguments: str) -> str:
    """Run torbox under strace, with every network call of every process of the run in `log`."""
    strace = shutil.which("strace")
    assert strace, "strace is missing"
    log.touch()
    log.chmod(0o666)
    tracer = [
        strace,
        "-f",
        "-qq",
        "-s",
        "256",
        "-e",
        "trace=network,write",
        "-e",
        "signal=none",
        "-o",
        str(log),
    ]
    done = subprocess.run(
        [*person.prefix, *tracer, *person.command(*arguments)[len(person.prefix) :]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=dict(person.environment),
        cwd="/",
        timeout=100,
    )
    assert "tried everything" in done.stdout, done.stderr
    return log.read_text()


def sent_from_the_hosts_network(log: str) -> set[str]:
    """Where every process but the program connected or sent to, as strace shows addresses.

    The program is the one process that wrote its last words; its own calls end at the tun.
    """
    by_process: dict[str, list[str]] = {}
    for line in log.splitlines():
        pid, _, call = line.partition(" ")
        by_process.setdefault(pid, []).append(call.strip())
    found = set()
    for calls in by_process.values():
        if any(call.startswith('write(1, "tried everything') for call in calls):
            continue
        for call in calls:
            if call.startswith(("connect(", "sendto(", "sendmsg(", "sendmmsg(")) and "sa_family=" in call:
                found.add(call.partition("{sa_family=")[2].partition("}")[0])
    return found


def test_torbox_talks_to_the_socks_port_alone(
    person: Person, own_tornet: TorNetwork, shared_file: Path
) -> None:
    host, port = own_tornet.socks_address
    command = (
        "run",
        "--upstream",
        upstream_of(own_tornet),
        "python3",
        "-c",
        TRY_EVERYTHING,
        own_tornet.site_url,
    )
    sent = sent_from_the_hosts_network(traced(person, shared_file, *command))
    # Root looks up the user it becomes, and the C library may ask the user database's daemon for it.
    sent.discard('AF_UNIX, sun_path="/var/run/nscd/socket"')
    assert sent == {f'AF_INET, sin_port=htons({port}), sin_addr=inet_addr("{host}")'}


def test_the_trace_would_show_another_way_out(
    person: Person, own_tornet: TorNetwork, shared_file: Path
) -> None:
    # The same programs without torbox: the check above can fail.
    strace = shutil.which("strace")
    assert strace
    shared_file.touch()
    shared_file.chmod(0o666)
    command = [*person.prefix, strace, "-f", "-qq", "-s", "256", "-e", "trace=network,write", "-o"]
    probe = "import socket; s = socket.socket(2, 2); s.connect(('127.0.0.1', 9)); s.send(b'x')"
    command += [str(shared_file), "python3", "-c", probe]
    # The person's own PATH: a python3 that is a shell script would ask the user database, too.
    subprocess.run(command, env=dict(person.environment), check=True, timeout=30)
    assert sent_from_the_hosts_network(shared_file.read_text()) == {
        'AF_INET, sin_port=htons(9), sin_addr=inet_addr("127.0.0.1")'
    }


READ_FOREVER = r"""
import socket, sys
host, port = sys.argv[1], int(sys.argv[2])
s = socket.create_connection((host, port))
s.send(b"GET /big?bytes=100000000000 HTTP/1.0\r\n\r\n")
s.recv(100)
print("STARTED", flush=True)
try:
    while s.recv(65536): pass
    print("end of file")
except OSError as error:
    print(type(error).__name__)
try:
    socket.create_connection((host, port), timeout=20)
except OSError as error:
    print(type(error).__name__)
"""


def test_when_tor_dies_the_program_gets_a_reset_and_nothing_leaves(person: Person) -> None:
    with TorNetwork(onion=False) as network:
        host, port = network.site_url.split("/")[2].split(":")
        process = subprocess.Popen(
            person.command(
                "run", "--upstream", upstream_of(network), "python3", "-c", READ_FOREVER, host, port
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=dict(person.environment),
            cwd="/",
            text=True,
        )
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == "STARTED\n"
            visits = len(network.site_visits())
            network.kill_client()
            rest = process.stdout.read().splitlines()
            assert process.wait(timeout=30) == 0
        assert rest[0] == "ConnectionResetError"
        assert rest[1] in ("ConnectionRefusedError", "OSError")  # OSError: EHOSTUNREACH or ENETUNREACH
        assert len(network.site_visits()) == visits
        before_start = person.run("run", "--upstream", upstream_of(network), "true")
        assert before_start.returncode == 125
        assert before_start.stderr.startswith("torbox: ")
        assert "Traceback" not in before_start.stderr
