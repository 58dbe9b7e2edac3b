# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torbox.netstack.flow import Refusal
from torbox.upstream.socks5_protocol import (
    CONNECT,
    MAX_REPLY,
    TOR_RESOLVE,
    TOR_RESOLVE_PTR,
    Reply,
    Socks5Client,
    Socks5Error,
    request,
)

LOGIN = (b"user", b"password")
ASKED = request(CONNECT, b"", b"example.org", 443)
GRANTED = b"\x05\x02" + b"\x01\x00"


def granted_client() -> Socks5Client:
    client = Socks5Client(ASKED, LOGIN)
    client.receive(GRANTED)
    return client


def test_a_conversation_with_a_password_goes_step_by_step() -> None:
    client = Socks5Client(ASKED, LOGIN)
    assert client.opening() == b"\x05\x01\x02"
    assert client.receive(b"\x05") == b""
    assert client.receive(b"\x02") == b"\x01\x04user\x08password"
    assert client.receive(b"\x01\x00") == b"\x05\x01\x00\x03\x0bexample.org\x01\xbb"
    assert client.receive(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x04\x38hello") == b""
    assert client.reply == Reply(0, b"\x7f\0\0\x01", b"", 1080)
    assert client.reply.refusal is None
    assert client.rest == b"hello"
    assert client.receive(b" world") == b""
    assert client.rest == b"hello world"


def test_without_credentials_only_no_authentication_is_offered() -> None:
    client = Socks5Client(ASKED, None)
    assert client.opening() == b"\x05\x01\x00"
    assert client.receive(b"\x05\x00") == ASKED


@pytest.mark.parametrize("method", [m for m in range(256) if m != 2])
def test_a_server_that_skips_the_password_never_learns_the_target(method: int) -> None:
    client = Socks5Client(ASKED, LOGIN)
    assert client.opening() == b"\x05\x01\x02"
    with pytest.raises(Socks5Error):
        client.receive(bytes((5, method)) + b"\x01\x00")
    assert not client.granted


@pytest.mark.parametrize(
    "spoken",
    [
        b"\x04\x02",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\x05\x02\x05\x00",
        b"\x05\x02\x01\x01",
        b"\x05\x02\x01\xff",
        GRANTED + b"\x04\x00\x00\x01",
        GRANTED + b"\x05\x00\x00\x00\x00",
        GRANTED + b"\x05\x00\x00\x02\x00",
        GRANTED + b"\x05\x00\x00\x05\x00",
    ],
)
def test_a_server_that_speaks_otherwise_is_an_error_whole_or_byte_by_byte(spoken: bytes) -> None:
    with pytest.raises(Socks5Error):
        Socks5Client(ASKED, LOGIN).receive(spoken)
    client = Socks5Client(ASKED, LOGIN)
    with pytest.raises(Socks5Error):
        [client.receive(bytes((byte,))) for byte in spoken]


@pytest.mark.parametrize(
    ("code", "refusal"),
    [
        (0x01, Refusal.REFUSED),
        (0x02, Refusal.PROHIBITED),
        (0x03, Refusal.NET_UNREACHABLE),
        (0x04, Refusal.HOST_UNREACHABLE),
        (0x05, Refusal.REFUSED),
        (0x06, Refusal.HOST_UNREACHABLE),
        (0x07, Refusal.PROHIBITED),
        (0x08, Refusal.NET_UNREACHABLE),
        (0xF0, Refusal.HOST_UNREACHABLE),
        (0xF1, Refusal.HOST_UNREACHABLE),
        (0xF2, Refusal.HOST_UNREACHABLE),
        (0xF3, Refusal.HOST_UNREACHABLE),
        (0xF4, Refusal.PROHIBITED),
        (0xF5, Refusal.PROHIBITED),
        (0xF6, Refusal.HOST_UNREACHABLE),
        (0xF7, Refusal.TIMED_OUT),
        (0x42, Refusal.HOST_UNREACHABLE),
        (0xFF, Refusal.HOST_UNREACHABLE),
    ],
)
def test_a_refusal_is_understood_from_its_first_two_bytes(code: int, refusal: Refusal) -> None:
    client = granted_client()
    assert client.receive(bytes((5, code))) == b""
    assert client.reply == Reply(code)
    assert client.reply.refusal is refusal


@pytest.mark.parametrize(
    ("raw", "reply"),
    [
        (b"\x01\x01\x02\x03\x04\x00\x50", Reply(0, b"\x01\x02\x03\x04", b"", 80)),
        (b"\x04" + bytes(range(16)) + b"\xff\xff", Reply(0, bytes(range(16)), b"", 65535)),
        (b"\x03\x00\x00\x00", Reply(0, b"", b"", 0)),
        (b"\x03\x03a\x00b\x00\x07", Reply(0, b"", b"a\x00b", 7)),
        (b"\x03\xff" + b"n" * 255 + b"\x00\x01", Reply(0, b"", b"n" * 255, 1)),
    ],
)
def test_every_type_of_address_is_read_whole_or_byte_by_byte(raw: bytes, reply: Reply) -> None:
    whole = b"\x05\x00\xee" + raw
    assert len(whole) <= MAX_REPLY
    client = granted_client()
    client.receive(whole + b"rest")
    assert (client.reply, client.rest) == (reply, b"rest")
    client = granted_client()
    for byte in whole[:-1]:
        client.receive(bytes((byte,)))
        assert client.reply is None
    client.receive(whole[-1:] + b"rest")
    assert (client.reply, client.rest) == (reply, b"rest")


def test_requests_name_their_target_by_address_or_by_name() -> None:
    assert request(CONNECT, b"\x01\x02\x03\x04", b"", 80) == b"\x05\x01\x00\x01\x01\x02\x03\x04\x00\x50"
    assert request(CONNECT, bytes(16), b"", 0) == b"\x05\x01\x00\x04" + bytes(18)
    assert request(TOR_RESOLVE, b"", b"a", 0) == b"\x05\xf0\x00\x03\x01a\x00\x00"
    assert request(TOR_RESOLVE_PTR, bytes(4), b"", 0) == b"\x05\xf1\x00\x01" + bytes(6)


@pytest.mark.parametrize(
    "name",
    [
        b"x" * 255,
        b"a.example\r\nHost: evil",
        b"\x00",
        bytes(range(255)),
        "bücher.example".encode(),
        b"\xff\xfe",
    ],
)
def test_a_name_is_carried_byte_for_byte_behind_its_length(name: bytes) -> None:
    assert request(CONNECT, b"", name, 80) == b"\x05\x01\x00\x03" + bytes((len(name),)) + name + b"\x00\x50"


@pytest.mark.parametrize(
    ("address", "name", "port"),
    [
        (b"", b"", 80),
        (b"", b"x" * 256, 80),
        (b"\x01\x02\x03", b"", 80),
        (bytes(16), b"both", 80),
    ],
)
def test_what_the_format_cannot_hold_is_never_sent(address: bytes, name: bytes, port: int) -> None:
    with pytest.raises(ValueError):
        request(CONNECT, address, name, port)


@pytest.mark.parametrize("size", [1, 128, 255])
def test_credentials_of_any_length_and_bytes_are_sent_with_one_byte_lengths(size: int) -> None:
    user, password = bytes((0xFF,)) * size, bytes((0,)) * size
    client = Socks5Client(ASKED, (user, password))
    assert client.receive(b"\x05\x02") == bytes((1, size)) + user + bytes((size,)) + password


@pytest.mark.parametrize("credentials", [(b"", b"p"), (b"u", b""), (b"u" * 256, b"p"), (b"u", b"p" * 256)])
def test_credentials_that_do_not_fit_are_not_sent(credentials: tuple[bytes, bytes]) -> None:
    with pytest.raises(ValueError):
        Socks5Client(ASKED, credentials)


def test_a_conversation_about_nothing_ends_when_it_is_granted() -> None:
    client = Socks5Client(b"", LOGIN)
    assert client.wants_nothing
    client.receive(GRANTED[:2])
    assert not client.granted
    assert client.receive(GRANTED[2:]) == b""
    assert client.granted


@given(
    st.one_of(st.binary(max_size=600), st.binary(max_size=400).map(lambda tail: GRANTED + tail)),
    st.lists(st.integers(1, 9)),
    st.booleans(),
)
def test_whatever_a_server_sends_gives_a_reply_or_an_error_and_the_same_in_any_pieces(
    spoken: bytes, cuts: list[int], with_login: bool
) -> None:
    """Invariant: reply, rest and error depend on the bytes alone; memory is bounded by what came in."""
    if not with_login:
        spoken = spoken.replace(GRANTED, b"\x05\x00")

    def converse(pieces: list[bytes]) -> object:
        client = Socks5Client(ASKED, LOGIN if with_login else None)
        sent = b""
        try:
            for piece in pieces:
                sent += client.receive(piece)
        except Socks5Error:
            return "error"
        assert sent.endswith(ASKED) == client.granted
        assert client.granted or client.reply is None
        if client.reply is not None and client.reply.code:
            return client.reply  # how much of a refusal is waited for is not promised
        return client.reply, client.rest

    pieces, position = [], 0
    for size in cuts:
        pieces.append(spoken[position : position + size])
        position += size
    assert converse([*pieces, spoken[position:]]) == converse([spoken])
