# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from tests.upstream.socks_server import microsocks, saying, serving
from torbox.errors import UpstreamError
from torbox.upstream.blocking import place_of
from torbox.upstream.registry import parse_url, probe
from torbox.upstream.url import UpstreamUrl


def test_a_probe_says_what_is_wrong_and_what_to_do(free_port: int, tmp_path: Path) -> None:
    with pytest.raises(UpstreamError, match="Connection refused") as caught:
        probe(parse_url(f"socks5://u:SECRET@127.0.0.1:{free_port}"))
    assert "Nothing listens there" in caught.value.advice
    assert "SECRET" not in str(caught.value)
    with pytest.raises(UpstreamError, match="No such file"):
        probe(parse_url(f"socks5+unix:{tmp_path}/none"))
    with microsocks("-u", "joe", "-P", "secret") as port:
        with pytest.raises(UpstreamError, match="wants a user name and password") as caught:
            probe(parse_url(f"socks5://127.0.0.1:{port}"))
        assert "socks5://user:pass@" in caught.value.advice
        with pytest.raises(UpstreamError, match="refuses the user name and password") as caught:
            probe(parse_url(f"socks5://joe:wrong@127.0.0.1:{port}"))
        assert "that it expects" in caught.value.advice
        assert "wrong" not in str(caught.value)
    with (
        serving(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server,
        pytest.raises(UpstreamError, match="SOCKS 5") as caught,
    ):
        probe(parse_url(f"socks5:{server.url}"))
    assert "SOCKS port" in caught.value.advice
    with serving(saying(b"\x05", hold=False)) as server, pytest.raises(UpstreamError, match="hung up"):
        probe(parse_url(f"socks5:{server.url}"))
    with serving(saying()) as server, pytest.raises(UpstreamError, match=r"no answer within 0\.1 s"):
        probe(parse_url(f"socks5:{server.url}"), 0.1)


@pytest.mark.parametrize(
    ("number", "url", "advice"),
    [
        (errno.EACCES, "tor+unix:/run/tor/socks", "debian-tor"),
        (errno.EACCES, "tor://192.0.2.7:9050", "Check that it is running"),
        (errno.ENETUNREACH, "tor://192.0.2.7:9050", "Check that it is running"),
    ],
)
def test_a_connect_that_fails_says_what_to_do(
    number: int, url: str, advice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(self: socket.socket, address: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(UpstreamError, match=os.strerror(number)) as caught:
        probe(parse_url(url))
    assert advice in caught.value.advice


def test_the_place_of_a_url_is_an_address() -> None:
    assert place_of(parse_url("tor://127.0.0.1:9050")) == (socket.AF_INET, ("127.0.0.1", 9050))
    assert place_of(parse_url("tor://[::1]:9050")) == (socket.AF_INET6, ("::1", 9050))
    assert place_of(parse_url("tor+unix:/run/tor/socks")) == (socket.AF_UNIX, "/run/tor/socks")
    for url in (UpstreamUrl("tor"), UpstreamUrl("tor", "localhost", 9050)):
        with pytest.raises(ValueError, match="must be an address"):
            place_of(url)
