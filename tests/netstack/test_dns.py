# SPDX-License-Identifier: GPL-3.0-or-later
"""The name service: what a guest asks, and what it hears in each mode. Special names: test_dns_names.py."""

from __future__ import annotations

import ipaddress
import subprocess
import sys

import dns.flags
import dns.message
import dns.rdataclass
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.netstack.name_service import FORMERR, NXDOMAIN, REFUSED, SERVFAIL, Bench
from torbox.netstack.dns import NameService
from torbox.netstack.lookups import Done
from torbox.netstack.name_pool import NamePool

# What the message itself decides


def test_a_query_of_another_class_is_refused(every_mode: Bench) -> None:
    query = dns.message.make_query("version.bind", "TXT", dns.rdataclass.CH)
    assert dns.message.from_wire(every_mode.send(query.to_wire())[0]).rcode() == REFUSED


def test_garbage_is_a_format_error_and_answers_are_not_answered(every_mode: Bench) -> None:
    query = dns.message.make_query("example.com", "A", id=99).to_wire()
    (reply,) = every_mode.send(query[:20])
    assert dns.message.from_wire(reply).rcode() == FORMERR
    assert dns.message.from_wire(reply).id == 99
    assert every_mode.send(b"") == []
    assert every_mode.send(bytes((query[0], query[1], query[2] | 0x80)) + query[3:]) == []


def test_edns_is_answered_by_edns_and_its_absence_by_absence(every_mode: Bench) -> None:
    for edns in (False, 0):
        query = dns.message.make_query("printer", "A", use_edns=edns)
        answer = dns.message.from_wire(every_mode.send(query.to_wire())[0])
        assert answer.edns == (-1 if edns is False else 0)
        assert answer.answer


def test_an_answer_too_long_for_udp_is_cut_and_whole_by_tcp(every_mode: Bench) -> None:
    query = dns.message.make_query("many", "A").to_wire()
    (reply,) = every_mode.send(query)
    assert len(reply) <= 512
    assert dns.message.from_wire(reply).flags & dns.flags.TC
    answer = dns.message.from_wire(every_mode.send(query, tcp=True)[0])
    assert len(answer.answer[0]) == 100


# Types that are not addresses


def test_whether_an_answer_will_come_is_said(every_mode: Bench) -> None:
    query = dns.message.make_query("example.com", "A").to_wire()
    for message, answered in (
        (query, True),
        (query[:20], True),
        (b"", False),
        (query[:2] + b"\x80" * 20, False),
    ):
        replies: list[bytes] = []
        assert every_mode.service.answer(message, 0.0, replies.append) is answered
        assert len(replies) == answered


def test_the_root_has_no_addresses(serving: Bench) -> None:
    assert serving.addresses(".") == []


def test_other_types_have_no_records_at_once(serving: Bench) -> None:
    for rdtype in ("HTTPS", "SVCB", "MX", "TXT", "SRV", "ANY", "PTR", "TYPE65400"):
        assert serving.addresses("example.com", rdtype) == []
    assert serving.upstream.asked == []
    assert len(serving.pool) == 0


def test_aaaa_has_no_records_where_the_upstream_takes_no_ipv6() -> None:
    for mode in ("names", "tor"):
        bench = Bench(mode, takes_ipv6=False)
        assert bench.addresses("example.com", "AAAA") == []
        assert bench.addresses("something.onion", "AAAA") == []
        assert bench.upstream.asked == []


# Mode names


def test_names_get_addresses_that_mean_them_and_nothing_leaves() -> None:
    bench = Bench("names")
    answer = bench.ask("WwW.eXaMpLe.com")
    assert answer.question[0].name.to_text() == "WwW.eXaMpLe.com."
    assert answer.answer[0].ttl == 60
    address = answer.answer[0][0].address
    assert bench.pool.name_of(ipaddress.ip_address(address).packed) == b"www.example.com"
    (address6,) = bench.addresses("www.example.com", "AAAA")
    assert bench.pool.name_of(ipaddress.ip_address(address6).packed) == b"www.example.com"
    assert bench.addresses("www.example.com") == [address]
    assert bench.upstream.asked == []


