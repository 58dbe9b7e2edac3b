# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from tests.upstream.harness import Loop
from torbox.netstack.flow import Refusal
from torbox.upstream.interface import Target
from torbox.upstream.registry import open_upstream, parse_url, probe


def test_everything_is_prohibited_and_no_name_resolves(loop: Loop) -> None:
    url = parse_url("block")
    probe(url)
    upstream = open_upstream(url, loop.reactor, b"")
    for target in (Target(bytes(4), b"", 80), Target(b"", b"a.example", 80)):
        guest = loop.guest(upstream, target)
        assert guest.stream is not None
        guest.stream.shutdown()
        assert guest.stream.pump() is False
        loop.hear(guest, "refused")
        assert guest.heard == ["refused"]
        assert guest.refusal is Refusal.PROHIBITED
    assert loop.resolve(upstream, b"a.example", "A").failed
    assert not upstream.takes_onions
    upstream.close()


def test_an_aborted_attempt_hears_nothing(loop: Loop) -> None:
    upstream = open_upstream(parse_url("block"), loop.reactor, b"")
    guest = loop.guest(upstream, Target(bytes(4), b"", 80))
    assert guest.stream is not None
    guest.stream.abort()
    other = loop.guest(upstream, Target(bytes(4), b"", 80))
    loop.hear(other, "refused")
    assert guest.heard == []
