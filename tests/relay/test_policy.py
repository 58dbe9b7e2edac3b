# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torbox.netstack.flow import Refusal
from torbox.netstack.name_pool import NamePool
from torbox.relay.policy import Rules, is_disguised_address, judge, network
from torbox.upstream.interface import Target

TOR = Rules(takes_onions=True)
# Names that Python's getaddrinfo, and other software that makes names ASCII, takes for others.
MASKED = (
    *(
        "１２７.0.0.１",
        "127。0。0。1",
        "127．0．0．1",
        "127｡0｡0｡1",
        "①②⑦.0.0.1",
        "0ｘ7f000001.",
        "127.0.0.1\u200b",
    ),
    *(
        "127.0.0.1\u00ad",
        "１２７.１",
        "ⓛocalhost",
        "a.ＬＯＣＡＬＨＯＳＴ",
        "local\ufe0fhost",
        "nas。lan",
        "nas.ℓan",
        "a.loca\u2060l",
    ),
    *("bücher.localho\u017ft", "bücher。ｌocalhost", "[：：１]", "a．ｅxit", "ᵃ", "127.0.0.1\u2100b.example"),
)


def packed(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def judged(text: str, rules: Rules = TOR) -> Refusal | None:
    return judge(Target(packed(text), b"", 80), rules)


def test_nothing_goes_out_while_it_is_locked_not_even_what_is_allowed() -> None:
    rules = Rules(locked=True, allowed=(network("10.0.0.0/8"),), own=(network("1.2.3.4"),))
    for address in ("1.1.1.1", "10.0.0.1", "1.2.3.4", "2606:4700::1111"):
        assert judged(address, rules) is Refusal.PROHIBITED
    assert judge(Target(b"", b"a.example", 80), rules) is Refusal.PROHIBITED


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "93.184.215.14", "100.63.255.255"),
        *("100.128.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255"),
        *(
            "172.32.0.0",
            "191.255.255.255",
            "192.0.1.0",
            "192.0.3.0",
            "192.88.98.255",
            "192.88.100.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
        ),
        *(
            "198.20.0.0",
            "198.51.99.255",
            "198.51.101.0",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "1.0.0.0",
        ),
        *("2606:4700::1111", "2a00:1450:4001:81b::200e", "2001:4860:4860::8888", "2001:200::1"),
        *("3ffe:ffff::1", "3fff:1000::1"),
        *("64:ff9b::8.8.8.8", "2002:808:808::1"),
    ],
)
def test_public_addresses_go_out(address: str) -> None:
    assert judged(address) is None


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "0.255.255.255", "10.0.0.0", "10.0.2.2", "10.255.255.255", "100.64.0.0"),
        *("100.127.255.255", "127.0.0.1", "127.255.255.255", "169.254.0.0", "169.254.169.254"),
        *(
            "172.16.0.0",
            "172.31.255.255",
            "192.0.0.0",
            "192.0.0.255",
            "192.0.2.0",
            "192.0.2.255",
            "192.88.99.1",
            "192.168.0.0",
            "192.168.255.255",
        ),
        *(
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.0",
            "198.51.100.255",
            "203.0.113.0",
            "203.0.113.255",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.0",
            "255.255.255.255",
        ),
        *("::", "::1", "::127.0.0.1", "::8.8.8.8", "::ffff:8.8.8.8", "::ffff:127.0.0.1", "::ffff:0:8.8.8.8"),
        *("64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b:1::1"),
        *(
            "2002:7f00:1::",
            "2002:a00:1::1",
            "2002:a9fe:a9fe::",
            "2001::1",
            "2001:0:4136:e378::",
            "2001:db8::1",
        ),
        *("fc00::1", "fd00::2", "fd00:ec2::254", "fd00:746f:7262:6f78::c612:1", "fe80::1", "febf::1"),
        *(
            "fec0::1",
            "ff02::1",
            "ff0e::1",
            "100::1",
            "3fff::1",
            "3fff:fff::1",
            "4000::1",
            "1fff::1",
            "5f00::1",
        ),
    ],
)
def test_special_addresses_never_go_out(address: str) -> None:
    assert judged(address) is Refusal.PROHIBITED