def test_addresses_of_the_pool_have_reverse_names_and_others_none(serving: Bench) -> None:
    for rdtype in ("A", "AAAA"):
        (address,) = serving.addresses("something.onion", rdtype)
        assert serving.reverse(address).answer[0][0].to_text() == "something.onion."
    for unused in (
        "198.18.99.1",
        "fd00:746f:7262:6f78::c612:6301",
        "10.1.2.3",
        "192.168.1.1",
        "fe80::1",
        "64:ff9b::1",
    ):
        assert serving.reverse(unused).rcode() == NXDOMAIN
    assert serving.upstream.asked == []


def test_reverse_names_of_the_world_have_none_in_mode_names() -> None:
    bench = Bench("names")
    assert bench.reverse("93.184.216.34").rcode() == NXDOMAIN
    assert bench.reverse("2606:2800::1").rcode() == NXDOMAIN
    assert bench.upstream.asked == []


@pytest.mark.parametrize(
    "name",
    ["1.2.3.in-addr.arpa", "1.2.3.4.5.in-addr.arpa", "256.1.1.1.in-addr.arpa", "x.1.1.1.in-addr.arpa",
     "in-addr.arpa", "b._dns-sd._udp.0.2.0.10.in-addr.arpa", "\\178.1.1.1.in-addr.arpa",
     "1.ip6.arpa", "g." * 32 + "ip6.arpa", "\\032." * 32 + "ip6.arpa", "\\032." * 2 + "2." * 30 + "ip6.arpa",
     "\\032." * 24 + "8." * 8 + "ip6.arpa"],
)  # fmt: skip
def test_what_is_no_reverse_name_has_none(serving: Bench, name: str) -> None:
    assert serving.ask(name, "PTR").rcode() == NXDOMAIN
    assert serving.upstream.asked == []


# Mode tor


def test_mode_tor_resolves_once_and_remembers() -> None:
    bench = Bench("tor")
    bench.upstream.answers = {
        "A": (bytes((93, 184, 216, 34)), bytes(16)),  # an address of the other family is not an answer
        "AAAA": (ipaddress.ip_address("2606:2800::1").packed,),
    }
    assert bench.addresses("Example.COM") == bench.addresses("example.com") == ["93.184.216.34"]
    assert bench.addresses("example.com", "AAAA") == ["2606:2800::1"]
    assert bench.upstream.asked == [(b"example.com", "A"), (b"example.com", "AAAA")]
    assert bench.ask("example.com", now=100.5).answer[0].ttl == 200
    assert len(bench.pool) == 0


def test_mode_tor_says_what_does_not_exist_and_what_nobody_could_say() -> None:
    bench = Bench("tor")
    assert bench.ask("nothing.example").rcode() == NXDOMAIN
    assert bench.addresses("nothing.example", "AAAA") == []
    bench.upstream.failed = True
    answer = bench.ask("other.example")
    assert answer.rcode() == SERVFAIL
    assert not answer.authority


def test_mode_tor_resolves_reverse_names_of_public_addresses() -> None:
    bench = Bench("tor")
    bench.upstream.answers = {
        "PTR": (b"one.example", b"two.example.", b"", b"a..b", b"x" * 64, b"y." * 126 + b"y", b"z." * 127)
    }
    answer = bench.reverse("93.184.216.34")
    assert [rdata.to_text() for rdata in answer.answer[0]] == ["one.example.", "two.example.", "y." * 127]
    bench.reverse("2606:2800::1")
    assert bench.upstream.asked == [
        (bytes((93, 184, 216, 34)), "PTR"),
        (ipaddress.ip_address("2606:2800::1").packed, "PTR"),
    ]


def test_a_reverse_name_that_only_this_machine_knows_is_not_told() -> None:
    bench = Bench("tor", nowhere=(b"box.example.com", b"box"))
    local = (b"box", b"Box.example.com.", b"box.lan", b"localhost.localdomain", b"a.localhost")
    bench.upstream.answers = {"PTR": (*local, b"public.example.com")}
    answer = bench.reverse("93.184.216.34")
    assert [rdata.to_text() for rdata in answer.answer[0]] == ["public.example.com."]
    bench.upstream.answers = {"PTR": local}
    assert bench.reverse("93.184.216.35").rcode() == NXDOMAIN


