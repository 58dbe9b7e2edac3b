# SPDX-License-Identifier: GPL-3.0-or-later
"""torbox verify: clean where the sandbox holds, and not where something was shared or taken out."""

from __future__ import annotations

import errno
import json
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.directories import profile
from tests.support.people import Person
from tests.tornet.network import TorNetwork
from torbox import this_machine
from torbox.verify import bait, probes, report
from torbox.verify.probes import files, frame, identity, neighbours, network, privileges

MADE = (files, identity, neighbours, network, privileges)  # whose import registers their probes

BLOCK = ("--upstream", "block")
AS_NOBODY = (
    ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--")
    if os.geteuid() == 0
    else ()
)


def test_a_sandbox_as_it_is_holds(person: Person) -> None:
    done = person.run("verify", *BLOCK, "--json", timeout_s=120)
    said = json.loads(done.stdout)
    assert [row for row in said["probes"] if not row["held"]] == []
    assert said["ok"]
    assert done.returncode == 0
    assert len(said["probes"]) == len(frame.PROBES)


def test_it_holds_for_who_is_called_as_somebody_in_every_sandbox(everyone: Sequence[Person]) -> None:
    if not AS_NOBODY:
        pytest.skip("needs root: it becomes nobody")
    home = Path(pwd.getpwuid(65534).pw_dir)
    nobody = Person("nobody", AS_NOBODY, {**everyone[0].environment, "HOME": str(home)}, home, 65534)
    done = nobody.run("verify", *BLOCK, "--json", timeout_s=120)
    assert [row for row in json.loads(done.stdout)["probes"] if not row["held"]] == []
    assert done.returncode == 0


def test_it_holds_by_a_tor_whose_exits_are_on_this_machine(person: Person, tornet: TorNetwork) -> None:
    done = person.run("verify", "--upstream", "tor://{}:{}".format(*tornet.socks_address), timeout_s=120)
    assert "LEAK" not in done.stdout
    assert done.returncode == 0, done.stdout + done.stderr


def test_who_comes_from_the_internet_to_a_public_address_came_by_an_exit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(this_machine, "addresses", lambda: ("127.0.0.1", "198.41.0.4", "2001:503:ba3e::2:30"))
    near = ("127.0.0.1", "198.41.0.4", "2001:503:ba3e::2:30", "10.0.2.100", "fd00::100", "fe80::1%lo", "::1")
    assert [each for each in near if not bait.is_near(each)] == []
    assert not bait.is_near("199.9.14.201")
    assert not bait.is_near("2001:500:200::b")


@pytest.mark.parametrize("near", [True, False])
def test_the_bait_answers_and_hears_only_who_is_near(near: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bait, "is_near", lambda _sender: near)
    with bait.laid_out({}) as laid:
        (port,) = [port for address, port in laid.facts["tcp"] if address == "127.0.0.1"]  # type: ignore[attr-defined]
        with socket.create_connection(("127.0.0.1", port), timeout=10) as stream:
            assert stream.recv(64) == (laid.nonce.encode() if near else b"")
        (port,) = [port for address, port in laid.facts["udp"] if address == "127.0.0.1"]  # type: ignore[attr-defined]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(laid.nonce.encode(), ("127.0.0.1", port))
        laid.listen()
        assert bool(laid.heard) == near


def test_where_it_cannot_be_told_who_is_near_everybody_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bait.is_near("/")
    monkeypatch.setattr(this_machine, "addresses", lambda: ("an interface's",))
    assert bait.is_near("199.9.14.201")

    def addresses() -> tuple[str, ...]:
        raise OSError(errno.EMFILE, "too many open files")

    monkeypatch.setattr(this_machine, "addresses", addresses)
    assert bait.is_near("199.9.14.201")