CARRIERS = ("2002:", "64:ff9b::")  # judged by the IPv4 address inside


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_what_the_standard_library_calls_private_never_goes_out(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """An independent table: whatever is not global is refused, but for carriers."""
    if not str(address).startswith(CARRIERS) and (not address.is_global or address.is_multicast):
        assert judged(str(address)) is Refusal.PROHIBITED


@pytest.mark.parametrize(
    "name",
    [
        *(b"example.com", b"example.com.", b"EXAMPLE.COM", b"a.b", b"1.2.3.4.example", b"0x7f.example"),
        *(b"127.0.0.1.nip.io", b"a.0xg", b"a.0xfg", b"a.1a", b"xn--bcher-kva.example", b"_srv._tcp.example"),
        *(
            "bücher.example".encode(),
            "日本語.jp".encode(),
            "ａ.example".encode(),
            b"\xff\xfe.example",
            b"n" * 253 + b".n",
            b"localhost.example",
        ),
        *(b"x" * 56 + b".onion", b"sub." + b"x" * 56 + b".onion", b"onion.example"),
    ],
)
def test_names_go_out(name: bytes) -> None:
    assert judge(Target(b"", name, 443), TOR) is None


@pytest.mark.parametrize(
    "name",
    [
        *(b"192.168.1.1", b"127.1", b"127.0.0.1.", b"127.0.0.1..", b"0x7f.1", b"0X7F.0X1", b"2130706433"),
        *(b"0x7f000001", b"017700000001", b"0", b"a.0", b"a.0x", b"foo.123", b"foo.0xABC", b"1.2.3.4..."),
        *(b"::1", b"[::1]", b"fe80::1%eth0", b"::ffff:127.0.0.1", b"127.0.0.1%lo", b"a:80"),
        *(b"127.0.0.1\x00.example.com", b"127.0.0.1 .example.com", b"127.0.0.1\t.a", b"a.example\r\nHost: b"),
        *(b"127.0.0.1\x7f.example", b"user@host", b"a/b", b".", b"..", b"n" * 256),
        *(
            b"localhost",
            b"LOCALHOST",
            b"localhost.",
            b"a.localhost",
            b"localhost.localdomain",
            b"x.localdomain",
        ),
        *(b"ip6-localhost", b"ip6-loopback", b"localhost6", b"x.localhost6"),
        *(
            b"_gateway",
            b"_outbound.",
            b"_localdnsstub",
            b"intranet",
            b"a",
            b"1a",
            b"0xg",
            b"nas.lan",
            b"nas.home",
        ),
        *(b"localhost4.localdomain4", b"localhost6.localdomain6"),
        *(name.encode() for name in MASKED),
        *(b"nas.home.arpa", b"NAS.Local", b"metadata.google.internal", b"a.invalid", b"a.example.exit"),
    ],
)
def test_names_that_are_addresses_or_the_proxys_own_never_go_out(name: bytes) -> None:
    assert judge(Target(b"", name, 443), TOR) is Refusal.PROHIBITED


@given(st.integers(0, 2**32 - 1), st.sampled_from(["d", "#x", "#o"]), st.integers(0, 3))
def test_no_way_to_write_an_ipv4_address_passes_for_a_name(value: int, form: str, parts: int) -> None:
    """All that inet_aton(3) takes: up to four parts, each decimal, octal or hexadecimal."""
    numbers = [value >> 24 - 8 * index & 0xFF for index in range(parts)]
    numbers.append(value & (1 << 32 - 8 * parts) - 1)
    text = ".".join(format(number, form).replace("0o", "0") for number in numbers)
    assert socket.inet_aton(text) == value.to_bytes(4, "big")
    assert is_disguised_address(text.encode())


def test_onions_go_only_to_those_who_know_them() -> None:
    onion = Target(b"", b"x" * 56 + b".OnIoN.", 80)
    assert judge(onion, Rules(takes_onions=True)) is None
    assert judge(onion, Rules(takes_onions=False)) is Refusal.PROHIBITED
    assert judge(Target(b"", b"onion", 80), Rules(takes_onions=False)) is Refusal.PROHIBITED


def test_what_the_upstream_cannot_take_is_unreachable() -> None:
    assert judged("2606:4700::1111", Rules(takes_ipv6=False)) is Refusal.NET_UNREACHABLE
    assert judge(Target(b"", b"a.example", 80), Rules(takes_names=False)) is Refusal.HOST_UNREACHABLE


@pytest.mark.parametrize(
    "target",
    [
        Target(b"", b"", 80),
        Target(b"\x01\x02\x03", b"", 80),
        Target(packed("8.8.8.8"), b"a.example", 80),
    ],
)
def test_a_target_that_is_none_is_prohibited(target: Target) -> None:
    assert judge(target, TOR) is Refusal.PROHIBITED


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    assert judge(Target(packed("8.8.8.8"), b"", port), TOR) is Refusal.REFUSED


def test_rules_come_before_the_table_and_denied_before_allowed() -> None:
    rules = Rules(
        allowed=(network("10.9.0.0/16"), network("fd12::/16")),
        denied=(network("10.9.9.0/24"), network("8.8.8.8"), network("2606:4700::/32")),
    )
    assert judged("10.9.1.1", rules) is None
    assert judged("fd12::1", rules) is None
    assert judged("64:ff9b::10.9.1.1", rules) is None
    assert judged("10.9.9.1", rules) is Refusal.PROHIBITED
    assert judged("8.8.8.8", rules) is Refusal.PROHIBITED
    assert judged("64:ff9b::8.8.8.8", rules) is Refusal.PROHIBITED
    assert judged("2606:4700::1111", rules) is Refusal.PROHIBITED
    assert judged("10.8.1.1", rules) is Refusal.PROHIBITED


def test_this_machines_own_addresses_are_silent_whatever_is_allowed() -> None:
    """Silent, for any answer would tell a guest that tries them all which address the machine has."""
    own = (network("192.175.48.5"), network("2606:4700::5"), network("10.1.2.3"))
    rules = Rules(own=own, allowed=(network("192.175.48.0/24"), network("10.0.0.0/8")))
    for address in ("192.175.48.5", "2606:4700::5", "64:ff9b::192.175.48.5", "2002:c0af:3005::1", "10.1.2.3"):
        assert judged(address, rules) is Refusal.TIMED_OUT
    assert judged("192.175.48.4", rules) is None


@pytest.mark.parametrize(
    ("own", "neighbour", "takes_ipv6"),
    [
        ("192.168.1.37", "192.168.1.38", True),
        ("64:ff9b::192.168.1.37", "64:ff9b::192.168.1.38", True),
        ("2002:c0a8:125::1", "2002:c0a8:126::1", True),
        ("100.101.102.103", "100.101.102.104", True),
        ("127.0.0.1", "127.0.0.2", True),
        ("fe80::5054:ff:fe12:3456", "fe80::5054:ff:fe12:3457", True),
        ("fd00::5", "fd00::6", True),
        ("2606:4700::5", "2606:4700::6", False),
        ("192.52.193.7", "192.52.193.8", True),
    ],
)
def test_where_nothing_goes_out_an_own_address_is_refused_as_its_neighbours_are(
    own: str, neighbour: str, takes_ipv6: bool
) -> None:
    """Or a guest that tries all of 192.168.0.0/16 would know which address is this machine's."""
    texts = ("192.168.1.37", "100.101.102.103", "127.0.0.1", "fe80::5054:ff:fe12:3456", "fd00::5")
    rules = Rules(
        own=tuple(map(network, (*texts, "2606:4700::5", "192.52.193.7"))),
        denied=(network("192.52.193.0/24"),),
        takes_ipv6=takes_ipv6,
    )
    assert judged(own, rules) is judged(neighbour, rules) is not None


def test_this_machines_own_names_never_go_out() -> None:
    rules = Rules(own_names=frozenset((b"box.example.com",)))
    assert judge(Target(b"", b"Box.Example.com.", 80), rules) is Refusal.PROHIBITED
    assert judge(Target(b"", b"www.example.com", 80), rules) is None


def test_the_pools_addresses_are_special_so_that_only_their_names_go_out() -> None:
    pool = NamePool()
    for family in (4, 6):
        address = pool.address_for(b"a.example", family)
        assert judge(Target(address, b"", 80), TOR) is Refusal.PROHIBITED


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10.0.0.0/33",
        "10.0.0.1/8",
        "fd00::/129",
        "10.0.0.0/",
        "10.0.0.0/-1",
        "10.0.0.0/x",
        "a.example",
        "10.0/8",
    ],
)
def test_what_is_no_network_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="is not a network"):
        network(text)


def test_networks_of_both_families_and_single_addresses() -> None:
    assert network("10.0.0.0/8") == (4, 0xFF000000, 0x0A000000)
    assert network("0.0.0.0/0") == (4, 0, 0)
    assert network("10.1.2.3") == (4, 0xFFFFFFFF, 0x0A010203)
    assert network("fd00::/8") == (16, 0xFF << 120, 0xFD << 120)
