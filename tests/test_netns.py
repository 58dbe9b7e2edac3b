# SPDX-License-Identifier: GPL-3.0-or-later
"""The network inside, seen by the programs that look at it, and advice for a tun that is not to be had."""

from __future__ import annotations

import errno

import pytest

from tests.support.people import Person
from torbox import netns


@pytest.mark.parametrize(
    ("number", "wanted"),
    [
        (errno.ENOENT, "modprobe tun"),
        (errno.EACCES, "chmod 0666"),
        (errno.ENODEV, "modprobe"),
        (errno.EIO, ""),
    ],
)
def test_each_refusal_of_the_tun_has_its_advice(number: int, wanted: str) -> None:
    assert wanted in netns.tun_advice(number)


def test_addresses_and_routes_are_those_of_the_topology(person: Person) -> None:
    done = person.run(
        "run", "--upstream", "block", "sh", "-c", "ip -br addr; ip route; ip -6 route; ip -o link"
    )
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "tun0 UNKNOWN 10.0.2.100/24 fd00::100/64" in lines
    assert "default via 10.0.2.2 dev tun0" in lines
    assert any(line.startswith("default via fd00::2 dev tun0") for line in lines)
    assert any(" tun0: <POINTOPOINT,UP,LOWER_UP> mtu 65520 " in line for line in lines)
    assert sum(": <" in line for line in lines) == 2  # lo and tun0, nothing else
    assert any(
        " tun0: " in line and line.endswith(f" qlen {netns.QUEUE_LENGTH}\\ link/none") for line in lines
    )


def test_ipv6_addresses_serve_at_once(person: Person) -> None:
    probe = "import socket; socket.create_server(('fd00::100', 0), family=socket.AF_INET6); print('bound')"
    assert person.run("run", "--upstream", "block", "python3", "-c", probe).stdout == "bound\n"


def test_without_ipv6_there_is_none(person: Person) -> None:
    path = person.home / "no-ipv6.toml"
    path.write_text("[net]\nipv6 = false\nmtu = 1500\n")
    path.chmod(0o644)
    try:
        script = "ip addr show tun0; getent ahosts name.example"
        command = ("run", "--profile", str(path), "--upstream", "block", "sh", "-c", script)
        shown = person.run(*command).stdout
    finally:
        path.unlink()
    assert "inet 10.0.2.100/24" in shown
    assert "inet6" not in shown
    assert "198.18." in shown  # the name has an address,
    assert "fd00:" not in shown  # and none of a kind that is not there
    assert "mtu 1500" in shown


def test_the_gateway_answers_ping(person: Person) -> None:
    for address in ("10.0.2.2", "fd00::2"):
        done = person.run("run", "--upstream", "block", "ping", "-c", "1", "-W", "5", address)
        assert "1 received" in done.stdout, done.stderr
