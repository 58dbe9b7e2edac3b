# SPDX-License-Identifier: GPL-3.0-or-later
"""UDP of a real program in a real sandbox: answered by this machine's loopback where that was asked for."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.support.people import Person

FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["v4", "v6"])

PROGRAM = r"""
import errno, socket, sys
gateway, port, closed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
family = socket.AF_INET6 if ":" in gateway else socket.AF_INET
UDP_SEGMENT = 103  # linux/udp.h
def opened():
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.settimeout(20)
    return sock

with opened() as sock:
    for size in (1, 1400, 9000, 60000):
        sock.sendto(b"e" * size, (gateway, port))
        print("echo", len(sock.recv(1 << 16)))
with opened() as sock:
    sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
    sock.sendto(b"s" * 10500, (gateway, port))
    print("segments", sorted(len(sock.recv(1 << 16)) for _ in range(11)))
with opened() as sock:
    sock.connect((gateway, closed))
    sock.send(b"x")
    try:
        sock.recv(1)
    except OSError as error:
        print("closed", errno.errorcode[error.errno])
many = [opened() for _ in range(300)]
right = 0
for first in range(0, 300, 30):  # the far end is one socket, whose buffer holds 200 on a busy machine
    some = list(enumerate(many))[first : first + 30]
    for number, sock in some:
        sock.sendto(b"%d" % number, (gateway, port))
    right += sum(sock.recv(9) == b"%d" % number for number, sock in some)
print("many", right)
with opened() as sock:
    sock.connect(("192.175.48.1" if family == socket.AF_INET else "2001:db8::1", 9))
    try:
        sock.send(b"x")
        sock.recv(1)
    except OSError as error:
        print("world", errno.errorcode[error.errno])
"""


@contextlib.contextmanager
def echoing(family: socket.AddressFamily) -> Iterator[int]:
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))

        def echo() -> None:
            while True:
                payload, place = sock.recvfrom(1 << 16)
                if payload == b"the end of the test":
                    return
                sock.sendto(payload, place)

        thread = threading.Thread(target=echo)
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            with socket.socket(family, socket.SOCK_DGRAM) as last:
                last.sendto(b"the end of the test", sock.getsockname())
            thread.join(10)


@FAMILIES
def test_datagrams_reach_the_hosts_loopback_and_nothing_else(
    person: Person, family: socket.AddressFamily
) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as closed:
        closed.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        closed_port = closed.getsockname()[1]
    gateway = "fd00::2" if family == socket.AF_INET6 else "10.0.2.2"
    with echoing(family) as port:
        done = person.run(
            *("run", "-q", "--upstream", "direct", "--host-loopback", "--"),
            *("python3", "-c", PROGRAM, gateway, str(port), str(closed_port)),
        )
    assert done.stdout.splitlines() == [
        "echo 1",
        "echo 1400",
        "echo 9000",
        "echo 60000",
        f"segments {[500] + [1000] * 10}",
        "closed ECONNREFUSED",
        "many 300",
        "world EHOSTUNREACH" if family == socket.AF_INET else "world EACCES",
    ], done.stderr
