# SPDX-License-Identifier: GPL-3.0-or-later
"""The upstream direct, on a machine of the test's own with a small Internet beside it.

the sandbox ── 192.175.48.5, the machine ── veth ── 192.175.48.80, a site that says "outside"
               127.0.0.1:8080 and ::1 say "inside"    192.175.48.53, its name server
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from tests.support.people import Person

# Its own address twice: .6 comes when torbox is running already.
MACHINE = r"""
set -e
ip link set lo up
mount --make-rprivate /
mkdir /tmp/$$ && mount -t tmpfs none /tmp/$$
echo 'nameserver 192.175.48.53' > /tmp/$$/resolv.conf
echo 'hosts: files dns' > /tmp/$$/nsswitch.conf
for name in resolv.conf nsswitch.conf; do mount --bind /tmp/$$/$name /etc/$name; done
umount -l /tmp/$$ && rmdir /tmp/$$
ip link add veth0 type veth peer name veth1
exec "$0" -c "$1" "${@:2}"
"""
WORLD = r"""
import os, socket, subprocess, sys, threading, time

def ip(*words):
    subprocess.run(["ip", *words], check=True)

def serve(text):
    site = socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True)
    def loop():
        while True:
            connection, _ = site.accept()
            with connection:
                connection.sendall(text)
    threading.Thread(target=loop, daemon=True).start()
    datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    datagrams.bind(("::", 8080))
    def echo():
        while True:
            datagrams.sendto(text, datagrams.recvfrom(9)[1])
    threading.Thread(target=echo, daemon=True).start()

NAMES = {
    b"\4site\7example": "192.175.48.80",
    b"\3own\7example": "192.175.48.5",
    b"\4home\7example": "192.168.1.1",
}

def answer_names(report):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("192.175.48.53", 53))
    os.write(report, b"up\n")
    while True:
        query, who = server.recvfrom(512)
        os.write(report, b"asked\n")
        end = query.index(b"\0", 12)
        address = NAMES.get(query[12:end].lower())
        is_a = query[end + 1 : end + 3] == b"\0\1"
        found = socket.inet_aton(address) if address and is_a else b""
        header = query[:2] + (b"\x81\x80" if address else b"\x81\x83")
        header += b"\0\1\0" + (b"\1" if found else b"\0") + b"\0\0\0\0"
        record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + found if found else b""
        server.sendto(header + query[12 : end + 5] + record, who)

report, reported = os.pipe()
far = os.fork()
if not far:
    try:
        libc = __import__("ctypes").CDLL(None, use_errno=True)
        assert not libc.unshare(0x40000000), "CLONE_NEWNET"
        os.write(reported, b"made\n")
        while "veth1" not in os.listdir("/proc/self/net/dev_snmp6"):
            time.sleep(0.01)  # the link comes from another process; looked for, never waited out
        ip("link", "set", "lo", "up")
        for address in ("192.175.48.80/24", "192.175.48.53/24"):
            ip("addr", "add", address, "dev", "veth1")
        ip("link", "set", "veth1", "up")
        serve(b"outside")
        answer_names(reported)
    finally:
        os._exit(1)
try:
    os.close(reported)
    reports = open(report)
    assert reports.readline() == "made\n"
    ip("link", "set", "veth1", "netns", str(far))
    ip("addr", "add", "192.175.48.5/24", "dev", "veth0")
    ip("link", "set", "veth0", "up")
    assert reports.readline() == "up\n"
    serve(b"inside")
    guest = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    print(guest.stdout.readline(), end="")
    ip("addr", "add", "192.175.48.6/32", "dev", "veth0")
    print(guest.communicate("go\n", timeout=60)[0], end="")
finally:
    os.kill(far, 9)
    os.waitpid(far, 0)
