# SPDX-License-Identifier: GPL-3.0-or-later
"""What an upstream on this machine is not asked for: the way back to it."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.support.people import Person
from torbox import network, this_machine
from torbox.errors import UpstreamError
from torbox.tor import lease
from torbox.upstream import discover

OWN = ("192.175.48.5", "2606:4700::7")  # the machine's, in a network of the test's own
NAMES = ("_gateway", "_outbound", "_localdnsstub", "box", "box.example.com", "x.localdomain", "nas.home.arpa")

# As the machine: its addresses, a site that listens on all of them, a SOCKS proxy, and torbox.
MACHINE = r"""
set -e
ip link set lo up
ip addr add 192.175.48.5/32 dev lo
ip addr add 2606:4700::7/128 dev lo nodad
mount --make-rprivate /
mkdir /tmp/$$ && mount -t tmpfs none /tmp/$$
printf '127.0.0.1 localhost\n192.175.48.5 box.example.com box\n' > /tmp/$$/hosts
mount --bind /tmp/$$/hosts /etc/hosts
umount -l /tmp/$$ && rmdir /tmp/$$
hostname box.example.com
microsocks -i 127.0.0.1 -p 1080 2>/dev/null & PROXY=$!
python3 -c '
import socket
s = socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    c, _ = s.accept()
    with c: c.sendall(b"inside")
' & SITE=$!
trap 'kill $PROXY $SITE; wait $PROXY $SITE || true' EXIT
until (: >/dev/tcp/127.0.0.1/1080 && : >/dev/tcp/127.0.0.1/8080) 2>/dev/null; do :; done
curl -s --http0.9 --max-time 5 --socks5-hostname 127.0.0.1:1080 http://box.example.com:8080/; echo
"$@"
"""
GUEST = r"""
import socket, sys
for name in sys.argv[1:]:
    try:
        with socket.create_connection((name, 8080), 2) as s:
            print(name, s.recv(6).decode())
    except socket.gaierror:
        print(name, "no such name")
    except TimeoutError:
        print(name, "silence")
    except OSError as error:
        print(name, error)
"""


def test_a_proxy_on_this_machine_is_not_asked_for_the_machines_addresses_or_names(person: Person) -> None:
    if os.geteuid():
        pytest.skip("needs root: a machine with addresses and a name of its own is made")
    machine = ("unshare", "--net", "--mount", "--uts", "bash", "-c", MACHINE, "machine")
    arguments = ("run", "-q", "--upstream", "socks5://127.0.0.1:1080", "--", "python3", "-c", GUEST)
    done = subprocess.run(
        [*machine, *person.command(*arguments, *OWN, *NAMES)],
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(person.environment),
        cwd="/",
    )
    proxied, *lines = done.stdout.splitlines()
    assert proxied == "inside", "the proxy itself would reach it"
    assert lines == [f"{own} silence" for own in OWN] + [f"{name} no such name" for name in NAMES], (
        done.returncode,
        done.stderr,
    )


def test_a_tor_of_torboxs_own_is_not_started_where_it_would_wait_in_vain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def acquire(progress: object) -> None:
        pytest.fail("it was started")

    monkeypatch.setattr(discover, "discover", lambda url: None)
    monkeypatch.setattr(lease, "acquire", acquire)
    monkeypatch.setattr(lease, "would_wait_for_network", lambda: True)
    monkeypatch.setattr(this_machine, "has_route", lambda: False)
    with pytest.raises(UpstreamError, match="could not start its own: this machine has no route"):
        network.find_upstream("", lambda *_: None)


@pytest.mark.parametrize(("waits", "has_route"), [(True, True), (False, False)])
def test_and_is_where_there_is_a_route_or_it_may_need_none(
    monkeypatch: pytest.MonkeyPatch, waits: bool, has_route: bool
) -> None:
    def acquire(progress: object) -> None:
        raise UpstreamError("it was tried")

    monkeypatch.setattr(discover, "discover", lambda url: None)
    monkeypatch.setattr(lease, "acquire", acquire)
    monkeypatch.setattr(lease, "would_wait_for_network", lambda: waits)
    monkeypatch.setattr(this_machine, "has_route", lambda: has_route)
    with pytest.raises(UpstreamError, match="could not start its own: it was tried"):
        network.find_upstream("", lambda *_: None)
