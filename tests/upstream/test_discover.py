# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.upstream.socks_server import TorLike, serving
from torbox.errors import UpstreamError
from torbox.upstream.discover import USUAL_PLACES, discover
from torbox.upstream.registry import parse_url
from torbox.upstream.url import UpstreamUrl

TOR = TorLike(names={b"192.0.2.1": bytes((192, 0, 2, 1))})


def test_the_usual_places_are_this_machines_alone() -> None:
    assert [str(place) for place in USUAL_PLACES] == [
        "tor://127.0.0.1:9050",
        "tor://127.0.0.1:9150",
        "tor+unix:/run/tor/socks",
    ]


def test_the_first_place_where_something_answers_as_tor_does_is_taken(tmp_path: Path) -> None:
    def no_password(sock: socket.socket) -> None:
        sock.recv(100)
        sock.sendall(b"\x05\x00")

    with (
        socket.socket() as closed,
        serving(no_password) as plain,
        serving(TOR, str(tmp_path / "socks")) as tor,
    ):
        closed.bind(("127.0.0.1", 0))
        places = [
            UpstreamUrl("tor", "127.0.0.1", closed.getsockname()[1]),
            UpstreamUrl("tor", "127.0.0.1", plain.port),
            UpstreamUrl("tor", path=str(tmp_path / "none")),
            UpstreamUrl("tor", path=tor.path),
        ]
        for explicit in (None, parse_url("tor")):
            assert discover(explicit, places=places) == places[3]
            assert discover(explicit, places=places[:3]) is None


def test_what_was_named_is_taken_unasked() -> None:
    def never(url: UpstreamUrl, timeout_s: float) -> None:
        raise AssertionError

    for text in ("tor://127.0.0.1:1", "tor+unix:/none", "socks5://127.0.0.1:1", "block"):
        assert discover(parse_url(text), ask=never) == parse_url(text)


def test_a_hosts_name_becomes_an_address_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, port: int, **_: object) -> list[object]:
        if host == "proxy.example":
            return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", port, 0, 0))]
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    found = discover(parse_url("socks5://u:SECRET@proxy.example:99"))
    assert found == UpstreamUrl("socks5", "2001:db8::1", 99, "", b"u", b"SECRET")
    with pytest.raises(UpstreamError, match="cannot be resolved: Name or service not known") as caught:
        discover(parse_url("socks5://u:SECRET@none.example:99"))
    assert caught.value.advice
    assert "SECRET" not in str(caught.value)


def test_of_several_addresses_the_first_that_answers_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """localhost is ::1 first, where a Tor that was told 127.0.0.1 does not listen."""
    addresses = ["::1", "127.0.0.1", "127.0.0.1"]
    families = {"::1": socket.AF_INET6, "127.0.0.1": socket.AF_INET}
    getaddrinfo = socket.getaddrinfo

    def several(host: str, port: int, *rest: object, **named: object) -> list[object]:
        if host != "localhost":
            return list(getaddrinfo(host, port, *rest, **named))  # type: ignore[arg-type]
        return [(families[address], socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    with serving(lambda sock: None) as server:
        monkeypatch.setattr(socket, "getaddrinfo", several)
        url = UpstreamUrl("tor", "localhost", server.port)
        assert discover(url) == UpstreamUrl("tor", "127.0.0.1", server.port)
    assert discover(url) == UpstreamUrl("tor", "::1", server.port)  # nobody answers: probe will say so
