# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that mean no site of the world: which are answered here, and which do not exist."""

from __future__ import annotations

import ipaddress

import dns.rdatatype
import pytest

from tests.netstack.name_service import NXDOMAIN, Bench


def test_hosts_come_first_in_every_mode_and_in_any_case(every_mode: Bench) -> None:
    assert every_mode.addresses("PRINTER") == ["192.0.2.7"]
    assert every_mode.addresses("gateway.torbox", "AAAA") == ["fd00::2"]
    assert every_mode.addresses("printer", "AAAA") == []
    assert every_mode.addresses("printer", "MX") == []
    assert every_mode.upstream.asked == []
    assert len(every_mode.pool) == 0


def test_hosts_have_reverse_names(every_mode: Bench) -> None:
    for address, name in {
        "10.0.2.2": "gateway.torbox.",
        "fd00::2": "gateway.torbox.",
        "192.0.2.7": "printer.",
    }.items():
        assert every_mode.reverse(address).answer[0][0].to_text() == name


def test_localhost_is_the_guest_itself(every_mode: Bench) -> None:
    assert every_mode.addresses("localhost") == every_mode.addresses("a.b.LocalHost") == ["127.0.0.1"]
    assert every_mode.addresses("localhost", "AAAA") == ["::1"]
    for address in ("127.0.0.1", "127.1.2.3", "::1"):
        assert every_mode.reverse(address).answer[0][0].to_text() == "localhost."
    assert every_mode.upstream.asked == []


@pytest.mark.parametrize(
    "name",
    [
        "printer.local",
        "host.invalid",
        "relay.EXIT",
        "metadata.google.internal",
        "router.home.arpa",
        "ipv4only.arpa",
        "_dns.resolver.arpa",
        "localhost.localdomain",
        "name.alt",
        "use-application-dns.net",
        "Use-Application-DNS.net",
    ],
)
@pytest.mark.parametrize("rdtype", ["A", "AAAA", "HTTPS", "PTR"])
def test_special_names_do_not_exist_and_never_leave(every_mode: Bench, name: str, rdtype: str) -> None:
    answer = every_mode.ask(name, rdtype)
    assert answer.rcode() == NXDOMAIN
    assert answer.authority[0].rdtype == dns.rdatatype.SOA
    assert every_mode.upstream.asked == []
    assert len(every_mode.pool) == 0


@pytest.mark.parametrize(
    "name",
    [
        "192.168.1.1", "127.1", "0x7f.1", "2130706433", "0x7f000001", "0X7F000001", "a.0x", "017700000001",
        "example.1", "\\058\\0581", "fe80\\058\\0581", "[\\058\\0581]", "\\058\\058ffff\\058127.0.0.1.x",
    ],
)  # fmt: skip
def test_addresses_in_disguise_do_not_exist(serving: Bench, name: str) -> None:
    assert serving.ask(name).rcode() == NXDOMAIN
    assert serving.ask(name, "AAAA").rcode() == NXDOMAIN
    assert serving.upstream.asked == []
    assert len(serving.pool) == 0


@pytest.mark.parametrize(
    "name",
    ["a\\.b.com", "a\\000b.com", "a\\010b.com", "a\\013\\010b.com", "a b.com", "a\\127.com", "user@host.com",
     "a/b", "%61.com"],
)  # fmt: skip
def test_names_that_could_be_taken_for_something_else_do_not_exist(serving: Bench, name: str) -> None:
    assert serving.ask(name).rcode() == NXDOMAIN
    assert serving.upstream.asked == []
    assert len(serving.pool) == 0


@pytest.mark.parametrize(
    "name",
    ["１２７.0.0.１", "127。0。0。1", "127.0.0.1\u200b", "ⓛocalhost", "a.ＬＯＣＡＬＨＯＳＴ", "nas。lan",
     "bücher.ｌocal", "something.ｏnion", "box．example.com", "use－application-dns.net"],
)  # fmt: skip
def test_names_that_must_not_leave_once_they_are_made_ascii_do_not_exist(name: str) -> None:
    labels = b"".join(bytes((len(label),)) + label for label in name.encode().split(b"."))
    for mode in ("names", "tor"):
        bench = Bench(mode, nowhere=(b"box.example.com",))
        (reply,) = bench.send(b"\0\7\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1")
        assert reply[3] & 15 == NXDOMAIN
        assert bench.upstream.asked == []
        assert len(bench.pool) == 0


@pytest.mark.parametrize(
    "name",
    [
        "b\\195\\188cher.example",
        "\\239\\189\\129.example",
        "under_score.example",
        "xn--bcher-kva.example",
        "b\\252cher.example",
        "1.example",
        "a.0xg",
        "site.test",
    ],
)
def test_unusual_names_are_served(serving: Bench, name: str) -> None:
    serving.upstream.answers = {"A": (bytes((93, 184, 216, 34)),)}
    assert len(serving.addresses(name)) == 1


def test_the_longest_name_is_served_whole(serving: Bench) -> None:
    serving.upstream.answers = {"A": (bytes((93, 184, 216, 34)),)}
    name = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
    (address,) = serving.addresses(name)
    if serving.service.mode == "names":
        assert serving.pool.name_of(ipaddress.ip_address(address).packed) == name.encode()
    else:
        assert serving.upstream.asked == [(name.encode(), "A")]


@pytest.mark.parametrize("name", ["intranet", "_gateway", "_outbound", "_localdnsstub", "box.", "0xg", "com"])
def test_a_name_of_one_label_does_not_exist_and_never_leaves(every_mode: Bench, name: str) -> None:
    assert every_mode.ask(name).rcode() == NXDOMAIN
    assert every_mode.upstream.asked == []
    assert len(every_mode.pool) == 0


def test_names_that_are_to_be_nowhere_do_not_exist_but_what_is_beside_them_does() -> None:
    for mode in ("names", "tor"):
        bench = Bench(mode, nowhere=(b"box.example.com",))
        assert bench.ask("BOX.example.com").rcode() == NXDOMAIN
        assert bench.upstream.asked == []
        assert bench.ask("box2.example.com").rcode() == bench.ask("a.box.example.com").rcode()
        assert (len(bench.pool), len(bench.upstream.asked)) == ((2, 0) if mode == "names" else (0, 2))


def test_onions_do_not_exist_where_the_upstream_takes_none() -> None:
    for mode in ("names", "tor"):
        bench = Bench(mode, takes_onions=False)
        assert bench.ask("something.onion").rcode() == NXDOMAIN
        assert bench.ask("something.ONION", "HTTPS").rcode() == NXDOMAIN
        assert bench.upstream.asked == []


def test_onions_get_an_address_of_the_pool_in_either_mode(serving: Bench) -> None:
    (address,) = serving.addresses("www.Something.onion")
    assert serving.pool.name_of(ipaddress.ip_address(address).packed) == b"www.something.onion"
    assert serving.upstream.asked == []
