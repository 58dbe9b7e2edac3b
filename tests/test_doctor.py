# SPDX-License-Identifier: GPL-3.0-or-later
"""`torbox doctor` tells the truth about this machine, and what to do about it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.people import Person
from tests.tornet.network import TorNetwork
from torbox import doctor, this_machine
from torbox.doctor import Check
from torbox.errors import UsageError
from torbox.tor import launch, lease
from torbox.upstream import discover
from torbox.upstream.url import UpstreamUrl


def named(checks: list[Check], name: str) -> Check:
    (found,) = [check for check in checks if check.name == name]
    return found


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Tor answers on this machine, whatever runs on it."""
    monkeypatch.setattr(discover, "discover", lambda url: None)
    monkeypatch.setattr(lease, "running", lambda environ: None)


def test_a_machine_that_runs_the_tests_can_run_torbox(person: Person) -> None:
    done = person.run("doctor", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    for name in ("kernel", "user", "user namespaces", "tun device", "file system", "system call filter"):
        assert checks[name]["ok"], checks[name]


def test_root_alone_hears_that_torbox_wants_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in ("SUDO_UID", "DOAS_USER"):
        monkeypatch.delenv(name, raising=False)
    check, stand_in = doctor._user()
    assert (check.ok, check.needed) == (False, True)
    assert "--user NAME" in check.advice
    assert stand_in is not None
    assert stand_in.pw_uid != 0


def test_a_tor_that_answers_is_tried_to_its_exit_without_visiting_anyone(tornet: TorNetwork) -> None:
    visits = tornet.site_visits()
    checks = doctor.examine("tor://{}:{}".format(*tornet.socks_address))
    assert named(checks, "upstream").ok
    assert named(checks, "circuits") == Check("circuits", True, False, "an exit was reached")
    assert "torbox-doctor.invalid A NXDOMAIN" in tornet.names_asked()
    assert tornet.site_visits() == visits


def test_an_upstream_that_does_not_answer_is_a_fault() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        checks = doctor.examine(f"tor://127.0.0.1:{closed.getsockname()[1]}")
    check = named(checks, "upstream")
    assert (check.ok, check.needed) == (False, True)
    assert "Connection refused" in check.detail
    assert check.advice


def test_a_url_that_is_none_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        doctor.examine("gopher://127.0.0.1:70")


def test_a_tor_without_circuits_is_told_from_one_with(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(listener: socket.socket) -> None:
        stream, _ = listener.accept()
        with stream:
            stream.recv(100)
            stream.sendall(b"\x05\x02")
            stream.recv(600)
            stream.sendall(b"\x01\x00")
            stream.recv(300)
            stream.sendall(b"\x05\x01\x00\x01" + bytes(6))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=refuse, args=(listener,))
        server.start()
        (check,) = doctor._circuits(UpstreamUrl("tor", host="127.0.0.1", port=listener.getsockname()[1]))
        server.join()
    assert (check.ok, check.needed) == (False, False)
    assert "0x01" in check.detail
    assert "bootstrapped" in check.advice


@pytest.mark.usefixtures("nowhere")
def test_without_any_tor_the_apt_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_DAEMONS", "/nonexistent")
    checks = doctor.examine(environ={"PATH": "/nonexistent"})
    assert not named(checks, "tor program").ok
    check = named(checks, "Tor")
    assert (check.ok, check.needed) == (False, True)
    assert "sudo apt-get install tor" in check.advice


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize(
    ("has_route", "told"),
    [
        (True, "torbox will start its own, for none runs at "),
        (False, "none runs at "),
    ],
)
def test_an_installed_tor_is_enough_where_there_is_a_network(
    monkeypatch: pytest.MonkeyPatch, has_route: bool, told: str
) -> None:
    monkeypatch.setattr(this_machine, "has_route", lambda: has_route)
    monkeypatch.setattr(lease, "would_wait_for_network", lambda environ: True)
    checks = doctor.examine()
    assert "Tor version" in named(checks, "tor program").detail
    check = named(checks, "Tor")
    assert (check.ok, check.needed) == (has_route, False)
    assert check.detail.startswith(told)


@pytest.mark.usefixtures("nowhere")
def test_torboxs_own_tor_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "running", lambda environ: (45, "Asking for relay descriptors"))
    assert named(doctor.examine(), "Tor").detail == "torbox's own runs: 45 %, Asking for relay descriptors"


@pytest.mark.parametrize(
    ("release", "machine", "advice"),
    [
        ("5.4.0-150-generic", "x86_64", "torbox needs Linux 5.12 or newer."),
        ("4.19", "x86_64", "torbox needs Linux 5.12 or newer."),
        ("6.12.1", "riscv64", "torbox knows the system calls of x86_64 and aarch64 only."),
    ],
)
def test_a_kernel_that_will_not_do_is_named(
    monkeypatch: pytest.MonkeyPatch, release: str, machine: str, advice: str
) -> None:
    system = os.uname_result(("Linux", "host", release, "#1", machine))
    monkeypatch.setattr(os, "uname", lambda: system)
    assert doctor._kernel() == Check("kernel", False, True, f"Linux {release} on {machine}", advice)


def test_a_kernel_just_new_enough_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        os, "uname", lambda: os.uname_result(("Linux", "host", "5.12.0-rc1+", "#1", "aarch64"))
    )
    assert doctor._kernel().ok


def test_apparmors_restriction_counts_only_if_namespaces_fail_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sysctl = tmp_path / "restrict"
    monkeypatch.setattr(doctor, "_APPARMOR", str(sysctl))
    assert doctor._apparmor(namespaces_work=True) == []
    sysctl.write_text("0\n")
    assert [check.ok for check in doctor._apparmor(namespaces_work=True)] == [True]
    sysctl.write_text("1\n")
    assert [check.ok for check in doctor._apparmor(namespaces_work=True)] == [True]
    assert [check.ok for check in doctor._apparmor(namespaces_work=False)] == [False]


def host_network_in_a_namespace(script: str, told: str = "detail") -> str:
    """What doctor says of the network in a namespace of its own, set up by `script`."""
    code = f"from torbox.doctor import _host_network as f; c = f(); print(c.ok, c.needed, c.{told})"
    argv = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", f'{script}; exec "$@"', "sh"]
    done = subprocess.run([*argv, sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_machine_without_a_default_route_is_told() -> None:
    assert "does not count for the exit code" in host_network_in_a_namespace("ip link set lo up", "advice")
    assert host_network_in_a_namespace("ip link set lo up") == "False False this machine has no default route"


def test_the_machines_addresses_are_those_of_the_device_that_leads_out() -> None:
    script = (
        "ip link add v0 type veth peer name v1;"
        "ip address add 192.0.2.9/24 dev v0; ip address add 198.51.100.9/24 dev v1;"
        "ip link set v0 up; ip link set v1 up; ip route add default via 192.0.2.1"
    )
    assert host_network_in_a_namespace(script) == "True False default route by v0: 192.0.2.9/24"
