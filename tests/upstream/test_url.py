# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torbox.errors import UsageError
from torbox.upstream.registry import parse_url
from torbox.upstream.url import UpstreamUrl


@pytest.mark.parametrize(
    ("text", "url", "shown"),
    [
        ("tor", UpstreamUrl("tor"), "tor"),
        ("TOR", UpstreamUrl("tor"), "tor"),
        ("tor://127.0.0.1:9150", UpstreamUrl("tor", "127.0.0.1", 9150), "tor://127.0.0.1:9150"),
        ("tor://localhost/", UpstreamUrl("tor", "localhost", 9050), "tor://localhost:9050"),
        ("tor://[::1]:9050", UpstreamUrl("tor", "::1", 9050), "tor://[::1]:9050"),
        ("tor://[fe80::1]", UpstreamUrl("tor", "fe80::1", 9050), "tor://[fe80::1]:9050"),
        ("tor+unix:/run/tor/socks", UpstreamUrl("tor", path="/run/tor/socks"), "tor+unix:/run/tor/socks"),
        ("tor+unix:///run/tor/socks", UpstreamUrl("tor", path="/run/tor/socks"), "tor+unix:/run/tor/socks"),
        (
            "socks5://proxy.example",
            UpstreamUrl("socks5", "proxy.example", 1080),
            "socks5://proxy.example:1080",
        ),
        (
            "socks5://joe:pa%3Ass%20w%FF@10.1.2.3:99",
            UpstreamUrl("socks5", "10.1.2.3", 99, "", b"joe", b"pa:ss w\xff"),
            "socks5://joe:***@10.1.2.3:99",
        ),
        (
            "socks5://a@b:c@d@h:1",
            UpstreamUrl("socks5", "h", 1, "", b"a@b", b"c@d"),
            "socks5://a@b:***@h:1",
        ),
        ("block", UpstreamUrl("block"), "block"),
    ],
)
def test_a_url_says_where_the_upstream_is(text: str, url: UpstreamUrl, shown: str) -> None:
    assert parse_url(text) == url
    assert str(url) == shown


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "does not begin with a scheme"),
        ("://x", "does not begin with a scheme"),
        ("to r://x", "does not begin with a scheme"),
        ("../tor", "does not begin with a scheme"),
        ("socks5_protocol://h:1", "does not begin with a scheme"),
        ("ftp://x", "no scheme is called 'ftp'"),
        ("registry:x", "no scheme is called 'registry'"),
        ("url", "no scheme is called 'url'"),
        ("interface", "no scheme is called 'interface'"),
        ("tor:", "nothing follows the colon"),
        ("tor+unix", "no path"),
        ("tor+unix:", "no path"),
        ("tor+unix:run/socks", "must be absolute"),
        ("tor+unix:/" + "x" * 107, "at most 107 bytes"),
        ("tor+unix:/a\0b", "at most 107 bytes"),
        ("tor:/x", "'//' is missing"),
        ("tor://", "neither a name nor an address"),
        ("tor://:9050", "neither a name nor an address"),
        ("tor://ho st:9050", "neither a name nor an address"),
        ("tor://host\r\n:9050", "neither a name nor an address"),
        ("tor://-host:9050", "neither a name nor an address"),
        ("tor://" + "h" * 254, "neither a name nor an address"),
        ("tor://host:", "port is not a number"),
        ("tor://host:0", "port is not a number"),
        ("tor://host:65536", "port is not a number"),
        ("tor://host:9x", "port is not a number"),
        ("tor://host:+9", "port is not a number"),
        ("tor://host:٣", "port is not a number"),
        ("tor://::1:9050", "more than one colon"),
        ("tor://[::1", "IPv6"),
        ("tor://[1.2.3.4]:5", "IPv6"),
        ("tor://[::1]9050", "only :port"),
        ("tor://u:p@host:9050", "takes no user and password"),
        ("socks5", "no host and port"),
        ("socks5://u@h:1", "needs a password"),
        ("socks5://:p@h:1", "the user name must have 1 to 255 bytes"),
        ("socks5://u:@h:1", "the password must have 1 to 255 bytes"),
        (f"socks5://{'u' * 256}:p@h:1", "the user name must have 1 to 255 bytes"),
        ("socks5://u:%zz@h:1", "% must be followed"),
        ("socks5://u:x%2@h:1", "% must be followed"),
        ("block:x", "nothing may follow"),
        ("block://host:1", "nothing may follow"),
    ],
)
def test_a_wrong_url_is_one_usage_error_with_advice(text: str, fault: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_url(text)
    assert fault in caught.value.message
    assert caught.value.advice
    assert "\n" not in caught.value.message


def fault_of(text: str) -> str:
    try:
        parse_url(text)
    except UsageError as error:
        return str(error)
    return ""


@given(
    st.sampled_from(
        [
            "socks5://user:{}@",
            "socks5://user:{}@host:bad",
            "socks5://user:{}@ho st:1",
            "socks5:/user:{}@host:1",
            "socks5://user:{}",
            "tor://user:{}@host:1",
            "user:{}@host:1",
            "{}@host",
            "socks5+unix:{}",
            "block:{}",
        ]
    ),
    st.text(alphabet="abcXYZ019!$&:/[]%", min_size=1).map(lambda text: "SECRET" + text),
)
def test_no_message_repeats_what_may_be_a_password(pattern: str, secret: str) -> None:
    assert "SECRET" not in fault_of(pattern.format(secret))


@given(st.text())
def test_any_text_is_a_url_or_a_usage_error(text: str) -> None:
    for prefix in ("", "tor:", "tor://", "tor+unix:", "socks5://", "socks5://u:p@"):
        assert fault_of(prefix + text).count("\n") <= 1


def test_a_password_is_in_no_representation() -> None:
    url = parse_url("socks5://joe:SECRET@h:1")
    assert url.password == b"SECRET"
    assert "SECRET" not in repr(url) + str(url)