def test_mode_tor_answers_later_and_each_asker_with_its_own_question() -> None:
    waiting: list[Done] = []
    service = NameService(
        mode="tor", pool=NamePool(), hosts={}, takes_onions=True, takes_ipv6=True,
        resolve=lambda name, kind, done: waiting.append(done),
    )  # fmt: skip
    replies: list[bytes] = []
    for identifier, name in ((1, "example.com"), (2, "EXAMPLE.com")):
        service.answer(dns.message.make_query(name, "A", id=identifier).to_wire(), 0.0, replies.append)
    assert replies == []
    assert len(waiting) == 1
    waiting[0]((bytes((93, 184, 216, 34)),), 60, False)
    answers = [dns.message.from_wire(reply) for reply in replies]
    assert [(answer.id, answer.question[0].name.to_text()) for answer in answers] == [
        (1, "example.com."),
        (2, "EXAMPLE.com."),
    ]


# Mode off


def test_mode_off_refuses_what_is_not_local() -> None:
    bench = Bench("off")
    for name, rdtype in (
        ("example.com", "A"),
        ("x.onion", "A"),
        ("example.com", "MX"),
        ("1.1.1.1.in-addr.arpa", "PTR"),
    ):
        assert bench.ask(name, rdtype).rcode() == REFUSED
    assert bench.upstream.asked == []
    assert len(bench.pool) == 0


# How it is made


def test_modes_are_three_and_tor_needs_a_resolver() -> None:
    with pytest.raises(ValueError, match="no such mode"):
        NameService(
            mode="public", pool=NamePool(), hosts={}, takes_onions=True, takes_ipv6=True, resolve=None
        )
    with pytest.raises(ValueError, match="resolves"):
        NameService(mode="tor", pool=NamePool(), hosts={}, takes_onions=True, takes_ipv6=True, resolve=None)


def test_the_message_library_is_imported_by_the_warm_up_and_not_before() -> None:
    program = (
        "import sys; from torbox.netstack.dns import NameService\n"
        "from torbox.netstack.name_pool import NamePool\n"
        "s = NameService(mode='names', pool=NamePool(), hosts={}, takes_onions=True, takes_ipv6=True)\n"
        "assert 'dns' not in sys.modules; s.warm_up(); before = set(sys.modules)\n"
        "s.answer(bytes.fromhex('000101000001000000000000') + b'\\1a\\0\\0\\1\\0\\1', 0.0, print)\n"
        "assert 'dns.name' in before and before == set(sys.modules), set(sys.modules) - before\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


LABEL = st.binary(min_size=1, max_size=20)


@given(
    st.lists(LABEL, max_size=6),
    st.integers(0, 65535),
    st.sampled_from(["names", "tor", "off"]),
    st.booleans(),
)
def test_every_name_of_any_bytes_and_every_type_get_one_good_answer(
    labels: list[bytes], rdtype: int, mode: str, takes_onions: bool
) -> None:
    bench = Bench(mode, takes_onions=takes_onions)
    name = b"".join(len(label).to_bytes(1, "big") + label for label in labels) + b"\0"
    query = bytes.fromhex("abcd01000001000000000000") + name + rdtype.to_bytes(2, "big") + b"\0\1"
    (reply,) = bench.send(query)
    assert len(reply) <= 512
    answer = dns.message.from_wire(reply)
    assert answer.id == 0xABCD
    assert answer.question[0].name.labels[:-1] == tuple(labels)
    for asked, _ in bench.upstream.asked:
        assert b"\0" not in asked


@given(st.binary(max_size=300), st.sampled_from(["names", "tor", "off"]), st.booleans())
def test_no_bytes_make_the_service_raise(message: bytes, mode: str, tcp: bool) -> None:
    bench = Bench(mode)
    assert len(bench.send(message, tcp=tcp)) <= 1
    assert len(bench.send(bytes.fromhex("abcd01000001000000000000") + message, tcp=tcp)) == 1
