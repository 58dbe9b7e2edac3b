# SPDX-License-Identifier: GPL-3.0-or-later
"""direct: streams that end at the far end itself, refused as honestly as it refuses, and never at home."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.upstream.harness import Loop
from tests.upstream.socks_server import echo, serving
from torbox.netstack.flow import Refusal
from torbox.upstream.direct import DirectUpstream, why_refused
from torbox.upstream.interface import Target
from torbox.upstream.registry import parse_url, probe

ROOT = Path(__file__).parents[2]
LOOPBACK = bytes((127, 0, 0, 1))
SITE = bytes((93, 184, 215, 14))


def test_a_stream_reaches_the_hosts_loopback_echoes_and_ends(loop: Loop) -> None:
    probe(parse_url("direct"))
    upstream = DirectUpstream(loop.reactor)
    with serving(echo) as server:
        guest = loop.guest(upstream, Target(LOOPBACK, b"", server.port))
        loop.hear(guest, "connected")
        guest.send(b"hello")
        loop.until(lambda: len(guest.tx) == 5)
        assert guest.take() == b"hello"
        guest.finish()
        loop.hear(guest, "eof")
    assert len(upstream) == 0
    upstream.close()
    assert len(loop.reactor) == 0


def test_a_closed_port_is_refused(loop: Loop, free_port: int) -> None:
    upstream = DirectUpstream(loop.reactor)
    guest = loop.guest(upstream, Target(LOOPBACK, b"", free_port))
    loop.hear(guest, "refused")
    assert guest.refusal is Refusal.REFUSED
    upstream.close()


def test_what_the_loopback_decides_at_once_is_known_in_the_same_turn(loop: Loop) -> None:
    """The guest's SYN is answered a turn earlier; and the registration's own edge marks nobody."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        upstream = DirectUpstream(loop.reactor)
        guest = loop.guest(upstream, Target(LOOPBACK, b"", listener.getsockname()[1]))
        guest.marked = True
        guest.pump()
        assert guest.heard == ["connected"]
        guest.marked = False
        assert loop.reactor.turn(loop.reactor.now + 1) >= 1
        assert not guest.marked
        upstream.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_closed_port_is_refused_also_if_our_own_end_is_given_it(
    loop: Loop, free_port: int, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be connected to itself, and the port be taken for as long as the guest likes."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    connect_ex = socket.socket.connect_ex

    def from_there(sock: socket.socket, address: tuple[str, int]) -> int:
        if not sock.getsockname()[1]:
            sock.bind((host, free_port))
        return connect_ex(sock, address)

    monkeypatch.setattr(socket.socket, "connect_ex", from_there)
    upstream = DirectUpstream(loop.reactor)
    guest = loop.guest(upstream, Target(socket.inet_pton(family, host), b"", free_port))
    loop.until(lambda: guest.heard)
    assert (guest.heard, guest.refusal) == (["refused"], Refusal.REFUSED)
    with socket.socket(family) as other:
        other.bind((host, free_port))
    upstream.close()


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (errno.ECONNREFUSED, Refusal.REFUSED),
        (errno.ETIMEDOUT, Refusal.TIMED_OUT),
        (errno.EHOSTUNREACH, Refusal.HOST_UNREACHABLE),
        (errno.ENETUNREACH, Refusal.NET_UNREACHABLE),
        (errno.EACCES, Refusal.PROHIBITED),
        (errno.EMFILE, Refusal.NET_UNREACHABLE),
        (None, Refusal.NET_UNREACHABLE),
    ],
)
def test_what_the_far_end_says_is_what_the_guest_sees(number: int | None, why: Refusal) -> None:
    assert why_refused(number) is why


