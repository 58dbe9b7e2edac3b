# SPDX-License-Identifier: GPL-3.0-or-later
"""This machine's addresses and names, held against what ip(8) and the kernel say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from torbox import this_machine

ROOT = Path(__file__).parents[1]
MANY = 700  # addresses: more than one part of a dump


def by_ip(text: str) -> set[str]:
    return {entry["local"] for link in json.loads(text) for entry in link.get("addr_info", ())}


def test_the_addresses_are_those_that_ip_shows() -> None:
    shown = subprocess.run(["ip", "-j", "addr"], capture_output=True, text=True, check=True).stdout
    assert set(this_machine.addresses()) == by_ip(shown)
    assert "127.0.0.1" in this_machine.addresses()


def test_our_end_of_a_point_to_point_link_and_every_part_of_a_long_dump_are_read() -> None:
    """In a network of the test's own: addresses of both families, with another end, and very many."""
    batch = "\n".join(
        [
            "link set lo up",
            "addr add 203.0.113.5 peer 203.0.113.6 dev lo",
            "addr add 2001:db8::5 peer 2001:db8::6 dev lo",
            "addr add 2001:db8:1::7/64 dev lo nodad",
            *(f"addr add 198.51.{index // 250}.{index % 250 + 1}/32 dev lo" for index in range(MANY)),
        ]
    )
    script = (
        'ip -batch - <<<"$0" && ip -j addr && '
        'exec "$1" -c "from torbox import this_machine; print(*this_machine.addresses())"'
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", "bash", "-c", script, batch, sys.executable],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    shown, ours = done.stdout.splitlines()
    assert set(ours.split()) == by_ip(shown)
    assert len(ours.split()) == MANY + 5
    assert {"203.0.113.5", "2001:db8::5", "2001:db8:1::7"} <= set(ours.split())
    assert not {"203.0.113.6", "2001:db8::6"} & set(ours.split())


def test_the_names_are_the_hosts_own_and_those_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_bytes(
        b"127.0.0.1 localhost\n127.0.1.1\tBox.Example.com. box # mine.example\n# 10.0.0.1 none.example\n\n::1"
    )
    own = os.uname().nodename.lower().encode()
    expected = {own, b"localhost", b"box.example.com", b"box"}
    assert set(this_machine.names(str(file))) == expected
    assert this_machine.names(str(tmp_path / "none")) == (own,)


def test_only_a_battery_of_its_own_that_is_being_emptied_counts(tmp_path: Path) -> None:
    def supply(name: str, **said: str) -> None:
        (tmp_path / name).mkdir(exist_ok=True)
        for file, text in said.items():
            (tmp_path / name / file).write_text(f"{text}\n")

    assert not this_machine.on_battery(str(tmp_path / "missing"))
    assert not this_machine.on_battery(str(tmp_path))
    supply("AC", type="Mains", online="1")
    supply("hidpp_battery_0", type="Battery", scope="Device", status="Discharging")
    supply("BAT0", type="Battery", status="Charging")
    assert not this_machine.on_battery(str(tmp_path))
    supply("BAT0", status="Discharging")
    assert this_machine.on_battery(str(tmp_path))


_LINK = (
    "ip link set lo up; ip link add v0 type veth peer name v1; ip addr add 192.0.2.9/24 dev v0;"
    "ip link set v0 up; ip link set v1 up;"
)


@pytest.mark.parametrize(
    ("script", "has"),
    [
        (":", False),
        ("ip link set lo up", False),
        (f"{_LINK} :", False),
        (f"{_LINK} ip route add default via 192.0.2.1", True),
        (f"{_LINK} ip route add 0.0.0.0/1 via 192.0.2.1; ip route add 128.0.0.0/1 via 192.0.2.1", True),
        (f"{_LINK} ip addr add 2001:db8::9/64 dev v0 nodad; ip route add default via 2001:db8::1", True),
        (f"{_LINK} ip route add unreachable default", False),
    ],
)
def test_a_machine_has_a_route_if_packets_would_leave_it_for_far_away(script: str, has: bool) -> None:
    """In a network of the test's own."""
    code = "from torbox import this_machine; print(this_machine.has_route())"
    argv = ["unshare", "--user", "--map-root-user", "--net", "sh", "-ec", f'{script}; exec "$@"', "sh"]
    done = subprocess.run([*argv, sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == f"{has}\n", done.stderr