print("questions:", reports.read().count("asked"))
"""
GUEST = r"""
import socket, sys
print("up", flush=True)
sys.stdin.readline()
def said(name):
    if sys.argv[1] == "tcp":
        with socket.create_connection((name, 8080), 2) as s:
            return s.recv(7).decode()
    family, _, _, _, where = socket.getaddrinfo(name, 8080, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.settimeout(2)
        s.connect(where)
        s.send(b"?")
        return s.recv(7).decode()
for name in sys.argv[2:]:
    try:
        print(name, said(name))
    except socket.gaierror:
        print(name, "no such name")
    except TimeoutError:
        print(name, "silence")
    except OSError as error:
        print(name, "-", error.strerror)
"""
SITE = "192.175.48.80"
PLACES = (SITE, "site.example", "192.175.48.5", "192.175.48.6", "own.example", "home.example", "10.0.2.2")
PLACES += ("fd00::2", "127.0.0.1", "192.168.1.1", "192.175.48.77", "2001:db8::1")


def seen(person: Person, *options: str, by: str = "tcp") -> tuple[dict[str, str], int]:
    """What each of PLACES is to a guest of these options, and how often the name server was asked."""
    if os.geteuid():
        pytest.skip("needs root: a machine and an Internet of its own are made")
    torbox = person.command(
        "run", "-q", "--upstream", "direct", *options, "--", "python3", "-c", GUEST, by, *PLACES
    )
    done = subprocess.run(
        ["unshare", "--net", "--mount", "bash", "-c", MACHINE, sys.executable, WORLD, *torbox],
        capture_output=True,
        text=True,
        timeout=90,
        env=dict(person.environment),
        cwd="/",
    )
    lines = done.stdout.splitlines()
    assert lines[:1] == ["up"], done.stderr
    assert lines[-1].startswith("questions: "), done.stderr
    places = dict(line.split(" ", 1) for line in lines[1:-1])
    return places, int(lines[-1].removeprefix("questions: "))


NO_ROUTE = "- No route to host"


def test_direct_alone_lets_nothing_out_and_resolves_nothing(person: Person) -> None:
    places, questions = seen(person)
    assert questions == 0
    assert {places[it] for it in PLACES if it.endswith(".example")} == {"no such name"}
    assert places[SITE] == NO_ROUTE
    assert places["192.175.48.5"] == places["192.175.48.6"] == NO_ROUTE
    assert places["10.0.2.2"] == places["fd00::2"] == "- Connection refused"
    assert not {"inside", "outside"} & set(places.values())


def test_routing_lets_out_to_public_addresses_that_are_not_this_machines(person: Person) -> None:
    places, questions = seen(person, "--enable-routing")
    assert questions
    assert places == {
        SITE: "outside",
        "site.example": "outside",
        "192.175.48.5": "silence",
        "192.175.48.6": "silence",  # which came after the start
        "own.example": "silence",
        "home.example": NO_ROUTE,  # a name that resolves to a private address
        "10.0.2.2": "- Connection refused",
        "fd00::2": "- Connection refused",
        "127.0.0.1": "- Connection refused",  # the sandbox's own
        "192.168.1.1": NO_ROUTE,
        "192.175.48.77": "silence",  # nobody is there
        "2001:db8::1": places["2001:db8::1"],
    }
    assert places["2001:db8::1"].startswith("- ")


def test_the_hosts_loopback_is_reached_at_the_gateway_if_asked_for_and_nothing_else(person: Person) -> None:
    places, questions = seen(person, "--host-loopback")
    assert questions == 0
    assert places["10.0.2.2"] == places["fd00::2"] == "inside"
    assert {it for it in PLACES if places[it] in ("inside", "outside")} == {"10.0.2.2", "fd00::2"}


def test_datagrams_go_where_connections_do(person: Person) -> None:
    places, questions = seen(person, "--enable-routing", by="udp")
    assert questions
    for place in (SITE, "site.example"):
        assert places[place] == "outside"
    for place in ("192.175.48.5", "192.175.48.6", "own.example"):
        assert places[place] == "silence"
    for place in ("home.example", "192.168.1.1"):
        assert places[place] == NO_ROUTE
    for place in ("10.0.2.2", "fd00::2", "127.0.0.1"):
        assert places[place] == "- Connection refused"
    assert "inside" not in places.values()
    places, _ = seen(person, by="udp")
    assert not {"inside", "outside"} & set(places.values())
    places, _ = seen(person, "--host-loopback", by="udp")
    assert {it for it in PLACES if places[it] in ("inside", "outside")} == {"10.0.2.2", "fd00::2"}


FORGED = """
import socket, sys
for bound in ("fd00::1:2345", "fd00::100"):
    with socket.socket(socket.AF_INET6) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, 78, 1)  # IPV6_FREEBIND
        sock.bind((bound, 0))
        sock.settimeout(1.5)  # by then the SYN was sent again
        try:
            sock.connect(("fd00::2", int(sys.argv[1])))
            print("connected")
        except TimeoutError:
            print("silence")
"""


def test_what_a_program_sends_from_an_address_that_is_not_its_own_goes_nowhere(person: Person) -> None:
    """It takes no capability to send so, and a flood of such connections would never be acknowledged."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = str(listener.getsockname()[1])
        arguments = (
            "run",
            "-q",
            "--upstream",
            "direct",
            "--host-loopback",
            "--",
            "python3",
            "-c",
            FORGED,
            port,
        )
        done = person.run(*arguments)
        assert done.stdout.split() == ["silence", "connected"], done.stderr
        listener.setblocking(False)
        listener.accept()[0].close()
        with pytest.raises(BlockingIOError):
            listener.accept()