def test_urgent_data_is_data_and_what_is_behind_it_does_not_wait_for_more(loop: Loop) -> None:
    """A read stops before it, and there is no second edge for what is there already."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        upstream = DirectUpstream(loop.reactor)
        guest = loop.guest(upstream, Target(LOOPBACK, b"", listener.getsockname()[1]))
        loop.hear(guest, "connected")
        far_end, _ = listener.accept()
        with far_end:
            for data, flags in ((b"before", 0), (b"!", socket.MSG_OOB), (b"behind", 0)):
                far_end.send(data, flags)
            loop.until(lambda: len(guest.tx) == len(b"before!behind"))
            assert guest.take() == b"before!behind"
        upstream.close()


def test_a_far_end_that_says_nothing_is_a_time_out(loop: Loop) -> None:
    """A listener whose backlog is full drops SYNs."""
    with socket.socket() as listener, socket.socket() as filler:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        filler.connect(listener.getsockname())
        upstream = DirectUpstream(loop.reactor, deadline_s=0.2)
        guest = loop.guest(upstream, Target(LOOPBACK, b"", listener.getsockname()[1]))
        loop.hear(guest, "refused")
        assert guest.refusal is Refusal.TIMED_OUT
        upstream.close()


def test_an_address_of_this_machine_is_met_with_silence_and_no_packet(loop: Loop) -> None:
    """127.0.0.2 stands for one that nobody listed: the kernel would deliver it here."""
    heard = []
    with socket.create_server(("0.0.0.0", 0)) as listener:
        listener.setblocking(False)
        upstream = DirectUpstream(loop.reactor)
        guest = loop.guest(upstream, Target(bytes((127, 0, 0, 2)), b"", listener.getsockname()[1]))
        loop.hear(guest, "refused")
        heard.append(guest.refusal)
        with pytest.raises(BlockingIOError):
            listener.accept()
        upstream.close()
    assert heard == [Refusal.TIMED_OUT]


def test_an_aborted_refusal_is_not_heard(loop: Loop) -> None:
    upstream = DirectUpstream(loop.reactor)
    guest = loop.guest(upstream, Target(bytes((127, 0, 0, 2)), b"", 80))
    assert guest.stream is not None
    guest.stream.shutdown()
    assert (guest.stream.pump(), guest.stream.unsent()) == (False, 0)
    guest.stream.abort()
    other = loop.guest(upstream, Target(bytes((127, 0, 0, 3)), b"", 80))
    loop.hear(other, "refused")
    assert guest.heard == []
    upstream.close()


@pytest.mark.parametrize("target", [Target(b"", b"a.example", 80), Target(b"12345", b"", 80)])
def test_names_and_what_is_no_address_cannot_be_connected_to(loop: Loop, target: Target) -> None:
    upstream = DirectUpstream(loop.reactor)
    with pytest.raises(ValueError):
        loop.guest(upstream, target)
    upstream.close()


def test_names_are_resolved_when_a_guest_has_used_up_all_descriptors(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = DirectUpstream(loop.reactor)

    def none_left(*arguments: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "eventfd", none_left)
    assert loop.resolve(upstream, LOOPBACK, "PTR").answers
    upstream.close()


def test_closing_lets_every_stream_and_thread_go(loop: Loop) -> None:
    upstream = DirectUpstream(loop.reactor)
    assert loop.resolve(upstream, LOOPBACK, "PTR").answers
    with serving(echo) as server:
        guest = loop.guest(upstream, Target(LOOPBACK, b"", server.port))
        loop.hear(guest, "connected")
        upstream.close()
    assert len(upstream) == 0
    assert len(loop.reactor) == 0


# In a network of its own, whose addresses come and go while the upstream stays.
CHANGING = r"""
import os, subprocess, sys
from tests.upstream.harness import Loop
from torbox.upstream import socket_stream
from torbox.upstream.direct import DirectUpstream
import socket

def ip(*words):
    subprocess.run(["ip", *words], check=True)

def judged(text):
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    why = upstream.refusal_of(socket.inet_pton(family, text))
    print(text, why.name if why else "away")

loop = Loop()
upstream = DirectUpstream(loop.reactor)
judged("203.0.113.5")
ip("link", "set", "lo", "up")
ip("tuntap", "add", "away", "mode", "tun")
ip("addr", "add", "192.0.2.1/24", "dev", "away")
ip("-6", "addr", "add", "2001:db8::1/64", "dev", "away", "nodad")
ip("link", "set", "away", "up")
ip("route", "add", "default", "via", "192.0.2.254")
for text in ("203.0.113.5", "2001:db8::5", "192.0.2.1", "192.0.2.255"):
    judged(text)
ip("addr", "add", "203.0.113.4/24", "dev", "away")
ip("addr", "add", "203.0.113.5/24", "dev", "away")  # a secondary: its connections would come from .4
ip("-6", "addr", "add", "2001:db8::5/64", "dev", "away", "nodad")
# The kernel makes it its own in a work queue of its own time; before that nobody can reach it there.
while not subprocess.check_output(["ip", "-6", "route", "show", "table", "local", "2001:db8::5"]):
    pass
for text in ("203.0.113.5", "2001:db8::5", "203.0.113.6"):
    judged(text)
ip("route", "add", "local", "198.51.100.0/24", "dev", "lo")  # a whole range, and no address of any interface
ip("route", "add", "prohibit", "203.0.114.0/24")
ip("route", "add", "unreachable", "203.0.115.0/24")
upstream._routes._ask(socket.inet_pton(socket.AF_INET, "203.0.113.6"))  # an answer that nobody waited for
for text in ("198.51.100.77", "203.0.114.1", "203.0.115.1"):
    judged(text)
"""
JUDGED = """\
203.0.113.5 NET_UNREACHABLE
203.0.113.5 away
2001:db8::5 away
192.0.2.1 TIMED_OUT
192.0.2.255 TIMED_OUT
203.0.113.5 TIMED_OUT
2001:db8::5 TIMED_OUT
203.0.113.6 away
198.51.100.77 TIMED_OUT
203.0.114.1 PROHIBITED
203.0.115.1 HOST_UNREACHABLE
"""


def test_an_address_that_comes_after_the_start_is_this_machines_from_then_on() -> None:
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", CHANGING],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == JUDGED, done.stderr