@pytest.mark.parametrize("called", ["", "{path}/peer{n}", "\0peer{n}-{nonce}"])
def test_a_unix_socket_answers_whatever_its_peer_is_called_and_goes_on_to(
    tmp_path: Path, called: str
) -> None:
    with bait.laid_out({}) as laid:
        ways = (f"\0{laid.facts['abstract']}", laid.facts["sockets"][0])  # type: ignore[index]
        for n, way in enumerate(ways * 2):
            with socket.socket(socket.AF_UNIX) as stream:
                if called:
                    stream.bind(called.format(path=tmp_path, n=n, nonce=laid.nonce))
                stream.settimeout(10)
                stream.connect(way)
                assert stream.recv(64) == laid.nonce.encode()


def test_the_table_says_the_same(person: Person) -> None:
    done = person.run("verify", *BLOCK, timeout_s=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("held") == len(frame.PROBES)
    assert "LEAK" not in done.stdout


def test_outside_of_a_sandbox_nearly_every_probe_leaks() -> None:
    """So that none of them holds because it does nothing. Never as root, who would be let do too much."""
    with bait.laid_out(os.environ) as laid:
        facts = {
            **laid.facts,
            "areas": (),
            "host": {name: identity.said_by(path) for name, path in {
                "machine-id": "/etc/machine-id", "boot id": "/proc/sys/kernel/random/boot_id"}.items()},
            "secrets": {"a line of passwd": "root:x:0:0"},
            "utc": [],
            "uptime_at_most": 0.0,
            "processes_at_most": 1,
            "ids": [1000, 1000],
            "umask": 0o022,
            "streams_are_files": False,
            "variables": [],
            "shared_paths": [],
            "shared_sockets": [],
            "devices": [],
        }  # fmt: skip
        done = subprocess.run(
            [*AS_NOBODY, "/usr/bin/python3", "-I", "-S", "-c", probes.program()],
            input=json.dumps(facts).encode(),
            stdout=subprocess.PIPE,
            pass_fds=laid.descriptors,
            env={**os.environ, **laid.environment},
            timeout=60,
        )
        laid.listen()
    rows = {row.what: row for row in report.of_json(done.stdout)}
    leaking = {what for what, row in rows.items() if row.leaks}
    as_harmless_outside = {
        "nothing can be typed for other programs",  # newer kernels forbid it to everybody
        "UDP to this machine",  # is heard by the bait
        "no key of the session's keyring",  # not in every container
        "System V and POSIX shared memory of this machine",  # another user's, where root runs the tests
        "the system is read-only",  # to nobody it is
        "Unix sockets of this machine: abstract and by path",
    }
    assert set(rows) - leaking <= as_harmless_outside
    assert laid.heard


def test_what_a_profile_shares_is_no_leak_and_what_it_does_not_is_one(person: Person) -> None:
    with profile('extends = "default"\n[env]\nset = { MINE = "1" }\n') as path:
        done = person.run("verify", "--profile", path, *BLOCK, timeout_s=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_where_a_share_is_from_is_no_leak_though_it_names_the_user(person: Person) -> None:
    share = person.home / "a share"
    share.mkdir()
    try:
        shutil.chown(share, person.uid)
        done = person.run("verify", "--share", str(share), *BLOCK, timeout_s=120)
    finally:
        share.rmdir()
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_program_is_not_started_before_the_quick_probes_hold(person: Person) -> None:
    done = person.run("run", "--verify", *BLOCK, "--", "echo", "it ran", timeout_s=120)
    assert (done.returncode, done.stdout) == (0, "it ran\n"), done.stderr


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"Traceback", b'[{"area": 1}]'])
def test_probes_that_did_not_end_in_good_order_have_not_held(text: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        report.of_json(text)


def test_of_a_profile_that_starts_nothing_there_is_nothing_to_verify(person: Person) -> None:
    with profile('refuse = "for a reason"') as path:
        done = person.run("verify", *BLOCK, "--profile", path)
    assert done.returncode == 2
    assert done.stderr.startswith("torbox: ")
    assert done.stderr.endswith("for a reason\n")
